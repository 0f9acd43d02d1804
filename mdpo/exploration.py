"""Which right/wrong pair tells most: the uncertainty of a pair of trajectories, and pairs chosen by it.

The theory of iterative preference learning (Xiong et al. 2024, "Iterative Preference Learning from Human Feedback";
RLHF Workflow, eq. 8) explores where the reward difference of two responses is least known. In the linear case, with
features φ and u = φ(τ¹) − φ(τ²) over the pairs so far,

    Γ(τ¹, τ²) = ‖φ(τ¹) − φ(τ²)‖_{Σ⁻¹} = √(uᵀ Σ⁻¹ u)          Covariance.uncertainty
    Σ = λI + Σᵢ uᵢ uᵢᵀ                                        Covariance.add
    ½ log det(Σ + uuᵀ) − ½ log det Σ = ½ log(1 + Γ²)          what add returns: the information gained, in nats

The sources give no features for a language model; ours are of `mdpo.features`. Only differences of one problem's
trajectories count, so Σ is about how answers differ and not about questions. Labels cost nothing here (a checker gives
them), so Γ decides which of the labelled trajectories are trained on, and where more samples are worth their price.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mdpo.errors import DataError
from mdpo.strategies import Match, Sides, named_strategy
from mdpo.trajectory import Trajectory

Array: TypeAlias = NDArray[np.float64]
Features = Mapping[tuple[str, int], Array]
"""φ of each trajectory, (dimension,), by its key."""
Raw = Mapping[tuple[str, int], NDArray[Any]]
"""The same before scaling, in any type of float."""

# A rank-one update of the inverse loses a little precision each time; after so many it is computed anew.
_REFRESH = 256


class Covariance:
    """Σ = λI + Σᵢ uᵢ uᵢᵀ over the pairs so far, in float64, with its inverse.

    Args:
        dimension: Of the features.
        ridge: λ > 0: how much is taken to be known of every direction before the first pair.
        sigma, pairs: What came before; default: no pair.

    Attributes:
        sigma: Σ, (dimension, dimension).
        pairs: How many were added.
    """

    def __init__(self, dimension: int, ridge: float = 1.0, sigma: Array | None = None, pairs: int = 0) -> None:
        if ridge <= 0:
            raise ValueError(f"λ must be positive, not {ridge}: without it Σ has no inverse at the start")
        self.ridge = ridge
        self.sigma: Array = ridge * np.eye(dimension) if sigma is None else sigma
        self.pairs = pairs
        self._inverse = _inverse(self.sigma)

    @property
    def dimension(self) -> int:
        """Of the features."""
        return len(self.sigma)

    def uncertainty(self, u: Array) -> Array:
        """Γ = √(uᵀ Σ⁻¹ u), (…), of differences u, (…, dimension)."""
        square = np.einsum("...i,...i->...", u @ self._inverse, u)
        return np.asarray(np.sqrt(np.maximum(square, 0.0)))

    def add(self, u: Array) -> float:
        """Σ ← Σ + uuᵀ for the difference u, (dimension,), of one more pair; the information gained, in nats."""
        direction = self._inverse @ u  # Σ⁻¹u
        square = float(u @ direction)  # Γ²
        self.sigma += np.outer(u, u)
        self.pairs += 1
        if self.pairs % _REFRESH:
            self._inverse -= np.outer(direction, direction) / (1 + square)  # Sherman–Morrison
        else:
            self._inverse = _inverse(self.sigma)
        return 0.5 * float(np.log1p(square))

    def copy(self) -> "Covariance":
        """Another one with the same pairs."""
        return Covariance(self.dimension, self.ridge, self.sigma.copy(), self.pairs)


def _inverse(sigma: Array) -> Array:
    """Σ⁻¹ = L⁻ᵀ L⁻¹ with Σ = L Lᵀ: symmetric and positive whatever the rounding."""
    inverse = np.linalg.inv(np.linalg.cholesky(sigma))
    return np.asarray(inverse.T @ inverse)


@dataclass(frozen=True, slots=True)
class Exploration:
    """What is carried from iteration to iteration: the pairs so far, and the scale on which features are compared.

    Attributes:
        covariance: Σ.
        scale: What each feature is divided by, (dimension,): its standard deviation over the first trajectories, and
            frozen then, because Σ adds up what must be of one scale. Their mean cancels in u.
    """

    covariance: Covariance
    scale: Array

    @classmethod
    def start(cls, features: Iterable[NDArray[Any]], ridge: float) -> Self:
        """Begin with the scale of the first trajectories' features, each (dimension,), of which there is at least one.

        A feature that does not vary stays as it is.
        """
        deviation = np.std(np.asarray([*features], dtype=np.float64), axis=0)
        return cls(Covariance(len(deviation), ridge), np.where(deviation > 0, deviation, 1.0))

    def scaled(self, features: Raw) -> dict[tuple[str, int], Array]:
        """Features on the frozen scale, in float64.

        Raises:
            DataError: They are of another dimension than those of the pairs so far.
        """
        for one in features.values():
            if one.shape != self.scale.shape:
                raise DataError(
                    f"the pairs so far were described by {len(self.scale)} features, and this policy gives {len(one)}; "
                    "use the policy and the dimension that the covariance file was made with, or begin a new file"
                )
        return {key: np.asarray(one, dtype=np.float64) / self.scale for key, one in features.items()}

    def save(self, path: Path) -> None:
        """Write a covariance file (.npz): beside first, then under its name."""
        beside = path.with_name(path.name + ".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            covariance = self.covariance
            np.savez(file, sigma=covariance.sigma, ridge=covariance.ridge, pairs=covariance.pairs, scale=self.scale)
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a covariance file.

        Raises:
            DataError: It is missing, or no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                sigma, scale = file["sigma"], file["scale"]
                if sigma.shape != (len(scale), len(scale)):
                    raise ValueError(f"Σ is {sigma.shape} for {len(scale)} features")
                return cls(Covariance(len(scale), float(file["ridge"]), sigma, int(file["pairs"])), scale)
        except FileNotFoundError as error:
            raise DataError(
                f"there is no covariance file {path}; one is made by `mdpo pairs --strategy uncertain`"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, np.linalg.LinAlgError) as error:
            raise DataError(
                f"{path} is no covariance file ({error}); delete it, and choose the pairs of its iteration again"
            ) from error


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

    Args:
        problems: Both sides of each.
        count: Largest number of pairs of one problem; no trajectory is in two.
        features: φ of every trajectory on either side.
        covariance: Σ; every chosen pair is added to it.

    Returns:
        The matches of each problem, in the order of `problems`.
    """
    left = {name: Sides(list(sides.right), list(sides.wrong)) for name, sides in problems.items() if sides.mixed}
    found: dict[str, list[Match]] = {name: [] for name in problems}
    # What a pair tells only shrinks as others are added, so an old Γ is an upper bound: a problem is looked at again
    # only when its bound is the largest.
    bounds = [(-_best(sides, features, covariance)[0], name) for name, sides in left.items()]
    heapq.heapify(bounds)
    while bounds:
        _, name = heapq.heappop(bounds)
        gamma, right, wrong = _best(left[name], features, covariance)
        if bounds and gamma < -bounds[0][0]:
            heapq.heappush(bounds, (-gamma, name))
            continue
        match = Match(left[name].right.pop(right), left[name].wrong.pop(wrong), gamma)
        found[name].append(match)
        covariance.add(_difference(match, features))
        if len(found[name]) < count and left[name].mixed:
            heapq.heappush(bounds, (-_best(left[name], features, covariance)[0], name))
    return found


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
    largest = {name: float(np.max(_between(found, found, covariance))) for name, found in own.items()}
    return sorted(largest.items(), key=lambda item: (-item[1], item[0]))


def _matches(found: Mapping[str, list[Match]]) -> list[Match]:
    return [match for matches in found.values() for match in matches]


def _best(sides: Sides, features: Features, covariance: Covariance) -> tuple[float, int, int]:
    """The largest Γ of a problem's pairs, and which right and wrong one it is; of equal ones the first."""
    gamma = _between([features[t.key] for t in sides.right], [features[t.key] for t in sides.wrong], covariance)
    right, wrong = np.unravel_index(int(np.argmax(gamma)), gamma.shape)
    return float(gamma[right, wrong]), int(right), int(wrong)


def _between(one: Sequence[Array], other: Sequence[Array], covariance: Covariance) -> Array:
    """Γ of every pair, (one, other)."""
    return covariance.uncertainty(np.asarray(one)[:, None] - np.asarray(other)[None])


def _difference(match: Match, features: Features) -> Array:
    """The u of a match, φ(τ⁺) − φ(τ⁻)."""
    return features[match.chosen.key] - features[match.rejected.key]
