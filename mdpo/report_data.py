"""What a report knows of a run: its numbers, its training logs, the sums over its trajectories and a sample of them.

Trajectory files are read once, a line at a time. Every sum is over all of a file; only the sample for the browser is
bounded, and it consists of whole problems.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

from eval import pass_at_k
from mdpo.errors import DataError
from mdpo.evaluation import Comparison, Score, compare, score
from mdpo.folder import RunFolder, read_json
from mdpo.progress import Tally
from mdpo.report_sample import Sample, natural
from mdpo.trajectory import Trajectory, read_trajectories

Kind = Literal["evaluation", "rollout"]
_NEEDED = {"stage", "benchmark", "problems", "accuracy", "ci95"}


@dataclass(slots=True)
class Attempts:
    """The trajectories of one file.

    Attributes:
        run: The name of the run.
        kind: Sampled to measure a policy, or to learn from.
        stage: The evaluated policy, or the iteration that learns from them.
        benchmark: Of an evaluation, else "".
        file: Where they are, relative to the run directory.
        sample: The part that the browser shows.
        tally: Sums over all of them.
        sampled: Sampled tokens of each.
        rewards: The reward of each attempt at each problem.
    """

    run: str
    kind: Kind
    stage: str
    benchmark: str
    file: str
    sample: Sample
    tally: Tally = field(default_factory=Tally)
    sampled: list[int] = field(default_factory=list)
    rewards: dict[tuple[str, str], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def name(self) -> str:
        """What a person calls them."""
        return f"{self.stage} on {short(self.benchmark)}" if self.kind == "evaluation" else f"{self.stage} rollout"

    def add(self, trajectory: Trajectory) -> None:
        """Count a trajectory, and perhaps keep it."""
        self.tally.add(trajectory)
        self.sampled.append(sum(len(turn.action_ids) for turn in trajectory.turns))
        self.rewards[trajectory.problem_id, trajectory.question][trajectory.sample] = trajectory.reward
        self.sample.add(trajectory)

    def coverage(self) -> dict[str, int]:
        """Problems by outcome: every attempt right, both outcomes, every attempt wrong."""
        counts = {"all right": 0, "both outcomes": 0, "all wrong": 0}
        for rewards in self.rewards.values():
            right = sum(reward > 0.5 for reward in rewards.values())
            counts["all right" if right == len(rewards) else "both outcomes" if right else "all wrong"] += 1
        return counts

    def pass_at(self) -> dict[int, Score]:
        """pass@k for k = 1, 2, 4, … and the number of attempts that every problem has.

        Attempts beyond that number are left out: a problem got them because of how the first ones ended.
        """
        n = min(map(len, self.rewards.values()), default=0)
        right = [sum(r[sample] > 0.5 for sample in sorted(r)[:n]) for r in self.rewards.values()]
        ks = [*(2**i for i in range(n.bit_length()) if 2**i < n), *([n] if n else [])]
        return {k: score([pass_at_k(n, c, k) for c in right]) for k in ks}


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """What a trainer logged: one row for each logging step, under TRL's names."""

    stage: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RunData:
    """A run, as a report shows it.

    Attributes:
        name: Of the run directory, with as much of its path as tells it from the other runs of the report.
        path: The run directory.
        rows: Of `metrics.json`.
        attempts: Its trajectory files, in the order of the loop.
        logs: Its training logs.
        stages: Finished stages: what they said and how long they took.
        config: The resolved configuration as text.
        missing: What the run lacks, in sentences.
    """

    name: str
    path: Path
    rows: list[dict[str, Any]]
    attempts: list[Attempts]
    logs: list[TrainingLog]
    stages: dict[str, dict[str, Any]]
    config: str
    missing: list[str]


def open_run(path: Path) -> RunFolder:
    """A run directory in which something was evaluated.

    Raises:
        DataError: It is none, or nothing was evaluated yet.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise DataError(f"{path} is no run directory: it has no config.yaml; make one with `mdpo run`")
    if not folder.metrics():
        raise DataError(f"nothing was evaluated in {path} yet; go on with `mdpo run … --dir {path}`")
    return folder


def read_run(path: Path, limit: int, name: str | None = None) -> RunData:
    """Read a run directory.

    Args:
        path: The run directory.
        limit: Largest number of trajectories of each file that are kept to be looked at.
        name: Default: the directory's.

    Raises:
        DataError: It is no run directory, nothing was evaluated yet, or a file of it cannot be read.
    """
    folder = open_run(path)
    name = name or path.resolve().name
    found = [(attempts, path / attempts.file) for attempts in _files(folder, name, limit)]
    present = [(attempts, file) for attempts, file in found if file.exists()]
    for attempts, file in present:
        for trajectory in read_trajectories(file):
            attempts.add(trajectory)
    logs, unlogged = _logs(folder)
    missing = [
        f"{attempts.file} is not there: no trajectories of {attempts.name}"
        for attempts, file in found
        if not file.exists()
    ]
    return RunData(
        name=name,
        path=path,
        rows=[row for row in folder.metrics() if isinstance(row, dict) and row.keys() >= _NEEDED],
        attempts=[attempts for attempts, _ in present if attempts.tally.trajectories],
        logs=logs,
        stages=folder.stages(),
        config=folder.config.read_text(encoding="utf-8"),
        missing=[*missing, *unlogged],
    )


def read_runs(paths: Sequence[Path], limit: int) -> list[RunData]:
    """Read several runs, each under a name of its own.

    Raises:
        DataError: As `read_run`, or two paths are the same directory.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError("a run was named twice; name each run directory once")
    return [read_run(path, limit, name) for path, name in zip(paths, _names(paths), strict=True)]


def difference(first: RunData, second: RunData, benchmark: str, stages: tuple[str, str]) -> Comparison | str:
    """Two evaluated policies on the same problems, or a sentence that says why they cannot be compared.

    Args:
        first, second: The runs; the same one twice compares two of its policies.
        benchmark: On which.
        stages: The policy of each.
    """
    paths = []
    for run, stage in zip((first, second), stages, strict=True):
        path = RunFolder(run.path).evaluation(stage, benchmark)
        if not path.exists():
            return f"{path.name} is not there any more in {run.name}"
        paths.append(path)
    try:
        return compare(*map(read_trajectories, paths))
    except DataError as error:
        return str(error)


def short(benchmark: str) -> str:
    """A benchmark's name; of a file only the name, without its folders."""
    return Path(benchmark).stem if benchmark.endswith(".jsonl") else benchmark


def series(log: TrainingLog, key: str) -> list[tuple[float, float]]:
    """A logged value over the steps of a training; what is no finite number is left out."""
    found = ((row.get("step"), row.get(key)) for row in log.rows)
    return [(float(step), float(value)) for step, value in found if _finite(step) and _finite(value)]


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _files(folder: RunFolder, run: str, limit: int) -> Iterator[Attempts]:
    """The trajectory files that a run has or should have, in the order of the loop."""
    iterations = [path.name for path in _iterations(folder.path)]
    for stage, then in zip(["sft", *iterations], [*iterations, None], strict=True):
        for benchmark in (row["benchmark"] for row in folder.metrics() if row["stage"] == stage):
            file = folder.evaluation(stage, benchmark).relative_to(folder.path)
            yield Attempts(run, "evaluation", stage, benchmark, str(file), Sample(limit))
        if then is not None:
            yield Attempts(run, "rollout", then, "", f"{then}/trajectories.jsonl", Sample(limit))


def _iterations(path: Path) -> list[Path]:
    return sorted((each for each in path.glob("iteration-*") if each.is_dir()), key=lambda each: natural(each.name))


def _logs(folder: RunFolder) -> tuple[list[TrainingLog], list[str]]:
    """The training logs, and what to say of those that are not there."""
    logs, missing = [], []
    for stage in (folder.sft, *_iterations(folder.path)):
        rows = read_json(stage / "training.json", None)
        if isinstance(rows, list):
            logs.append(TrainingLog(stage.name, [row for row in rows if isinstance(row, dict)]))
        elif stage.name != "sft":
            missing.append(f"{stage.name}/training.json is not there: no training curves of {stage.name}")
    return logs, missing


def _names(paths: Iterable[Path]) -> list[str]:
    """The last parts of some paths, as many as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return names
