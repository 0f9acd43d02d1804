"""The pairs of an iteration: its own trajectories by the strategy of the recipe, and a share of earlier ones.

    current trajectories ── filters ── strategy ── n pairs ─┐
    earlier trajectories ── filters ── random problems ── strategy ── n · share / (1 − share) pairs ─┴─► preferences

Earlier pairs are made anew from earlier trajectories. M-DPO may learn from them: its loss asks of a pair only that both
trajectories answer the same problem, and π_ref's log-probabilities are computed for every pair with the reference of
the iteration that trains on it. But they show what an earlier policy did, which today's may no longer do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

from rich.table import Table

from mdpo.config import PairsConfig
from mdpo.errors import ConfigError
from mdpo.preference import Pair, PairCount, Sorted, sort_out, to_pairs
from mdpo.strategies import Sides, Strategy, named_strategy
from mdpo.trajectory import read_trajectories
from mdpo.uncertain import Gain, Uncertain


@dataclass(frozen=True, slots=True)
class Origin:
    """A trajectory file, and what its pairs call it."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Chosen:
    """The pairs of an iteration and how they came about.

    Attributes:
        pairs: Those of the iteration's own trajectories first.
        strategy: What chose them.
        count: Of the iteration's own trajectories.
        earlier: Of each earlier file, by its name.
        gains: What the pairs told, for each file in turn (`uncertain`).
    """

    pairs: list[Pair]
    strategy: str
    count: PairCount
    earlier: dict[str, PairCount]
    gains: list[Gain]

    def row(self) -> dict[str, Any]:
        """Everything but the pairs as JSON."""
        return {
            "summary": str(self),
            "strategy": self.strategy,
            "total": len(self.pairs),
            **self.count.row(),
            "earlier": {name: count.row() for name, count in self.earlier.items()},
            "information": [asdict(gain) for gain in self.gains],
        }

    def table(self) -> Table:
        """What each step kept of the iteration's own trajectories."""
        table = Table("step", "looks at")
        for name in ("seen", "dropped", "kept"):
            table.add_column(name, justify="right")
        for step in self.count.steps:
            side = "all" if step.side == "both" else "right ones"
            table.add_row(step.name, side, f"{step.seen:,}", f"{step.dropped:,}", f"{step.kept:,}")
        kept, used = self.count.steps[-1].kept, 2 * self.count.pairs
        table.add_row(f"in a pair ({self.strategy})", "problems", f"{kept:,}", f"{kept - used:,}", f"{used:,}")
        return table

    def __str__(self) -> str:
        pool = ", ".join(f"{count.pairs} of {name}" for name, count in self.earlier.items())
        added = f"; {len(self.pairs) - self.count.pairs} earlier pairs: {pool}" if pool else ""
        told = f"; {self.gains[0]}" if self.gains else ""
        return f"{self.count}{added}{told}"


def choose_pairs(
    config: PairsConfig,
    current: Origin,
    earlier: Sequence[Origin],
    max_length: int,
    seed: int,
    uncertain: Uncertain | None = None,
) -> Chosen:
    """Choose pairs from an iteration's trajectories, and from a pool of earlier ones if there is one.

    Args:
        config: What the recipe says.
        current: The iteration's own trajectories.
        earlier: Those of earlier iterations, the latest first; not used without `config.pool`.
        max_length: Longer trajectories are dropped, in tokens.
        seed: Of everything that is random.
        uncertain: The strategy of that name, if it is the one that is asked for; it keeps what it learns.

    Raises:
        DataError: A trajectory file is missing or broken.
        ConfigError: The strategy `uncertain` is asked for and not given.
    """
    strategy = _strategy(config, uncertain)

    def chosen(origin: Origin, found: Sorted, problems: Mapping[str, Sides], seed: int) -> tuple[list[Pair], PairCount]:
        pairs = to_pairs(strategy(problems, config.per_problem, seed), config.strategy, origin.name)
        return pairs, found.count(len(pairs))

    found = sort_out(read_trajectories(current.path), config.filters, max_length)
    pairs, count = chosen(current, found, found.problems, seed)
    counts: dict[str, PairCount] = {}
    pool = earlier[: config.pool.iterations] if config.pool else []
    left = 0 if config.pool is None else round(len(pairs) * config.pool.share / (1 - config.pool.share))
    for number, origin in enumerate(pool):
        found = sort_out(read_trajectories(origin.path), config.filters, max_length)
        # Another seed than the one with which the earlier iteration chose its own.
        own = seed + 1 + number
        most = ceil(left / (len(pool) - number))
        more, counts[origin.name] = chosen(origin, found, _some(found.problems, most, config.per_problem, own), own)
        pairs += more
        left -= len(more)
    return Chosen(pairs, config.strategy, count, counts, [] if uncertain is None else uncertain.gains)


def _strategy(config: PairsConfig, uncertain: Uncertain | None) -> Strategy:
    if config.strategy != "uncertain":
        return named_strategy(config.strategy, config.ties, config.length_penalty)
    if uncertain is None:
        raise ConfigError("the strategy `uncertain` compares a policy's hidden states; name one with --model")
    return uncertain


def _some(problems: Mapping[str, Sides], pairs: int, per_problem: int, seed: int) -> dict[str, Sides]:
    """Random problems that give so many pairs together, or as many as there are, and never more."""
    names = sorted(name for name, sides in problems.items() if sides.mixed)
    Random(seed).shuffle(names)
    taken: list[str] = []
    for name in names:
        given = problems[name].most(per_problem)
        if given <= pairs:
            taken.append(name)
            pairs -= given
    return {name: problems[name] for name in sorted(taken)}
