"""What a rollout in progress comes to: one set of figures for the live line, the log, and the summary."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdpo.errors import DataError
from mdpo.trajectory import Trajectory


@dataclass(slots=True)
class Tally:
    """Sums over trajectories.

    Attributes:
        trajectories: How many.
        right: Those with a right answer.
        sampled: Tokens that the policy sampled.
        tokens: All tokens: prompts, actions and observations.
        calls: Programs that were run.
        failures: Those of them that did not end well, by the sandbox's status.
        stop_reasons: How many trajectories stopped why.
    """

    trajectories: int = 0
    right: int = 0
    sampled: int = 0
    tokens: int = 0
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    stop_reasons: Counter[str] = field(default_factory=Counter)

    def add(self, trajectory: Trajectory) -> None:
        """Add one trajectory."""
        self.trajectories += 1
        self.right += trajectory.reward > 0.5
        self.tokens += len(trajectory.prompt_ids)
        self.stop_reasons[trajectory.stop_reason] += 1
        for turn in trajectory.turns:
            self.sampled += len(turn.action_ids)
            self.tokens += len(turn.action_ids) + len(turn.observation_ids)
            if turn.status is not None:
                self.calls += 1
                if turn.status != "ok":
                    self.failures[turn.status] += 1

    @property
    def reward(self) -> float | None:
        """The mean reward, `None` without a trajectory."""
        return self.right / self.trajectories if self.trajectories else None

    def row(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {
            "trajectories": self.trajectories,
            "right": self.right,
            "reward": self.reward,
            "sampled_tokens": self.sampled,
            "tokens": self.tokens,
            "calls": self.calls,
            "failed_calls": dict(self.failures.most_common()),
            "stop_reasons": dict(self.stop_reasons.most_common()),
        }


class Meter:
    """The figures of a rollout while it goes on.

    Args:
        owed: Trajectories that are to be sampled; extra ones are added as they are granted.
    """

    def __init__(self, owed: int) -> None:
        self.owed = owed
        self.tally = Tally()
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._started

    def row(self) -> dict[str, Any]:
        """The figures of one moment, as the log holds them; rates are per second since the start."""
        seconds, tally = self.seconds, self.tally
        rate = tally.trajectories / seconds
        return {
            "time": round(time.time(), 3),
            "seconds": round(seconds, 3),
            "owed": self.owed,
            **tally.row(),
            "trajectories_per_second": round(rate, 3),
            "sampled_tokens_per_second": round(tally.sampled / seconds, 1),
            "seconds_left": round((self.owed - tally.trajectories) / rate, 1) if rate else None,
        }

    def line(self) -> str:
        """The figures for a person, in one short line."""
        row = self.row()
        if not self.tally.trajectories:
            return "none finished yet"
        parts = [
            f"{row['trajectories_per_second']:,.1f} a second",
            f"{row['sampled_tokens_per_second']:,.0f} tokens/s",
            f"{100 * row['reward']:.1f} % right",
            f"{self.tally.calls:,} calls, {self.tally.failures.total():,} failed",
            f"{_duration(row['seconds_left'])} left",
        ]
        return " · ".join(parts)


class MeterLog:
    """Appends a meter's figures to a file, one JSON object a line.

    Raises:
        DataError: The file cannot be written.
    """

    def __init__(self, path: Path, meter: Meter) -> None:
        self._path, self._meter = path, meter
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self) -> None:
        """Append the figures of this moment."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._meter.row()) + "\n")
        except OSError as error:
            raise DataError(f"cannot write the log {self._path}: {error}; free some space and run it again") from error


def _duration(seconds: float) -> str:
    """`95` → `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
