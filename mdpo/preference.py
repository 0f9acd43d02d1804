"""Trajectories → filters → pairs of a right and a wrong attempt at the same problem (paper §3.1)."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mdpo.errors import DataError
from mdpo.trajectory import Trajectory

_Filter = Callable[[Trajectory], bool]


@dataclass(frozen=True, slots=True)
class Pair:
    """A chosen and a rejected trajectory of one problem, as ids and masks; complete in itself.

    Attributes:
        problem_id: Which problem both attempted.
        chosen, rejected: The samples' numbers in the trajectory file.
        prompt_ids: The common prompt.
        chosen_ids, rejected_ids: All ids after it.
        chosen_mask, rejected_mask: 1 where the policy sampled the id, 0 on observations.
    """

    problem_id: str
    chosen: int
    rejected: int
    prompt_ids: list[int]
    chosen_ids: list[int]
    chosen_mask: list[int]
    rejected_ids: list[int]
    rejected_mask: list[int]


@dataclass(frozen=True, slots=True)
class PairCount:
    """How pairs came about: what was dropped and why, and what the problems looked like afterwards."""

    pairs: int
    trajectories: int
    problems: int
    all_right: int
    all_wrong: int
    dropped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        mixed = self.problems - self.all_right - self.all_wrong
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items())) or "none"
        return (
            f"{self.pairs} pairs from {self.trajectories} trajectories of {self.problems} problems "
            f"({mixed} mixed, {self.all_right} all right, {self.all_wrong} all wrong; dropped: {lost})"
        )


def make_pairs(
    trajectories: Iterable[Trajectory],
    *,
    pairs_per_problem: int = 1,
    max_length: int | None = None,
    require_call: bool = True,
    seed: int = 0,
) -> tuple[list[Pair], PairCount]:
    """Choose random (right, wrong) pairs, the paper's way.

    Args:
        trajectories: Attempts, in any order; their order does not change the result.
        pairs_per_problem: Largest number of pairs of one problem; no trajectory is used in two of them.
        max_length: Drop trajectories with more tokens, prompt included.
        require_call: Drop trajectories that never ran a program.
        seed: Of the random choice; each problem has its own generator.

    Returns:
        The pairs, sorted by problem, and the count of what was dropped.
    """
    dropped: Counter[str] = Counter()
    sides: dict[str, tuple[list[Trajectory], list[Trajectory]]] = defaultdict(lambda: ([], []))
    total = 0
    for trajectory in sorted(trajectories, key=lambda t: t.key):
        total += 1
        right, wrong = sides[trajectory.problem_id]
        reason = _drop_reason(trajectory, max_length, require_call)
        if reason is None:
            side = right if trajectory.reward > 0.5 else wrong
            # Near copies teach nothing new: one of each first action a side.
            if any(other.turns[0].action == trajectory.turns[0].action for other in side):
                reason = "repeated"
            else:
                side.append(trajectory)
        if reason is not None:
            dropped[reason] += 1
    pairs = [
        pair
        for problem_id, (right, wrong) in sides.items()
        for pair in _choose(right, wrong, pairs_per_problem, random.Random(f"{seed} {problem_id}"))
    ]
    all_right = sum(bool(right) and not wrong for right, wrong in sides.values())
    all_wrong = sum(not right for right, _ in sides.values())
    return pairs, PairCount(len(pairs), total, len(sides), all_right, all_wrong, dict(dropped))


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a preference file, one pair a line: beside first, then under its name."""
    beside = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(pair)) + "\n" for pair in pairs)
    beside.replace(path)


def read_pairs(path: Path) -> Iterator[Pair]:
    """Read a preference file.

    Raises:
        DataError: The file is missing or a line of it is no pair.
    """
    if not path.exists():
        raise DataError(f"there is no preference file {path}; make one with `mdpo pairs TRAJECTORIES`")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield Pair(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"{path}, line {number} is no pair: {error}; make it again with `mdpo pairs`"
                ) from error


def _drop_reason(trajectory: Trajectory, max_length: int | None, require_call: bool) -> str | None:
    """Why a trajectory is not used, `None` if it is (paper §3.1); `mdpo pairs` prints these words."""
    length = len(trajectory.prompt_ids) + len(trajectory.completion_ids)
    if not trajectory.turns:
        return "empty"
    if max_length is not None and length > max_length:
        return "too long"
    if require_call and trajectory.calls == 0:
        return "without a call"
    observed = [turn for turn in trajectory.turns if turn.observation is not None]
    if trajectory.reward > 0.5 and observed and observed[-1].status != "ok":
        # Right in spite of a failed program: the answer did not come from it.
        return "right after a failed call"
    return None


def _choose(right: list[Trajectory], wrong: list[Trajectory], count: int, rng: random.Random) -> Iterator[Pair]:
    count = min(count, len(right), len(wrong))
    for chosen, rejected in zip(rng.sample(right, count), rng.sample(wrong, count), strict=True):
        if chosen.prompt_ids != rejected.prompt_ids:
            raise DataError(
                f"two trajectories of problem {chosen.problem_id} have different prompts; use trajectories of one "
                f"chat format and one system prompt only"
            )
        yield Pair(
            problem_id=chosen.problem_id,
            chosen=chosen.sample,
            rejected=rejected.sample,
            prompt_ids=chosen.prompt_ids,
            chosen_ids=chosen.completion_ids,
            chosen_mask=chosen.completion_mask,
            rejected_ids=rejected.completion_ids,
            rejected_mask=rejected.completion_mask,
        )
