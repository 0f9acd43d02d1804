"""Trajectories → filters → pairs of a right and a wrong attempt at the same problem (paper §3.1).

`mdpo.filters` says what is left out, `mdpo.strategies` which of the rest become pairs; here is what lies between them
and the file of pairs.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mdpo.errors import DataError
from mdpo.filters import REPEATED, Filter, Side, Step, filter_table, switches
from mdpo.strategies import Match, Sides, Strategy, logprob, named_strategy
from mdpo.trajectory import Trajectory

_RANDOM = named_strategy("random")
# Without a sampled token there is nothing to learn, and nothing that a filter could look at; this step is always on.
_EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Pair:
    """A chosen and a rejected trajectory of one problem, as ids and masks; complete in itself.

    Attributes:
        problem_id: Which problem both attempted.
        chosen, rejected: The samples' numbers in the trajectory file.
        prompt_ids: The common prompt.
        chosen_ids, rejected_ids: All ids after it.
        chosen_mask, rejected_mask: 1 where the policy sampled the id, 0 on observations.
        strategy: What chose it.
        origin: The iteration, or the file, whose trajectories they are.
        chosen_reward, rejected_reward: As the checker gave them.
        chosen_logprob, rejected_logprob: Σ log π over the sampled ids, of the policy that sampled them (nats).
        uncertainty: Γ when it was chosen (`uncertain`).
        margin: C^w − C^l, for environments whose observations are not a function of the history (paper, equation 13).
    """

    problem_id: str
    chosen: int
    rejected: int
    prompt_ids: list[int]
    chosen_ids: list[int]
    chosen_mask: list[int]
    rejected_ids: list[int]
    rejected_mask: list[int]
    strategy: str | None = None
    origin: str | None = None
    chosen_reward: float | None = None
    rejected_reward: float | None = None
    chosen_logprob: float | None = None
    rejected_logprob: float | None = None
    uncertainty: float | None = None
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class PairCount:
    """How the pairs of one trajectory file came about, step by step.

    Attributes:
        pairs: How many were made.
        problems: How many there were; those that are neither `all_right` nor `all_wrong` are mixed.
        all_right, all_wrong: Problems without a wrong one, and without a right one, after the filters.
        steps: What each filter did, in order; what one keeps is what the next one sees.
    """

    pairs: int
    problems: int
    all_right: int
    all_wrong: int
    steps: tuple[Step, ...]

    @property
    def trajectories(self) -> int:
        """How many there were before the first filter."""
        return self.steps[0].seen

    @property
    def mixed(self) -> int:
        """Problems with a right and a wrong trajectory after the filters."""
        return self.problems - self.all_right - self.all_wrong

    @property
    def dropped(self) -> dict[str, int]:
        """How many each filter dropped, of those that dropped any."""
        return {step.name: step.dropped for step in self.steps if step.dropped}

    def row(self) -> dict[str, Any]:
        """Everything as JSON."""
        numbers = {name: getattr(self, name) for name in ("pairs", "trajectories", "problems", "mixed", "all_right",
                                                          "all_wrong")}  # fmt: skip
        return {**numbers, "steps": [{**asdict(step), "kept": step.kept} for step in self.steps]}

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.dropped.items()) or "none"
        return (
            f"{self.pairs} pairs from {self.trajectories} trajectories of {self.problems} problems "
            f"({self.mixed} mixed, {self.all_right} all right, {self.all_wrong} all wrong; dropped: {lost})"
        )


@dataclass(frozen=True, slots=True)
class Sorted:
    """Trajectories after the filters: both sides of each problem, in the order of the problems' ids, and the steps."""

    problems: dict[str, Sides]
    steps: tuple[Step, ...]

    def count(self, pairs: int) -> PairCount:
        """The count, once the pairs are made."""
        sides = self.problems.values()
        all_right = sum(bool(one.right) and not one.wrong for one in sides)
        return PairCount(pairs, len(sides), all_right, sum(not one.right for one in sides), self.steps)


def make_pairs(
    trajectories: Iterable[Trajectory],
    *,
    strategy: Strategy = _RANDOM,
    label: str = "random",
    filters: Mapping[str, bool] | None = None,
    pairs_per_problem: int = 1,
    max_length: int | None = None,
    seed: int = 0,
) -> tuple[list[Pair], PairCount]:
    """Filter trajectories and choose pairs; by default random ones, the paper's way.

    Args:
        trajectories: Attempts, in any order; their order does not change the result.
        strategy: Which right and wrong ones are put together.
        label: Its name, for the pairs.
        filters: Names with on or off, where they differ from the defaults of `mdpo.filters`.
        pairs_per_problem: Largest number of pairs of one problem; no trajectory is used in two of them.
        max_length: Drop trajectories with more tokens, prompt included.
        seed: Of the random choice; each problem has its own generator.

    Returns:
        The pairs, sorted by problem, and the count of what was dropped.

    Raises:
        DataError: Two trajectories of a problem have different prompts.
        ValueError: There is no filter of a name.
    """
    found = sort_out(trajectories, filters, max_length)
    pairs = to_pairs(strategy(found.problems, pairs_per_problem, seed), label)
    return pairs, found.count(len(pairs))


def sort_out(
    trajectories: Iterable[Trajectory], filters: Mapping[str, bool] | None = None, max_length: int | None = None
) -> Sorted:
    """Filter trajectories and lay the right and the wrong ones of each problem side by side.

    What the filters drop is not kept in memory. Arguments and errors: see `make_pairs`.
    """
    on = switches(filters)
    checks = [one for name, one in filter_table(max_length).items() if on[name]]
    dropped: Counter[str] = Counter()
    kept: list[Trajectory] = []
    problems: dict[str, Sides] = {}
    total = 0
    for trajectory in trajectories:
        total += 1
        problems.setdefault(trajectory.problem_id, Sides())
        reason = _reason(trajectory, checks)
        if reason is None:
            kept.append(trajectory)
        else:
            dropped[reason] += 1
    dropped[REPEATED] = _lay_out(kept, problems, once=on[REPEATED])
    order: list[tuple[str, Side]] = [(_EMPTY, "both"), *((one.name, one.side) for one in checks)]
    if on[REPEATED]:
        order.append((REPEATED, "both"))
    return Sorted(dict(sorted(problems.items())), tuple(_steps(order, total, dropped)))


def is_right(trajectory: Trajectory) -> bool:
    """Whether the checker accepted its answer."""
    return trajectory.reward > 0.5


def to_pairs(matches: Mapping[str, list[Match]], strategy: str, origin: str | None = None) -> list[Pair]:
    """What the trainer needs of matches, in their order.

    Raises:
        DataError: The two trajectories of a match have different prompts.
    """
    return [_pair(match, strategy, origin) for found in matches.values() for match in found]


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


def _reason(trajectory: Trajectory, checks: Iterable[Filter]) -> str | None:
    """The first filter that drops a trajectory, `None` if none does."""
    if not any(turn.action_ids for turn in trajectory.turns):
        return _EMPTY
    applied = (one for one in checks if one.side == "both" or is_right(trajectory))
    return next((one.name for one in applied if one.drops(trajectory)), None)


def _steps(order: Iterable[tuple[str, Side]], seen: int, dropped: Mapping[str, int]) -> Iterator[Step]:
    for name, side in order:
        step = Step(name, side, seen, dropped.get(name, 0))
        seen = step.kept
        yield step


def _lay_out(kept: list[Trajectory], problems: Mapping[str, Sides], once: bool) -> int:
    """Put trajectories on their sides, near copies only `once`; how many were near copies.

    A near copy has the first action of another one on its side: it teaches nothing new.
    """
    first_actions: dict[tuple[str, bool], set[str]] = defaultdict(set)
    repeated = 0
    for trajectory in sorted(kept, key=lambda t: t.key):
        right, action = is_right(trajectory), trajectory.turns[0].action
        known = first_actions[trajectory.problem_id, right]
        if once and action in known:
            repeated += 1
            continue
        known.add(action)
        sides = problems[trajectory.problem_id]
        (sides.right if right else sides.wrong).append(trajectory)
    return repeated


def _pair(match: Match, strategy: str, origin: str | None) -> Pair:
    chosen, rejected = match.chosen, match.rejected
    if chosen.prompt_ids != rejected.prompt_ids:
        raise DataError(
            f"two trajectories of problem {chosen.problem_id} have different prompts; use trajectories of one "
            f"chat format and one system prompt only"
        )
    return Pair(
        problem_id=chosen.problem_id,
        chosen=chosen.sample,
        rejected=rejected.sample,
        prompt_ids=chosen.prompt_ids,
        chosen_ids=chosen.completion_ids,
        chosen_mask=chosen.completion_mask,
        rejected_ids=rejected.completion_ids,
        rejected_mask=rejected.completion_mask,
        strategy=strategy,
        origin=origin,
        chosen_reward=chosen.reward,
        rejected_reward=rejected.reward,
        chosen_logprob=logprob(chosen),
        rejected_logprob=logprob(rejected),
        uncertainty=match.uncertainty,
    )
