"""The strategy `uncertain`: which right/wrong pairs tell most, and which problems are worth more samples.

Labels cost nothing here (a checker gives them), so Γ decides which of the labelled trajectories are trained on. What Γ
is, and where it comes from: `mdpo.exploration`.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mdpo.exploration import Array, Covariance, Exploration, Features, Raw
from mdpo.strategies import Match, Sides, named_strategy
from mdpo.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Gain:
    """What a round of pairs told.

    Attributes:
        pairs: How many.
        nats: Information gained: ½ log det of Σ after, less before.
        at_random: What random pairs of the same problems, as many, would have told.
        mean, largest: Γ of the pairs when they were chosen.
    """

    pairs: int
    nats: float
    at_random: float
    mean: float
    largest: float

    def __str__(self) -> str:
        return (
            f"{self.nats:.1f} nats of information from {self.pairs} pairs, {self.at_random:.1f} from random ones; "
            f"Γ {self.mean:.2f} on average, {self.largest:.2f} at most"
        )


class Uncertain:
    """The strategy `uncertain`: pairs of large Γ, round after round.

    Args:
        embed: Computes features of trajectories.
        ridge: λ.
        before: What earlier rounds left; `None` begins anew, with the scale of the first round's trajectories.

    Attributes:
        exploration: What this round leaves; `None` while no problem was ever mixed.
        gains: What each call told.
    """

    def __init__(
        self, embed: Callable[[Sequence[Trajectory]], Raw], ridge: float = 1.0, before: Exploration | None = None
    ) -> None:
        self._embed, self._ridge = embed, ridge
        self.exploration = before
        self.gains: list[Gain] = []

    def __call__(self, problems: Mapping[str, Sides], count: int, seed: int) -> dict[str, list[Match]]:
        """Choose from both sides of each problem; the seed is for the comparison with random pairs only."""
        compared = [t for sides in problems.values() if sides.mixed for t in (*sides.right, *sides.wrong)]
        if not compared:
            return {name: [] for name in problems}
        raw = self._embed(compared)
        if self.exploration is None:
            self.exploration = Exploration.start([raw[t.key] for t in compared], self._ridge)
        features, covariance = self.exploration.scaled(raw), self.exploration.covariance
        lots = _matches(named_strategy("random")(problems, count, seed))
        at_random = information(lots, features, covariance)
        before = covariance.copy()
        found = choose_uncertain(problems, count, features, covariance)
        chosen = _matches(found)
        gammas = [match.uncertainty or 0.0 for match in chosen]
        nats = information(chosen, features, before)
        self.gains.append(Gain(len(chosen), nats, at_random, sum(gammas) / len(gammas), max(gammas)))
        return found


def choose_uncertain(
    problems: Mapping[str, Sides], count: int, features: Features, covariance: Covariance
) -> dict[str, list[Match]]:
    """The most uncertain pair of all, then the most uncertain one given it, and so on: greedy D-optimal design.

    What a pair tells only shrinks as others are added, so that an old Γ is an upper bound: only the pair with the
    largest bound of all is looked at again, and taken if it is still the largest.

    Args:
        problems: Both sides of each.
        count: Largest number of pairs of one problem; no trajectory is in two.
        features: φ of every trajectory on either side.
        covariance: Σ; every chosen pair is added to it.

    Returns:
        The matches of each problem, in the order of `problems`.
    """
    found: dict[str, list[Match]] = {name: [] for name in problems}
    open_problems = {name: _Candidates(sides, features, covariance) for name, sides in problems.items() if sides.mixed}
    heap = [(-one.bound, name) for name, one in open_problems.items()]
    heapq.heapify(heap)
    while heap:
        _, name = heapq.heappop(heap)
        candidates = open_problems[name]
        right, wrong = candidates.first()
        gamma = candidates.refresh(right, wrong, covariance)
        if gamma == candidates.bound and not (heap and gamma < -heap[0][0]):
            covariance.add(candidates.take(right, wrong))
            found[name].append(Match(problems[name].right[right], problems[name].wrong[wrong], gamma))
            if len(found[name]) == problems[name].most(count):
                continue
        heapq.heappush(heap, (-candidates.bound, name))
    return found


class _Candidates:
    """The pairs of one problem that can still be chosen, with an upper bound of each one's Γ."""

    def __init__(self, sides: Sides, features: Features, covariance: Covariance) -> None:
        self._right = np.asarray([features[t.key] for t in sides.right])
        self._wrong = np.asarray([features[t.key] for t in sides.wrong])
        self._bounds = between(self._right, self._wrong, covariance)

    @property
    def bound(self) -> float:
        """No pair has a larger Γ."""
        return float(self._bounds.max())

    def first(self) -> tuple[int, int]:
        """The pair with the largest bound; of equal ones the first."""
        right, wrong = np.unravel_index(int(self._bounds.argmax()), self._bounds.shape)
        return int(right), int(wrong)

    def refresh(self, right: int, wrong: int, covariance: Covariance) -> float:
        """Γ of a pair as it is now, which is its bound from now on."""
        self._bounds[right, wrong] = covariance.uncertainty(self._right[right] - self._wrong[wrong])
        return float(self._bounds[right, wrong])

    def take(self, right: int, wrong: int) -> Array:
        """The u of a pair; neither of its trajectories can be chosen any more."""
        self._bounds[right, :] = self._bounds[:, wrong] = -np.inf
        return np.asarray(self._right[right] - self._wrong[wrong])


def information(matches: Iterable[Match], features: Features, covariance: Covariance) -> float:
    """What pairs would tell, in nats: ½ log det(Σ + Σᵢ uᵢuᵢᵀ) − ½ log det Σ. Σ itself is left as it is."""
    after = covariance.copy()
    return sum(after.add(_difference(match, features)) for match in matches)


def rank_problems(
    trajectories: Iterable[Trajectory], features: Features, covariance: Covariance
) -> list[tuple[str, float]]:
    """Problems by the largest Γ between two of their attempts, right or wrong, the most uncertain first.

    For these more samples (`mdpo.plan.Extra`) tell most. One with a single attempt comes last, with 0.
    """
    own: dict[str, list[Array]] = {}
    for trajectory in sorted(trajectories, key=lambda t: t.key):
        own.setdefault(trajectory.problem_id, []).append(features[trajectory.key])
    largest = {
        name: float(between(np.asarray(found), np.asarray(found), covariance).max()) for name, found in own.items()
    }
    return sorted(largest.items(), key=lambda item: (-item[1], item[0]))


def _matches(found: Mapping[str, list[Match]]) -> list[Match]:
    return [match for matches in found.values() for match in matches]


def between(one: Array, other: Array, covariance: Covariance) -> Array:
    """Γ of every pair, (ones, others), from features, (ones, dimension) and (others, dimension)."""
    return covariance.uncertainty(one[:, None] - other[None])


def _difference(match: Match, features: Features) -> Array:
    """The u of a match, φ(τ⁺) − φ(τ⁻)."""
    return features[match.chosen.key] - features[match.rejected.key]
