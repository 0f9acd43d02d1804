"""Do the stored ids of a trajectory say what its stored texts say?"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mdpo.trajectory import Trajectory, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Difference:
    """A stored text that the stored ids do not decode to.

    Attributes:
        place: Where it begins: turn, action or observation, line and column of the stored text, counted from 1.
        diff: Lines of a unified diff from the stored text to the decoded ids.
    """

    place: str
    diff: list[str]


def decode(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """The text of a run of ids as it is, special tokens included.

    A whole run at a time: a character may consist of several tokens.
    """
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def differences(trajectory: Trajectory, tokenizer: "PreTrainedTokenizerBase") -> Iterator[Difference]:
    """Each action whose ids do not decode to its text, and each observation that its decoded ids do not contain.

    An observation's ids hold the markup of the chat template around it. A special token that a program printed is
    broken up on its way to the policy, so it shows here: the policy did not see what the program printed.
    """
    for number, turn in enumerate(trajectory.turns, start=1):
        action = _decoded_action(turn, tokenizer)
        if action != turn.action:
            yield _difference(f"turn {number}, action", turn.action, action)
        observation = decode(tokenizer, turn.observation_ids)
        if turn.observation is not None and turn.observation not in observation:
            found = _without_markup(turn.observation, observation)
            yield _difference(f"turn {number}, observation", turn.observation, found)


def _decoded_action(turn: Turn, tokenizer: "PreTrainedTokenizerBase") -> str:
    """The action's ids as text, without the special token that ended it (the text is stored without it)."""
    text = decode(tokenizer, turn.action_ids)
    if text == turn.action or not turn.action_ids or turn.action_ids[-1] not in tokenizer.added_tokens_decoder:
        return text
    return decode(tokenizer, turn.action_ids[:-1])


def _without_markup(stored: str, decoded: str) -> str:
    """The part of the decoded text from the first to the last line of the stored one, as far as it has them."""
    lines = stored.split("\n")
    start = max(decoded.find(lines[0]), 0)
    end = decoded.rfind(lines[-1], start)
    return decoded[start:] if end < 0 else decoded[start : end + len(lines[-1])]


def _difference(what: str, stored: str, decoded: str) -> Difference:
    pairs = enumerate(zip(stored, decoded, strict=False))
    same = stored[: next((i for i, (a, b) in pairs if a != b), min(len(stored), len(decoded)))]
    line, column = same.count("\n") + 1, len(same) - same.rfind("\n")
    diff = difflib.unified_diff(stored.split("\n"), decoded.split("\n"), "stored text", "decoded ids", lineterm="", n=1)
    return Difference(f"{what}, line {line}, column {column}", list(diff))
