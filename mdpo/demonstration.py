"""Demonstrations: trajectories that a person or a program wrote, as text. SFT learns from them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from mdpo.errors import DataError


@dataclass(frozen=True, slots=True)
class Demonstration:
    r"""One solved problem: a₁, o₁, a₂, …, a_H as text. The chat format makes tokens of it.

    Attributes:
        problem_id: Id of the problem.
        question: The question, without instructions.
        answer: The gold answer.
        source: The benchmark, or what generated the problem.
        actions: What the policy should say, in order, without end-of-turn tokens. All but the last hold a
            ```` ```python ```` block, the last one states the answer in `\boxed{}`.
        observations: What the sandbox really answered to each action but the last, before the chat format wraps it.

    Raises:
        ValueError: There is not exactly one observation between each two actions, or an action is empty.
    """

    problem_id: str
    question: str
    answer: str
    source: str
    actions: tuple[str, ...]
    observations: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.actions) != len(self.observations) + 1:
            raise ValueError(
                f"demonstration {self.problem_id}: {len(self.actions)} actions need one observation less than that, "
                f"there are {len(self.observations)}"
            )
        if not all(action.strip() for action in self.actions):
            raise ValueError(f"demonstration {self.problem_id}: an action is empty")

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read one line of a demonstration file.

        Raises:
            ValueError: The line is no JSON object with these fields.
        """
        row: Any = json.loads(line)
        names = [field.name for field in fields(cls)]
        if not isinstance(row, dict) or not row.keys() >= set(names):
            raise ValueError(f"a demonstration is an object with the fields {', '.join(names)}")
        values = {name: row[name] for name in names}
        return cls(**values | {name: _texts(name, values[name]) for name in ("actions", "observations")})


def read_demonstrations(path: Path, setting: str = "sft.demonstrations") -> Iterator[Demonstration]:
    """Read a JSONL file of demonstrations in order. Fields that a demonstration does not have are ignored.

    Args:
        path: The file.
        setting: The key that named it, for the error.

    Raises:
        DataError: The file is missing, or a line of it cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield Demonstration.from_json(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: {error}; correct or remove that line") from error
    except FileNotFoundError as error:
        raise DataError(f"there is no file of demonstrations {path}; check `{setting}`") from error


def write_demonstrations(path: Path, demonstrations: Iterable[Demonstration]) -> None:
    """Write demonstrations as JSONL, one a line; a file that was there is replaced once the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(d), ensure_ascii=False) + "\n" for d in demonstrations)
    partial.replace(path)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"`{name}` is not a list of texts")
    return tuple(value)
