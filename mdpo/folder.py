"""The run directory: a whole experiment in one folder, which a second call of the same command goes on with.

    config.yaml      the resolved configuration; another one is refused
    state.json       finished stages, with what they said and how long they took
    metrics.json     a list, one row for each evaluated policy and benchmark
    sft/policy/      the policy after SFT
    iteration-1/     trajectories.jsonl  preferences.jsonl  policy/  metrics.json  (covariance.npz)
    eval/            the trajectories of each evaluation
    report.html      pictures, tables and trajectories

A stage is done when its output is complete under its final name; half-written output has another name.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mdpo.config import Config, differences, dump_config
from mdpo.errors import ConfigError, DataError

# A run may go on on another machine: these say where and how much at once, and not what is sampled.
_ELSEWHERE = ("engine.urls:", "engine.max_rows:", "engine.memory_share:", "engine.keep:", "rollout.concurrency:")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def sft(self) -> Path:
        """The folder of the SFT stage."""
        return self.path / "sft"

    def iteration(self, number: int) -> Path:
        """The folder of an iteration, counted from 1."""
        return self.path / f"iteration-{number}"

    def policy(self, number: int) -> Path:
        """The policy after an iteration; 0 is the one after SFT."""
        return (self.iteration(number) if number else self.sft) / "policy"

    def covariance(self, number: int) -> Path:
        """What an iteration's uncertain pairs left for the next one."""
        return self.iteration(number) / "covariance.npz"

    def evaluation(self, stage: str, benchmark: str) -> Path:
        """The trajectories with which a policy was evaluated."""
        return self.path / "eval" / f"{stage}-{Path(benchmark).stem}.jsonl"

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.json`, in the order in which they were made."""
        rows = read_json(self.path / "metrics.json", [])
        return rows if isinstance(rows, list) else []

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append a row; one of the same stage and benchmark is replaced."""
        rows = [old for old in self.metrics() if (old["stage"], old["benchmark"]) != (row["stage"], row["benchmark"])]
        write_json(self.path / "metrics.json", [*rows, row])

    def stages(self) -> dict[str, dict[str, Any]]:
        """The finished stages: name → what it said and how long it took."""
        return dict(read_json(self.path / "state.json", {}))

    def finish(self, stage: str, note: str, seconds: float) -> None:
        """Record that a stage is done."""
        write_json(self.path / "state.json", {**self.stages(), stage: {"note": note, "seconds": round(seconds, 1)}})


@contextmanager
def open_folder(path: Path, config: Config) -> Iterator[RunFolder]:
    """Create a run directory, or go on with one that holds the same configuration.

    Raises:
        ConfigError: It holds another configuration, or another process works in it.
    """
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    with (path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another mdpo works in {path}; wait for it, or use another --dir") from error
        _claim(folder, config)
        yield folder


def _claim(folder: RunFolder, config: Config) -> None:
    """Write the configuration, or check that it is the one that is there."""
    if not folder.config.exists():
        replace_text(folder.config, dump_config(config))
        return
    there = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    changed = [text for text in differences(config.model_dump(), there) if not text.startswith(_ELSEWHERE)]
    if changed:
        raise ConfigError(
            f"{folder.path} holds a run with another configuration ({'; '.join(changed)} there); use another --dir, "
            f"or delete it to start again"
        )


def read_json(path: Path, default: Any) -> Any:
    """The content of a JSON file, or `default` if there is none.

    Raises:
        DataError: The file is no JSON.
    """
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}); mend or delete it") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, beside first and then under its name."""
    replace_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that nobody ever sees half of it."""
    beside = path.with_name(path.name + ".partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
