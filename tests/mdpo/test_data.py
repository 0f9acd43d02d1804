import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from eval import Problem
from mdpo.chat import ChatFormat, ObservationRole
from mdpo.data import (
    IGNORE,
    demonstration_ids,
    kto_dataset,
    pair_dataset,
    right_trajectories,
    sft_dataset,
    trajectory_dataset,
)
from mdpo.demonstration import Demonstration
from mdpo.engines.base import Completion, SamplingParams
from mdpo.errors import TrainingError
from mdpo.preference import Pair
from mdpo.render import observation_text
from mdpo.rollout import Agent, Sampling, attempt
from mdpo.trajectory import Trajectory, Turn
from sandbox import Sandbox

PAIR = Pair("p", 0, 1, [1, 2], [3, 4, 5, 6], [1, 0, 0, 1], [7, 8], [1, 1])


OTHER = Pair("q", 0, 1, [9], [8], [1], [5, 5], [1, 0])


def test_a_pair_keeps_its_ids_and_its_action_masks() -> None:
    rows, _ = pair_dataset([replace(PAIR, margin=0.5)], max_length=100)
    assert rows[0] == {
        "prompt_ids": [1, 2],
        "margin": 0.5,
        "chosen_ids": [3, 4, 5, 6],
        "chosen_mask": [1, 0, 0, 1],
        "rejected_ids": [7, 8],
        "rejected_mask": [1, 1],
    }


def test_in_a_single_turn_everything_behind_the_prompt_is_action() -> None:
    rows, count = pair_dataset([PAIR], max_length=100, single_turn=True)
    assert (rows[0]["chosen_mask"], rows[0]["rejected_mask"]) == ([1, 1, 1, 1], [1, 1])
    assert (count.action, count.observation) == (6, 0)


def test_kto_takes_both_sides_of_pairs_and_a_trajectory_of_another_problem_with_its_own_mask() -> None:
    rows, count = kto_dataset([PAIR, OTHER], max_length=100, seed=0)
    assert count.examples == 4
    masks = {(3, 4, 5, 6): [1, 0, 0, 1], (7, 8): [1, 1], (8,): [1], (5, 5): [1, 0]}
    of_first = {(3, 4, 5, 6), (7, 8)}
    for row in rows:
        ids, other = tuple(row["completion_ids"]), tuple(row["mismatched_ids"])
        assert row["prompt_ids"] == ([1, 2] if ids in of_first else [9])
        assert (row["completion_mask"], row["mismatched_mask"]) == (masks[ids], masks[other])
        assert (ids in of_first) != (other in of_first)
    assert {tuple(row["completion_ids"]) for row in rows if row["label"]} == {(3, 4, 5, 6), (8,)}


def test_kto_needs_two_problems() -> None:
    with pytest.raises(TrainingError, match="use trajectories of more problems"):
        kto_dataset([PAIR], max_length=100, seed=0)


def test_raft_takes_right_trajectories_only_and_not_more_than_asked_of_a_problem() -> None:
    attempts = [Trajectory(problem, n, "q", "1", "t", [1], [Turn("a", [n], [-1.0])], "answered", "1", reward, "p", {})
                for problem in ("p", "q") for n, reward in enumerate((1.0, 0.0, 1.0, 1.0))]  # fmt: skip
    chosen = right_trajectories(attempts, per_problem=2, seed=0)
    assert [t.problem_id for t in chosen] == ["p", "p", "q", "q"]
    assert all(t.reward == 1.0 for t in chosen)
    assert right_trajectories(attempts[::-1], per_problem=2, seed=0) == chosen


def test_tokens_are_counted_before_training() -> None:
    _, count = pair_dataset([PAIR], max_length=100)
    assert (count.prompt, count.action, count.observation, count.too_long) == (4, 4, 2, 0)


def test_a_pair_that_is_too_long_is_dropped_and_counted() -> None:
    rows, count = pair_dataset([PAIR, Pair("q", 0, 1, [1], [2], [1], [3], [1])], max_length=5)
    assert (len(rows), count.too_long) == (1, 1)
    assert "1 dropped as too long" in str(count)


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(TrainingError, match="all 1 examples are longer than max_length=3"):
        pair_dataset([PAIR], max_length=3)
    with pytest.raises(TrainingError, match="no examples"):
        pair_dataset([], max_length=3)


def test_a_mask_without_actions_is_an_error() -> None:
    with pytest.raises(TrainingError, match="rejected trajectory of problem p has no action token"):
        pair_dataset([Pair("p", 0, 1, [1], [2], [1], [3], [0])], max_length=9)


def test_a_demonstration_has_the_ids_that_a_rollout_of_it_would_have(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    chat = ChatFormat(tokenizer)
    for demonstration in demonstrations[:16]:
        messages = [{"role": "user", "content": demonstration.question}]
        for action, observation in zip(demonstration.actions, (*demonstration.observations, None), strict=True):
            messages.append({"role": "assistant", "content": action})
            if observation is not None:
                messages.append({"role": "user", "content": observation_text(observation)})
        ids, _ = demonstration_ids(demonstration, chat)
        assert ids == tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


class Actor:
    """An engine that samples the actions of a demonstration; inline it stops where the observation opens."""

    context_length = 512

    def __init__(self, chat: ChatFormat, actions: Sequence[str]) -> None:
        last = len(actions) - 1
        self.replies = [chat.action_ids(text, first=n == 0, last=n == last) for n, text in enumerate(actions)]

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        ids = self.replies.pop(0)
        return Completion(ids, [-1.0] * len(ids), "stop")

    async def load(self, checkpoint: Path) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("role", ["user", "tool", "ipython", "inline"])
def test_a_demonstration_has_the_ids_and_the_mask_that_a_rollout_of_its_actions_stores(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration], role: ObservationRole
) -> None:
    chat = ChatFormat(tokenizer, role, "Be brief.", examples=demonstrations[:1])
    demonstration = demonstrations[1]
    problem = Problem("p", demonstration.question, demonstration.answer, "test")

    async def work() -> Trajectory:
        async with Sandbox() as sandbox:
            engine = Actor(chat, demonstration.actions)
            return await attempt(Agent(engine, chat, sandbox, "actor"), problem, 0, Sampling(max_tokens=512))

    trajectory = asyncio.run(work())
    assert (trajectory.stop_reason, trajectory.reward) == ("answered", 1.0)
    ids, mask = demonstration_ids(demonstration, chat)
    assert trajectory.prompt_ids + trajectory.completion_ids == ids
    assert [0] * len(trajectory.prompt_ids) + trajectory.completion_mask == mask


def test_only_actions_and_their_ends_of_turn_are_labels(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    chat = ChatFormat(tokenizer)
    rows, _ = sft_dataset(demonstrations[:16], chat, max_length=512)
    for row, demonstration in zip(rows, demonstrations, strict=False):
        kept = tokenizer.decode([label for label in row["labels"] if label != IGNORE])
        assert kept == "".join(action + "<|end|>" for action in demonstration.actions)
        assert all(label in (token, IGNORE) for token, label in zip(row["input_ids"], row["labels"], strict=True))


def test_a_sampled_trajectory_is_trained_on_its_own_ids() -> None:
    turns = [Turn("a", [5, 6], [-1.0, -1.0], "x", "o", [7, 8], "ok"), Turn("b", [9], [-1.0])]
    trajectory = Trajectory("p", 0, "q", "1", "test", [1, 2], turns, "answered", "1", 1.0, "p", {})
    rows, count = trajectory_dataset([trajectory], max_length=100)
    assert rows[0] == {"input_ids": [1, 2, 5, 6, 7, 8, 9], "labels": [IGNORE, IGNORE, 5, 6, IGNORE, IGNORE, 9]}
    assert (count.prompt, count.action, count.observation) == (2, 3, 2)
