"""The laws of the metrics, and values worked out by hand."""

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import accuracy, compare_paired, maj_at_k, majority_vote, pass_at_k, wilson_interval
from eval.metrics import bootstrap_paired

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
rewards = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60)


def test_accuracy_is_the_mean() -> None:
    assert accuracy([1.0, 0.0, 1.0, 1.0]) == 0.75
    with pytest.raises(ValueError, match="empty"):
        accuracy([])


@given(counts, st.floats(0.01, 0.999))
def test_wilson_interval_contains_the_estimate_and_stays_in_range(count: tuple[int, int], confidence: float) -> None:
    successes, n = count
    low, high = wilson_interval(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1


@given(counts)
def test_wilson_interval_is_symmetric_and_widens_with_confidence(count: tuple[int, int]) -> None:
    successes, n = count
    low, high = wilson_interval(successes, n)
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(successes, n, 0.99)[0] <= low
    assert wilson_interval(successes, n, 0.99)[1] >= high


def test_wilson_interval_by_hand() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson_interval(50, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_success(case: tuple[int, int]) -> None:
    n, c = case
    for k in range(1, n + 1):
        draws = list(combinations(range(n), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(min(draw) < c for draw in draws) / len(draws))


@given(counts)
def test_pass_at_k_grows_with_k(count: tuple[int, int]) -> None:
    c, n = count
    values = [pass_at_k(n, c, k) for k in range(1, min(n, 20) + 1)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(c / n)


def test_majority_vote() -> None:
    assert majority_vote(["1", "2", None, "2"]) == 1
    assert majority_vote(["1", "2"]) == 0
    assert majority_vote([None, None]) is None
    assert majority_vote(["1", "2.0", "2"], same=lambda a, b: float(a) == float(b)) == 1


def test_maj_at_k_is_the_reward_of_the_winner() -> None:
    answers, values = ["1", "2", "2"], [1.0, 0.0, 0.0]
    assert [maj_at_k(answers, values, k) for k in (1, 2, 3)] == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="k=4"):
        maj_at_k(answers, values, 4)


@given(rewards, st.floats(0.01, 0.999))
def test_paired_comparison_is_antisymmetric(pairs: list[tuple[float, float]], confidence: float) -> None:
    first, second = [x for x, _ in pairs], [y for _, y in pairs]
    there, back = compare_paired(first, second, confidence), compare_paired(second, first, confidence)
    assert -1 <= there.low <= there.difference <= there.high <= 1
    assert there.difference == pytest.approx(accuracy(second) - accuracy(first))
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert there.p_value == back.p_value and 0 < there.p_value <= 1


def test_mcnemar_by_hand() -> None:
    result = compare_paired([0.0] * 6 + [1.0], [1.0] * 6 + [0.0])
    assert (result.only_first, result.only_second, result.problems) == (1, 6, 7)
    assert result.p_value == pytest.approx(2 * (1 + 7) / 2**7)


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 0.0]), ([0.5], [1.0])])
def test_paired_comparison_refuses_what_is_not_paired(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="compare_paired needs"):
        compare_paired(first, second)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_the_bootstrap_contains_the_difference_and_is_repeatable(pairs: list[tuple[float, float]]) -> None:
    first, second = [x for x, _ in pairs], [y for _, y in pairs]
    there = bootstrap_paired(first, second, draws=50)
    assert -1 <= there.low <= there.difference <= there.high <= 1
    assert there.difference == pytest.approx(accuracy(second) - accuracy(first))
    assert 0 < there.p_value <= 1
    assert there == bootstrap_paired(first, second, draws=50)


def test_the_bootstrap_agrees_with_mcnemar_on_single_attempts() -> None:
    first, second = [0.0] * 60 + [1.0] * 140, [1.0] * 40 + [0.0] * 40 + [1.0] * 120
    exact, drawn = compare_paired(first, second), bootstrap_paired(first, second)
    assert drawn.difference == exact.difference
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.01)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.01)
    assert (drawn.only_first, drawn.only_second) == (exact.only_first, exact.only_second)


def test_equal_policies_do_not_differ() -> None:
    result = bootstrap_paired([0.25, 0.5], [0.25, 0.5], draws=20)
    assert (result.low, result.high, result.p_value) == (0, 0, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_wilson_interval_of_means_contains_their_mean(means: list[float]) -> None:
    total = math.fsum(means)
    low, high = wilson_interval(total, len(means))
    assert 0 <= low <= total / len(means) <= high <= 1


@pytest.mark.parametrize(("first", "second", "draws"), [([], [], 9), ([1.0], [1.0, 0.0], 9), ([1.0], [1.0], 0)])
def test_the_bootstrap_refuses_what_is_not_paired(first: list[float], second: list[float], draws: int) -> None:
    with pytest.raises(ValueError, match="bootstrap_paired needs"):
        bootstrap_paired(first, second, draws=draws)


@pytest.mark.parametrize("arguments", [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)])
def test_pass_at_k_refuses_impossible_counts(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="pass_at_k needs"):
        pass_at_k(*arguments)


@pytest.mark.parametrize(("successes", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, math.nan)])
def test_wilson_interval_refuses_impossible_counts(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError):
        wilson_interval(successes, n, confidence)
