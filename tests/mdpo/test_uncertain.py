"""The strategy `uncertain`: the greedy choice is the greedy one, and rounds share one covariance."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from mdpo.exploration import Array, Covariance, Features
from mdpo.strategies import Match, Sides
from mdpo.trajectory import Trajectory
from mdpo.uncertain import Uncertain, choose_uncertain, information, rank_problems
from tests.mdpo.attempts import attempt


def problems(count: int, attempts: int = 4, seed: int = 0) -> tuple[dict[str, Sides], dict[tuple[str, int], Array]]:
    """Problems of as many right as wrong attempts, with random features of 5 numbers."""
    rng = np.random.default_rng(seed)
    made: dict[str, Sides] = {}
    features: dict[tuple[str, int], Array] = {}
    for number in range(count):
        found = [attempt(f"p{number}", n, float(n < attempts)) for n in range(2 * attempts)]
        made[f"p{number}"] = Sides(found[:attempts], found[attempts:])
        features |= {t.key: rng.normal(size=5) for t in found}
    return made, features


def keys(found: dict[str, list[Match]]) -> dict[str, list[tuple[int, int]]]:
    return {name: [(m.chosen.sample, m.rejected.sample) for m in matches] for name, matches in found.items()}


def exhaustive(made: dict[str, Sides], count: int, features: Features) -> list[tuple[str, int, int]]:
    """Greedy D-optimal design without any short cut: all free pairs are compared anew at each step."""
    sigma, used, chosen = np.eye(5), set(), []
    free = dict.fromkeys(made, count)
    while True:
        scored = [
            (float((u := features[r.key] - features[w.key]) @ np.linalg.solve(sigma, u)), name, r, w)
            for name, sides in made.items()
            if free[name]
            for r, w in product(sides.right, sides.wrong)
            if r.key not in used and w.key not in used
        ]
        if not scored:
            return chosen
        _, name, right, wrong = max(scored, key=lambda row: row[0])
        u = features[right.key] - features[wrong.key]
        sigma = sigma + np.outer(u, u)
        used |= {right.key, wrong.key}
        free[name] -= 1
        chosen.append((name, right.sample, wrong.sample))


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (1, 1), (3, 2), (9, 3)])
def test_the_choice_is_the_greedy_one(count: int, seed: int) -> None:
    made, features = problems(6, seed=seed)
    found = choose_uncertain(made, count, features, Covariance(5))
    chosen = [(name, *pair) for name, pairs in keys(found).items() for pair in pairs]
    assert sorted(chosen) == sorted(exhaustive(made, count, features))
    assert list(found) == list(made)


def test_no_trajectory_is_chosen_twice_and_the_problems_are_not_changed() -> None:
    made, features = problems(3)
    found = choose_uncertain(made, 9, features, Covariance(5))
    assert all(len({t.key for m in ms for t in (m.chosen, m.rejected)}) == 8 for ms in found.values())
    assert all(len(sides.right) == len(sides.wrong) == 4 for sides in made.values())


def test_every_chosen_pair_is_added_and_its_uncertainty_kept() -> None:
    made, features = problems(4)
    covariance = Covariance(5)
    found = choose_uncertain(made, 2, features, covariance)
    assert covariance.pairs == 8
    matches = [match for ms in found.values() for match in ms]
    nats = sum(0.5 * np.log1p((match.uncertainty or 0) ** 2) for match in matches)
    assert nats == pytest.approx(information(matches, features, Covariance(5)))


def test_information_leaves_the_covariance_as_it_is() -> None:
    made, features = problems(2)
    covariance = Covariance(5)
    assert information([Match(made["p0"].right[0], made["p0"].wrong[0])], features, covariance) > 0
    assert (covariance.pairs, covariance.sigma.tolist()) == (0, np.eye(5).tolist())


def test_problems_are_ranked_by_the_largest_uncertainty_between_their_attempts() -> None:
    apart = {"near": 0.1, "far": 5.0, "middle": 1.0}
    attempts = [attempt(name, n, 0.0) for name in apart for n in range(2)] + [attempt("single", 0, 1.0)]
    features = {t.key: np.array([apart.get(t.problem_id, 9.0) * t.sample, 0.0]) for t in attempts}
    ranked = rank_problems(attempts, features, Covariance(2))
    assert ranked == [("far", 5.0), ("middle", 1.0), ("near", 0.1), ("single", 0.0)]
    known = Covariance(2)
    known.add(np.array([100.0, 0.0]))
    assert rank_problems(attempts, features, known)[0][1] < 0.1


class Embedding:
    """Features from a table; remembers for which trajectories it was asked."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.asked: list[list[tuple[str, int]]] = []

    def __call__(self, trajectories: Sequence[Trajectory]) -> Features:
        self.asked.append([t.key for t in trajectories])
        return {t.key: self.features[t.key] for t in trajectories}


def test_rounds_share_one_scale_and_one_covariance() -> None:
    made, features = problems(6)
    first, second = ({name: made[name] for name in names} for names in (("p0", "p1", "p2"), ("p3", "p4", "p5")))
    together = Uncertain(Embedding(features))
    together(first, 1, 0)
    both = together(second, 1, 0)
    assert together.exploration is not None
    frozen = together.exploration.scale

    apart = Uncertain(Embedding(features))
    apart(first, 1, 0)
    later = Uncertain(Embedding(features), before=apart.exploration)
    assert keys(later(second, 1, 0)) == keys(both)
    assert later.exploration is not None
    assert later.exploration.covariance.pairs == 6
    assert (later.exploration.scale == frozen).all()


def test_only_problems_with_both_sides_are_looked_at() -> None:
    made, features = problems(2)
    made["p1"] = Sides(made["p1"].right, [])
    embed = Embedding(features)
    strategy = Uncertain(embed)
    assert keys(strategy(made, 1, 0)).keys() == {"p0", "p1"}
    assert {name for name, _ in embed.asked[0]} == {"p0"}
    nothing = Uncertain(embed)
    assert nothing({"p1": made["p1"]}, 1, 0) == {"p1": []}
    assert (nothing.exploration, nothing.gains) == (None, [])


def test_greedy_pairs_tell_more_than_random_ones() -> None:
    made, features = problems(20)
    strategy = Uncertain(Embedding(features))
    found = strategy(made, 1, 0)
    [gain] = strategy.gains
    assert gain.pairs == 20
    assert gain.nats > gain.at_random > 0
    gammas = [m.uncertainty or 0 for ms in found.values() for m in ms]
    assert (gain.largest, gain.mean) == (max(gammas), pytest.approx(np.mean(gammas)))
    assert "nats of information from 20 pairs" in str(gain)


def test_a_feature_that_never_varies_does_no_harm() -> None:
    made, features = problems(2)
    strategy = Uncertain(Embedding({key: np.append(one, 7.0) for key, one in features.items()}))
    assert all(np.isfinite(m.uncertainty or 0) for ms in strategy(made, 1, 0).values() for m in ms)
    assert strategy.exploration is not None
    assert strategy.exploration.scale[-1] == 1
