"""What a policy is trained on, from whatever file or data set is given: its form is seen from its columns.

| form | columns | methods |
|---|---|---|
| trajectories of a rollout | `prompt_ids`, `turns` | all |
| a preference file | `prompt_ids`, `chosen_ids`, `rejected_ids`, their masks | preference |
| demonstrations | `question`, `actions`, `observations` | SFT |
| pairs of conversations | `chosen`, `rejected`, perhaps `prompt` | preference |
| labelled conversations | `prompt`, `completion`, `label` | KTO |
| prompts with completions | `prompt`, `completion` | SFT |
| conversations | `messages` | SFT |

Ids and masks of the first two are taken as they are; conversations are encoded by their roles (`mdpo.conversations`).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from mdpo.chat_trial import common_length
from mdpo.conversations import ASSISTANT, Encoded, Encoder, Unfit
from mdpo.data import Single
from mdpo.errors import DataError
from mdpo.preference import Pair
from mdpo.tables import Row, Table

FormName = Literal[
    "trajectories",
    "preferences",
    "demonstrations",
    "pairs of conversations",
    "labelled conversations",
    "prompts with completions",
    "conversations",
]
_Made = TypeVar("_Made")
_IMITATION, _PAIRED, _LABELLED = ("sft", "raft"), ("mdpo", "dpo"), ("mkto", "kto")


@dataclass(frozen=True, slots=True)
class Form:
    """A form of training data: by which columns it is known, and which methods can learn from it."""

    name: FormName
    columns: tuple[str, ...]
    methods: tuple[str, ...]


# The more telling columns come first.
FORMS = (
    Form("trajectories", ("prompt_ids", "turns"), (*_IMITATION, *_PAIRED, *_LABELLED)),
    Form("preferences", ("prompt_ids", "chosen_ids", "chosen_mask", "rejected_ids", "rejected_mask"),
         (*_PAIRED, *_LABELLED)),
    Form("demonstrations", ("question", "actions", "observations"), ("sft",)),
    Form("pairs of conversations", ("chosen", "rejected"), (*_PAIRED, *_LABELLED)),
    Form("labelled conversations", ("prompt", "completion", "label"), _LABELLED),
    Form("prompts with completions", ("prompt", "completion"), ("sft",)),
    Form("conversations", ("messages",), ("sft",)),
)  # fmt: skip


@dataclass(slots=True)
class Dropped:
    """What was left out and why."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, why: Unfit, place: str) -> None:
        """Count one; the first of each reason is told in full."""
        self.reasons[why.reason] += 1
        self.first.setdefault(why.reason, f"{place}: {why}")

    def __str__(self) -> str:
        return "; ".join(self.lines())

    def lines(self) -> list[str]:
        """One line for each reason."""
        return [f"{count:,} dropped, {self.first[reason]}" for reason, count in self.reasons.most_common()]


def find_form(table: Table, method: str) -> Form:
    """The form of a data set from which a method can learn.

    Raises:
        DataError: The columns are those of no form, or only of forms that the method cannot use; the message lists what
            was found and what is possible.
    """
    fitting = [form for form in FORMS if set(form.columns) <= set(table.columns)]
    for form in fitting:
        if method in form.methods:
            return form
    possible = "; ".join(f"{form.name} ({', '.join(form.columns)})" for form in FORMS if method in form.methods)
    found = f"the columns {', '.join(table.columns)}"
    if fitting:
        found += f", which are {fitting[0].name}, for {', '.join(fitting[0].methods)}"
    raise DataError(
        f"{table.name} has {found}; {method} learns from {possible}. Name columns of other names with "
        f"--column OURS=THEIRS, or take another --method"
    )


def paired(table: Table, encoder: Encoder, dropped: Dropped) -> Iterator[Pair]:
    """Pairs of conversations as pairs of ids; what cannot be used is counted."""
    _check_lists(table, ("chosen", "rejected"))

    def read(row: Row) -> Pair:
        prompt = _prompt(row)
        sides = [[*prompt, *_messages(row, name)] for name in ("chosen", "rejected")]
        chosen, rejected = (encoder.encode(side, len(prompt)) for side in sides)
        if _asked(sides[0], len(prompt)) != _asked(sides[1], len(prompt)):
            raise Unfit("chosen and rejected have different prompts")
        if chosen == rejected:
            raise Unfit("chosen and rejected are the same")
        common = common_length(chosen.prompt_ids, rejected.prompt_ids)
        problem = _problem(_asked(sides[0], len(prompt)))
        return Pair(problem, 0, 1, chosen.prompt_ids[:common], *_after(chosen, common), *_after(rejected, common))

    return _each(table, read, dropped)


def labelled(table: Table, encoder: Encoder, dropped: Dropped) -> Iterator[Single]:
    """Labelled conversations as ids with their label; what cannot be used is counted."""
    _check_lists(table, ("prompt", "completion"))

    def read(row: Row) -> Single:
        if not isinstance(row.get("label"), bool):
            raise Unfit("a label that is neither true nor false", repr(row.get("label")))
        made = _completed(row, encoder)
        problem = _problem(_messages(row, "prompt"))
        return Single(problem, bool(row["label"]), made.prompt_ids, made.completion_ids, made.completion_mask)

    return _each(table, read, dropped)


def conversations(table: Table, form: Form, encoder: Encoder, dropped: Dropped) -> Iterator[Encoded]:
    """Conversations, or prompts with completions, for SFT; what cannot be used is counted."""
    whole = form.name == "conversations"
    _check_lists(table, ("messages",) if whole else ("prompt", "completion"))

    def read(row: Row) -> Encoded:
        return encoder.encode(_messages(row, "messages")) if whole else _completed(row, encoder)

    return _each(table, read, dropped)


def _each(table: Table, read: Callable[[Row], _Made], dropped: Dropped) -> Iterator[_Made]:
    for number, row in enumerate(table.read()):
        try:
            made = read(row)
        except Unfit as why:
            dropped.add(why, f"{table.name}, row {number}")
            continue
        yield made


def _completed(row: Row, encoder: Encoder) -> Encoded:
    prompt = _messages(row, "prompt")
    return encoder.encode([*prompt, *_messages(row, "completion")], len(prompt))


def _prompt(row: Row) -> list[Mapping[str, Any]]:
    """The messages that both sides of a pair answer, where they do not begin with them."""
    prompt, chosen = row.get("prompt"), _messages(row, "chosen")
    opens = bool(chosen) and chosen[0].get("role") != ASSISTANT
    if isinstance(prompt, str):
        # Beside whole conversations a text only repeats the first question.
        return [] if opens else [{"role": "user", "content": prompt}]
    if prompt is None or (opens and prompt == chosen[: len(prompt)]):
        return []
    return _messages(row, "prompt")


def _messages(row: Row, name: str) -> list[Mapping[str, Any]]:
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        raise Unfit("no list of messages", f"`{name}` is {str(value)[:60]!r}")
    return value


def _check_lists(table: Table, names: Sequence[str]) -> None:
    """Tell texts from messages at once, and not row by row."""
    row = next(table.read())
    for name in names:
        if not isinstance(row[name], list):
            raise DataError(
                f"the column `{name}` of {table.name} holds {type(row[name]).__name__} values, such as "
                f"{str(row[name])[:40]!r}; training takes lists of messages, "
                '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
            )


def _asked(messages: Sequence[Mapping[str, Any]], given: int) -> list[Mapping[str, Any]]:
    """The messages before the first action."""
    first = next(n for n, message in enumerate(messages) if n >= given and message["role"] == ASSISTANT)
    return list(messages[:first])


def _problem(asked: Sequence[Mapping[str, Any]]) -> str:
    """What tells one problem from another: KTO compares a prompt with what was said to a different one."""
    return json.dumps(list(asked), ensure_ascii=False, default=str)


def _after(encoded: Encoded, prompt: int) -> tuple[list[int], list[int]]:
    """Ids and mask behind a prompt of so many tokens."""
    more = encoded.prompt_ids[prompt:]
    return more + encoded.completion_ids, [0] * len(more) + encoded.completion_mask
