"""Γ has the properties of its definition, whatever the pairs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mdpo.errors import DataError
from mdpo.exploration import Array, Covariance, Exploration

NUMBERS = st.floats(-10, 10, width=32)
VECTORS = arrays(np.float64, st.tuples(st.integers(2, 12), st.just(4)), elements=NUMBERS)
RIDGES = st.sampled_from([1e-3, 1.0, 50.0])


def after(vectors: Array, ridge: float = 1.0) -> Covariance:
    covariance = Covariance(vectors.shape[1], ridge)
    for vector in vectors:
        covariance.add(vector)
    return covariance


@given(VECTORS, RIDGES)
def test_uncertainty_is_symmetric_and_zero_between_a_trajectory_and_itself(vectors: Array, ridge: float) -> None:
    covariance = after(vectors, ridge)
    one, other = vectors[:2]
    assert covariance.uncertainty(one - other) == covariance.uncertainty(other - one) >= 0
    assert covariance.uncertainty(one - one) == 0


@given(VECTORS, RIDGES, st.data())
def test_uncertainty_never_grows_as_pairs_are_added(vectors: Array, ridge: float, data: st.DataObject) -> None:
    u = data.draw(arrays(np.float64, 4, elements=NUMBERS))
    covariance = Covariance(4, ridge)
    before = covariance.uncertainty(u)
    for vector in vectors:
        covariance.add(vector)
        now = covariance.uncertainty(u)
        assert now <= before * (1 + 1e-6) + 1e-9
        before = now


def test_an_invertible_map_of_the_features_changes_nothing_as_the_ridge_vanishes() -> None:
    rng = np.random.default_rng(1)
    vectors, u = rng.normal(size=(40, 6)), rng.normal(size=6)
    matrix = rng.normal(size=(6, 6)) + 3 * np.eye(6)
    gaps = []
    for ridge in (1.0, 1e-3, 1e-9):
        here, there = after(vectors, ridge), after(vectors @ matrix, ridge)
        gaps.append(abs(float(here.uncertainty(u) - there.uncertainty(u @ matrix))))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-8


@given(VECTORS, RIDGES, st.integers(0, 99))
def test_the_order_of_the_pairs_does_not_matter(vectors: Array, ridge: float, seed: int) -> None:
    shuffled = vectors[np.random.default_rng(seed).permutation(len(vectors))]
    one, other = after(vectors, ridge), after(shuffled, ridge)
    np.testing.assert_allclose(one.sigma, other.sigma, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(one.uncertainty(np.ones(4)), other.uncertainty(np.ones(4)), rtol=1e-5)


def test_the_information_gained_is_half_the_growth_of_the_log_determinant() -> None:
    vectors = np.random.default_rng(2).normal(size=(30, 6))
    covariance = Covariance(6, ridge=0.3)
    gained = sum(covariance.add(vector) for vector in vectors)
    grown = np.linalg.slogdet(0.3 * np.eye(6) + vectors.T @ vectors)[1] - 6 * np.log(0.3)
    assert gained == pytest.approx(0.5 * grown, rel=1e-12)


def test_the_inverse_stays_exact_over_thousands_of_pairs() -> None:
    vectors = np.random.default_rng(3).normal(size=(3000, 8))
    u = np.ones(8)
    # So small a ridge costs the first updates of the inverse seven digits; it has them back from time to time.
    exact = np.sqrt(u @ np.linalg.solve(1e-9 * np.eye(8) + vectors.T @ vectors, u))
    assert after(vectors, ridge=1e-9).uncertainty(u) == pytest.approx(exact, rel=1e-10)


def test_a_ridge_must_be_positive() -> None:
    with pytest.raises(ValueError, match="λ must be positive"):
        Covariance(3, ridge=0.0)


def test_a_covariance_file_reads_back(tmp_path: Path) -> None:
    exploration = Exploration(after(np.random.default_rng(4).normal(size=(9, 3)), 0.5), np.array([1.0, 2.0, 3.0]))
    path = tmp_path / "folder" / "covariance.npz"
    exploration.save(path)
    there = Exploration.load(path)
    assert (there.covariance.sigma == exploration.covariance.sigma).all()
    assert (there.covariance.pairs, there.covariance.ridge, there.scale.tolist()) == (9, 0.5, [1.0, 2.0, 3.0])
    assert [file.name for file in path.parent.iterdir()] == ["covariance.npz"]


def test_a_missing_or_broken_covariance_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no covariance file"):
        Exploration.load(tmp_path / "none.npz")
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match="is no covariance file"):
        Exploration.load(path)
    for broken in ({"other": 1}, {"sigma": -np.eye(2), "scale": np.ones(2), "ridge": 1.0, "pairs": 0},
                   {"sigma": np.eye(3), "scale": np.ones(2), "ridge": 1.0, "pairs": 0}):  # fmt: skip
        np.savez(path, **broken)
        with pytest.raises(DataError, match="is no covariance file"):
            Exploration.load(path)


def test_features_of_another_dimension_are_refused() -> None:
    exploration = Exploration(Covariance(3), np.ones(3))
    with pytest.raises(DataError, match="described by 3 features, and this policy gives 5"):
        exploration.scaled({("p", 0): np.ones(5)})
