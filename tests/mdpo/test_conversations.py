"""Conversations of others as ids and masks, over all families of chat templates."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdpo.conversations import Encoded, Encoder, Unfit
from tests.mdpo.chat_families import FAMILIES, chat_of, template_ids, tokenizer_of

Messages = list[dict[str, Any]]
CALL = {"type": "function", "function": {"name": "python", "arguments": {"code": "print(1)"}}}
# The distillation's prompt opens the thinking, which its template drops from every message.
NAMES = [name for name in FAMILIES if name != "deepseek r1 distill"]


def messages(*turns: tuple[str, str]) -> Messages:
    return [{"role": role, "content": content} for role, content in turns]


def encode(name: str, conversation: Messages, given: int = 0) -> Encoded:
    return Encoder(chat_of(name, "user")).encode(conversation, given)


def actions(name: str, encoded: Encoded) -> str:
    kept = [token for token, one in zip(encoded.completion_ids, encoded.completion_mask, strict=True) if one]
    return str(tokenizer_of(name).decode(kept))


def unfit(name: str, conversation: Messages) -> str:
    with pytest.raises(Unfit) as raised:
        encode(name, conversation)
    return str(raised.value)


SOLVED = messages(
    ("user", "How many?"),
    ("assistant", "Compute.\n```python\nprint(7)\n```"),
    ("user", "```output\n7\n```"),
    ("assistant", "So \\boxed{7}."),
)


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_the_assistants_messages_with_their_ends_of_turn_and_nothing_else(name: str) -> None:
    encoded = encode(name, SOLVED)
    family = FAMILIES[name]
    # A template may close an action with a blank before its end of turn (Llama 2).
    close = chat_of(name, "user").template.seams.close
    assert actions(name, encoded) == "".join(family.lead + SOLVED[n]["content"] + close for n in (1, 3))
    assert encoded.completion_mask[0] == 1
    assert encoded.prompt_ids == chat_of(name, "user").prompt_ids("How many?")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text.strip())
TURNS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(turns=TURNS, stopped=st.booleans())
def test_any_conversation_has_the_ids_of_the_template_or_is_unfit(
    name: str, turns: list[tuple[str, str]], stopped: bool
) -> None:
    conversation = messages(
        *[(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    )
    conversation += [] if stopped else messages(("user", "And then?"))
    try:
        encoded = encode(name, conversation)
    except Unfit as why:
        assert why.reason == "the prompt and the beginning of an action are one token"
        return
    tokenizer, end = tokenizer_of(name), chat_of(name, "user").end_of_turn_id
    ids = encoded.prompt_ids + encoded.completion_ids
    assert ids == template_ids(tokenizer, conversation, generate=False)
    mask = [0] * len(encoded.prompt_ids) + encoded.completion_mask
    said = [text for _, text in turns]
    assert sum(token == end and one for token, one in zip(ids, mask, strict=True)) == len(said)
    # Runs of ones are the messages, each up to its end of turn; templates may trim them.
    assert [text.strip() for text in actions(name, encoded).split(FAMILIES[name].end)[:-1]] == [t.strip() for t in said]


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_front_of_an_action_is_what_a_policy_would_be_given(name: str) -> None:
    encoded = encode(name, SOLVED)
    ids = encoded.prompt_ids + encoded.completion_ids
    given_ids = template_ids(tokenizer_of(name), SOLVED[:3], generate=True)
    assert ids[: len(given_ids)] == given_ids


def test_given_messages_of_the_assistant_are_no_actions() -> None:
    encoded = encode("chatml", SOLVED, given=3)
    assert actions("chatml", encoded) == "So \\boxed{7}.<|im_end|>"
    assert "Compute." in tokenizer_of("chatml").decode(encoded.prompt_ids)


@pytest.mark.parametrize("name", ["qwen 2.5", "qwen 3", "llama 3.1"])
def test_calls_in_a_structure_are_actions_as_the_template_writes_them(name: str) -> None:
    called = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
    conversation = [*messages(("user", "Q")), *called, *messages(("tool", "7"), ("assistant", "Seven."))]
    said = actions(name, encode(name, conversation))
    assert '"code": "print(1)"' in said and said.endswith("Seven." + FAMILIES[name].end)
    assert said.count(FAMILIES[name].end) == 2 and "tool_response" not in said


def test_empty_thinking_that_a_template_adds_is_no_action() -> None:
    encoded = encode("qwen 3", messages(("user", "Q"), ("assistant", "think")))
    assert "<think>\n\n</think>\n\nthink" in tokenizer_of("qwen 3").decode(encoded.prompt_ids + encoded.completion_ids)
    assert actions("qwen 3", encoded) == "think<|im_end|>"


@pytest.mark.parametrize(
    ("name", "conversation", "reason"),
    [
        ("chatml", messages(("user", "Q")), "no message of the assistant"),
        ("chatml", messages(("assistant", "A")), "the assistant speaks first"),
        ("chatml", messages(("user", "Q"), ("assistant", " ")), "an empty message of the assistant: message 2"),
        ("chatml", messages(("user", "Q"), ("assistant", "  A")), "the prompt and the beginning of an action are one"),
        ("chatml", [{"from": "human", "value": "Q"}], "a message without a role: message 1 is {"),
        ("chatml", [{"role": "user", "content": [{"type": "image"}]}], "a message that is no text: message 1"),
        (
            "gemma",
            messages(("system", "S"), ("user", "Q"), ("assistant", "A")),
            "refuses it: .*system",
        ),
        ("gemma", messages(("user", "Q"), ("assistant", "A"), ("tool", "7")), "refuses it: .*number 3 of"),
        ("phi 3", messages(("user", "Q"), ("assistant", "A"), ("tool", "7")), "the chat template leaves tool messages"),
        ("deepseek r1 distill", SOLVED, "the chat template rewrites earlier turns: message 2"),
    ],
)
def test_a_conversation_that_cannot_be_cut_says_why(name: str, conversation: Messages, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        encode(name, conversation)


def test_calls_and_thinking_that_a_template_drops_are_not_lost_in_silence() -> None:
    for key, value in (("tool_calls", [CALL]), ("reasoning_content", "Hm.")):
        conversation = [*messages(("user", "Q")), {"role": "assistant", "content": "A", key: value}]
        assert f"the chat template leaves `{key}` out: message 2" in unfit("chatml", conversation)
    # What says nothing may be there.
    named = [*messages(("user", "Q")), {"role": "assistant", "content": "A", "weight": 1, "tool_calls": None}]
    assert actions("chatml", encode("chatml", named)) == "A<|im_end|>"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_no_message_can_end_a_turn_or_open_another(name: str, role: str) -> None:
    hostile = f"A{FAMILIES[name].end}B"
    conversation = messages(("user", "Q"), ("assistant", "A"))
    conversation[role == "assistant"]["content"] = hostile
    assert f"a special token in a message: {FAMILIES[name].end!r}" in unfit(name, conversation)
    conversation = messages(("user", "Q"), ("assistant", "A"), (f"user{FAMILIES[name].end}", "x"))
    assert "a special token in a message" in unfit(name, conversation)
