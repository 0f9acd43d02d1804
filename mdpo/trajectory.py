"""Trajectories τ = (x, a₁, o₁, …, a_H), token-exact, and the append-only files that hold them.

A trajectory stores the ids that the engine consumed and produced. The action mask is not computed from text or from
token ids: it follows from which list an id was stored in, `action_ids` (sampled by the policy) or anything else.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from mdpo.errors import DataError

SCHEMA = 1

StopReason = Literal["answered", "no_code", "horizon", "call_limit", "turn_length", "context_length", "error"]
STOP_REASONS: tuple[str, ...] = get_args(StopReason)


@dataclass(frozen=True, slots=True)
class Turn:
    """One action and, unless it ended the trajectory, the observation that answered it.

    Attributes:
        action: The action as text, without its end-of-turn token.
        action_ids: The sampled ids, the end-of-turn token included when it was sampled.
        action_logprobs: log-probability (nats) of each sampled id, one for each of `action_ids`.
        code: The program that was run, `None` if none was.
        observation: What the sandbox answered, before the chat template wrapped it; `None` after the last action.
        observation_ids: Everything between this action and the next one: the rest of the end of turn, the observation
            message, the next generation prompt. Empty after the last action.
        status: The sandbox's status of the execution (`ok`, `error`, `timeout`, …), `None` if nothing was run.
        seconds: How long the program ran.
    """

    action: str
    action_ids: list[int]
    action_logprobs: list[float]
    code: str | None = None
    observation: str | None = None
    observation_ids: list[int] = field(default_factory=list)
    status: str | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if len(self.action_ids) != len(self.action_logprobs):
            raise ValueError(f"{len(self.action_ids)} action ids but {len(self.action_logprobs)} log-probabilities")


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One attempt at a problem, as the design's trajectory file stores it, one JSON object a line."""

    problem_id: str
    sample: int
    question: str
    answer: str
    source: str
    prompt_ids: list[int]
    turns: list[Turn]
    stop_reason: StopReason
    prediction: str | None
    reward: float
    policy: str
    sampling: dict[str, Any]
    schema: int = SCHEMA

    @property
    def key(self) -> tuple[str, int]:
        """Which attempt this is: the problem's id and the sample's number."""
        return self.problem_id, self.sample

    @property
    def completion_ids(self) -> list[int]:
        """All ids after the prompt: actions and observations in order."""
        return [token for turn in self.turns for token in (*turn.action_ids, *turn.observation_ids)]

    @property
    def completion_mask(self) -> list[int]:
        """The action mask over `completion_ids`: 1 where the policy sampled the token, 0 elsewhere."""
        mask: list[int] = []
        for turn in self.turns:
            mask += [1] * len(turn.action_ids) + [0] * len(turn.observation_ids)
        return mask

    @property
    def calls(self) -> int:
        """How many programs were run."""
        return sum(turn.code is not None for turn in self.turns)

    def to_json(self) -> str:
        """One line of the trajectory file, without the line break."""
        row = {name: getattr(self, name) for name in _FIELDS}
        row["turns"] = [{name: getattr(turn, name) for name in _TURN_FIELDS} for turn in self.turns]
        return json.dumps(row, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read one line of a trajectory file.

        Raises:
            ValueError: The line is no JSON object, lacks a field, or was written by another schema.
        """
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("expected a JSON object")
        if row.get("schema") != SCHEMA:
            raise ValueError(f"schema {row.get('schema')!r}, this version reads {SCHEMA}")
        try:
            turns = [Turn(**turn) for turn in row.pop("turns")]
            return cls(turns=turns, **row)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a trajectory: {error}") from error


# `dataclasses.asdict` would copy every token id.
_FIELDS, _TURN_FIELDS = (tuple(field.name for field in fields(kind)) for kind in (Trajectory, Turn))


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Read a trajectory file in order. A torn last line (a write that a kill cut short) is dropped.

    Raises:
        DataError: The file is missing, or a complete line of it cannot be read.
    """
    try:
        # Opened in binary: a kill may cut the last line inside a character.
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield Trajectory.from_json(line.decode())
                except ValueError as error:
                    raise DataError(
                        f"{path}, line {number}: {error}; remove that line to have it sampled again"
                    ) from error
    except FileNotFoundError as error:
        raise DataError(f"there is no trajectory file {path}; make one with `mdpo rollout`") from error


class TrajectoryWriter:
    """Appends whole lines to a trajectory file; whatever was there stays.

    A torn last line is cut off before the first write. Each line goes to the operating system in one write, so that a
    killed process loses at most the trajectories in flight.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        self._path = path
        self._file = path.open("ab", buffering=0)

    def append(self, trajectory: Trajectory) -> None:
        """Write one trajectory.

        Raises:
            DataError: The disk did not take the whole line; what it took is cut off again.
        """
        line = (trajectory.to_json() + "\n").encode()
        start = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
        except OSError as error:
            self._file.truncate(start)
            raise DataError(f"cannot write {self._path}: {error}; free some space and run it again") from error

    def close(self) -> None:
        """Make everything durable and close the file."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _cut_torn_line(path: Path) -> None:
    """Truncate a file after its last line break."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            found = file.read(position - start).rfind(b"\n")
            if found >= 0:
                position = start + found + 1
                break
            position = start
        if position < end:
            file.truncate(position)
