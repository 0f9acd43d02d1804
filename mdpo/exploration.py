"""Which right/wrong pair tells most: the uncertainty of a pair of trajectories, and pairs chosen by it.

The theory of iterative preference learning (Xiong et al. 2024, "Iterative Preference Learning from Human Feedback";
RLHF Workflow, eq. 8) explores where the reward difference of two responses is least known. In the linear case, with
features φ and u = φ(τ¹) − φ(τ²) over the pairs so far,

    Γ(τ¹, τ²) = ‖φ(τ¹) − φ(τ²)‖_{Σ⁻¹} = √(uᵀ Σ⁻¹ u)          Covariance.uncertainty
    Σ = λI + Σᵢ uᵢ uᵢᵀ                                        Covariance.add
    ½ log det(Σ + uuᵀ) − ½ log det Σ = ½ log(1 + Γ²)          what add returns: the information gained, in nats

The sources give no features for a language model; ours are of `mdpo.features`. Only differences of one problem's
trajectories count, so Σ is about how answers differ and not about questions. `mdpo.uncertain` chooses by Γ.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mdpo.errors import DataError

Array: TypeAlias = NDArray[np.float64]
Key: TypeAlias = tuple[str, int]
Features = Mapping[Key, Array]
"""φ of each trajectory, (dimension,), by its key."""
Raw = Mapping[Key, NDArray[Any]]
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

    def scaled(self, features: Raw) -> dict[Key, Array]:
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
