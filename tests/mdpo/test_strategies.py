"""Which right and wrong trajectories each strategy puts together."""

from functools import partial
from random import Random

import pytest

from mdpo.strategies import Chooser, Sides, best_worst, named_strategy, random_pairs, shortest_correct
from tests.mdpo.attempts import attempt

# Right: samples 0 to 2, wrong: 3 to 5, each side from short to long; the long ones are the likely ones.
RIGHT = [attempt("p", n, 1.0, words=n, logprob=n - 9.0) for n in range(3)]
WRONG = [attempt("p", n, 0.0, words=n, logprob=n - 9.0) for n in range(3, 6)]
SIDES = Sides(RIGHT[::-1], WRONG)


def samples(choose: Chooser, sides: Sides, count: int, seed: int = 0) -> list[tuple[int, int]]:
    return [(match.chosen.sample, match.rejected.sample) for match in choose(sides, count, Random(seed))]


def test_best_is_the_shortest_right_one_and_worst_the_longest_wrong_one() -> None:
    assert samples(best_worst, SIDES, 3) == [(0, 5), (1, 4), (2, 3)]


def test_by_log_probability_best_is_the_likeliest_a_token() -> None:
    assert samples(partial(best_worst, ties="logprob"), SIDES, 2) == [(2, 3), (1, 4)]


def test_a_reward_with_degrees_comes_before_everything_else() -> None:
    right = [attempt("p", 0, 0.8), attempt("p", 1, 1.0, words=9)]
    wrong = [attempt("p", 2, 0.3, words=9), attempt("p", 3, 0.0)]
    assert samples(best_worst, Sides(right, wrong), 1) == [(1, 3)]


def test_a_length_penalty_is_taken_off_the_reward_for_each_sampled_token() -> None:
    long, short = attempt("p", 0, 1.0, words=20), attempt("p", 1, 0.9)
    strategy = named_strategy("best_worst", length_penalty=0.01)
    [match] = strategy({"p": Sides([long, short], WRONG)}, 1, 0)["p"]
    assert match.chosen is short
    [match] = named_strategy("best_worst", length_penalty=0.004)({"p": Sides([long, short], WRONG)}, 1, 0)["p"]
    assert match.chosen is long


def test_the_shortest_right_ones_go_with_any_wrong_ones() -> None:
    assert [chosen for chosen, _ in samples(shortest_correct, SIDES, 2)] == [0, 1]
    assert {samples(shortest_correct, SIDES, 1, seed)[0][1] for seed in range(20)} == {3, 4, 5}


@pytest.mark.parametrize("choose", [random_pairs, best_worst])
def test_among_equal_ones_the_lot_decides(choose: Chooser) -> None:
    equal = Sides([attempt("p", n, 1.0) for n in range(3)], [attempt("p", n, 0.0) for n in range(3, 6)])
    assert {samples(choose, equal, 1, seed)[0] for seed in range(60)} == {(r, w) for r in range(3) for w in range(3, 6)}


def test_a_problem_has_its_own_generator() -> None:
    def of(problem: str) -> Sides:
        made = [attempt(problem, n, float(n < 6)) for n in range(12)]
        return Sides(made[:6], made[6:])

    strategy, own = named_strategy("random"), of("q")
    assert strategy({"q": own}, 2, 0)["q"] == strategy({"p": of("p"), "q": own}, 2, 0)["q"]


def test_an_unknown_strategy_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="no strategy 'uncertain' that works without a policy; there are random"):
        named_strategy("uncertain")
