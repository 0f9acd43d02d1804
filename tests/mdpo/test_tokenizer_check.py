"""Ids of another tokenizer are refused before anything is trained on them."""

from collections.abc import Callable

import pytest

from mdpo.chat import ChatFormat, ObservationRole
from mdpo.demonstration import Demonstration
from mdpo.errors import DataError
from mdpo.preference import Pair
from mdpo.quickstart.policy import train_tokenizer
from mdpo.render import call_action, observation_text
from mdpo.tokenizer_check import TokenizerCheck
from mdpo.trajectory import Trajectory, Turn
from tests.mdpo.chat_families import USABLE, chat_of

Make = Callable[[ChatFormat], Trajectory]


def trajectory(chat: ChatFormat, question: str = "How many apples are 17 and 25?") -> Trajectory:
    call = chat.action_ids(call_action("Add.", "print(17 + 25)"), last=False)
    observation = observation_text("42")
    answer = chat.action_ids("So \\boxed{42}.", first=False)
    turns = [
        Turn(
            chat.action_text(call), call, [0.0] * len(call), "…", observation, chat.observation_ids(observation, call)
        ),
        Turn(chat.action_text(answer), answer, [0.0] * len(answer)),
    ]
    prompt = chat.prompt_ids(question)
    return Trajectory("apples/1", 3, question, "42", "test", prompt, turns, "answered", "42", 1.0, "old/policy", {})


def pair(made: Trajectory) -> Pair:
    ids, mask = made.completion_ids, made.completion_mask
    return Pair(made.problem_id, 0, 1, made.prompt_ids, ids, mask, ids, mask)


def check(chat: ChatFormat) -> TokenizerCheck:
    return TokenizerCheck(chat, "new/policy", 4096, "t.jsonl")


@pytest.fixture(scope="module")
def other(demonstrations: list[Demonstration]) -> ChatFormat:
    """A tokenizer that learned from other texts."""
    return ChatFormat(train_tokenizer(demonstrations[:3]))


@pytest.mark.parametrize(("name", "role"), USABLE)
def test_the_tokenizer_that_made_the_ids_passes(name: str, role: ObservationRole) -> None:
    chat = chat_of(name, role)
    made = trajectory(chat)
    assert list(check(chat).trajectories([made])) == [made]
    check(chat).pairs([pair(made)])


def test_ids_made_with_a_system_prompt_pass_without_it(chat: ChatFormat) -> None:
    made = trajectory(ChatFormat(chat.tokenizer, system="Be brief."))
    assert list(check(chat).trajectories([made])) == [made]


def test_another_tokenizer_is_refused_with_the_file_the_trajectory_and_both_policies(
    chat: ChatFormat, other: ChatFormat
) -> None:
    with pytest.raises(DataError) as refused:
        list(check(other).trajectories([trajectory(chat)]))
    assert str(refused.value).startswith(
        "t.jsonl: sample 3 of problem apples/1, made by old/policy, was made by another tokenizer than that of "
        "new/policy: its prompt decodes to"
    )
    with pytest.raises(DataError, match="the pair of samples 0 and 1 of problem apples/1, was made by another"):
        check(other).pairs([pair(trajectory(chat))])


def test_the_same_vocabulary_that_cuts_texts_elsewhere_is_refused(chat: ChatFormat) -> None:
    made = trajectory(chat)
    number = chat.tokenizer.encode("17", add_special_tokens=False)
    digits = chat.tokenizer.encode("1", add_special_tokens=False) + chat.tokenizer.encode("7", add_special_tokens=False)
    at = made.prompt_ids.index(number[0])
    made.prompt_ids[at : at + 1] = digits
    with pytest.raises(DataError, match="decodes to a text that has other ids"):
        list(check(chat).trajectories([made]))
    with pytest.raises(DataError, match="decodes to a text that has other ids"):
        check(chat).pairs([pair(made)])


def test_an_id_that_the_policy_does_not_have_is_refused_wherever_it_stands(chat: ChatFormat) -> None:
    made = [trajectory(chat) for _ in range(100)]
    made[99].turns[0].observation_ids[0] = 100_000
    with pytest.raises(DataError, match="it holds the id 100000, and this policy has"):
        list(check(chat).trajectories(made))
    with pytest.raises(DataError, match="it holds the id 100000"):
        check(chat).pairs([pair(one) for one in made])


def test_an_action_or_an_observation_that_does_not_fit_its_text_is_refused(chat: ChatFormat) -> None:
    made = trajectory(chat)
    made.turns[1].action_ids[:-1] = chat.action_ids("So \\boxed{43}.")[:-1]
    with pytest.raises(DataError, match="an action decodes to 'So "):
        list(check(chat).trajectories([made]))
