"""How good a policy is, from its rewards: plain functions on plain data."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class PairedComparison:
    """Two policies on the same problems: `difference` is the second accuracy minus the first, in [-1, 1].

    `low` and `high` bound the difference, `p_value` is that of the exact McNemar test, and `only_first`, `only_second`
    count the problems that exactly one policy solved.
    """

    difference: float
    low: float
    high: float
    p_value: float
    only_first: int
    only_second: int
    problems: int


def accuracy(rewards: Sequence[float]) -> float:
    """Mean reward, in [0, 1]. Raises ValueError for an empty sequence: no problems have no accuracy."""
    if not rewards:
        raise ValueError("accuracy needs at least one reward; the sequence is empty")
    return math.fsum(rewards) / len(rewards)


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion, within [0, 1].

    Wilson (1927), "Probable inference, the law of succession, and statistical inference": the proportions p with
    |successes/n - p| <= z sqrt(p(1-p)/n). Unlike the normal interval it keeps its coverage near 0 and 1 and for
    small n. For a sum of n independent values in [0, 1] that are not only 0 and 1 (mean rewards of several samples) it
    is conservative: the variance of such a value with mean p is at most p(1-p).

    Returns:
        (low, high); (0, 1) for n = 0, where nothing is known.

    Raises:
        ValueError: unless 0 <= successes <= n and 0 < confidence < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"wilson_interval needs 0 <= successes <= n, not successes={successes}, n={n}")
    z = _quantile(confidence)
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # In exact arithmetic the interval contains p and stays inside [0, 1]; rounding may miss both by one bit.
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that one of k samples is right, estimated from n samples of which c are.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. (2021), "Evaluating large language models trained on
    code", section 2.1.

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass_at_k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def majority_vote(answers: Sequence[T | None], same: Callable[[T, T], bool] = operator.eq) -> int | None:
    """Index of the first member of the largest group of equal answers; None if there is no answer.

    Args:
        answers: the answers of several samples to one problem; None (no answer) does not vote.
        same: when two answers belong together, e.g. `eval.check`. Each answer joins the first group that it matches.

    Ties go to the group that appeared first.
    """
    groups: list[list[int]] = []
    for index, answer in enumerate(answers):
        if answer is None:
            continue
        for group in groups:
            leader = answers[group[0]]
            if leader is not None and same(answer, leader):
                group.append(index)
                break
        else:
            groups.append([index])
    return max(groups, key=len)[0] if groups else None


def maj_at_k(
    answers: Sequence[T | None], rewards: Sequence[float], k: int, same: Callable[[T, T], bool] = operator.eq
) -> float:
    """Reward of the majority answer of the first k samples of one problem (self-consistency, Wang et al. 2022).

    Raises:
        ValueError: if answers and rewards differ in length, or k is not between 1 and that length.
    """
    if len(answers) != len(rewards) or not 1 <= k <= len(answers):
        raise ValueError(f"maj_at_k needs as many rewards as answers and 1 <= k <= {len(answers)}, not k={k}")
    winner = majority_vote(answers[:k], same)
    return 0.0 if winner is None else rewards[winner]


def compare_paired(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> PairedComparison:
    """Compare two policies on the same problems, in the same order, with rewards 0 or 1.

    The interval is Wald's for paired proportions after adding 1/2 to each cell of the 2x2 table: Agresti and Min
    (2005), "Simple improved confidence intervals for comparing matched proportions". The p-value is two-sided and
    exact: given the problems that one policy alone solved, each is a fair coin if the policies are equally good
    (McNemar 1947).

    Raises:
        ValueError: if the lengths differ or are 0, or a reward is neither 0 nor 1.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"compare_paired needs the same problems for both, got {len(first)} and {len(second)} rewards")
    if any(reward not in (0, 1) for reward in (*first, *second)):
        raise ValueError("compare_paired needs rewards 0 or 1; round or threshold them first")
    n = len(first)
    b = sum(y > x for x, y in zip(first, second, strict=True))
    c = sum(y < x for x, y in zip(first, second, strict=True))
    difference, centre = (b - c) / n, (b - c) / (n + 2)
    half = _quantile(confidence) * math.sqrt((b + c + 1) - (b - c) ** 2 / (n + 2)) / (n + 2)
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    p_value = _sign_test(b, c)
    return PairedComparison(difference, min(low, difference), max(high, difference), p_value, c, b, n)


def bootstrap_paired(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> PairedComparison:
    """Compare two policies on the same problems, in the same order, whose rewards are means over several samples.

    The interval is the percentile bootstrap of the mean difference, problems drawn with replacement (Efron and
    Tibshirani 1993, chapter 13). The p-value is that of the two-sided paired randomisation test (Fisher 1935): under
    equal policies the sign of each problem's difference is a fair coin. Both are the same for the same seed.

    Returns:
        `only_first` and `only_second` count the problems on which that policy has the higher mean.

    Raises:
        ValueError: if the lengths differ or are 0, or draws is below 1.
    """
    if len(first) != len(second) or not first or draws < 1:
        raise ValueError(
            f"bootstrap_paired needs the same problems for both and at least one draw, got {len(first)} and "
            f"{len(second)} rewards and {draws} draws"
        )
    _quantile(confidence)
    differences = np.subtract(second, first)
    rng = np.random.default_rng(seed)
    n = len(differences)
    observed = float(differences.mean())
    means, flipped = [], []
    for _ in range(draws):
        means.append(differences[rng.integers(0, n, n)].mean())
        flipped.append(differences @ rng.choice((-1.0, 1.0), n) / n)
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(means, (tail, 1 - tail)))
    extreme = int(np.sum(np.abs(flipped) >= abs(observed) - 1e-12))
    return PairedComparison(
        observed,
        min(low, observed),
        max(high, observed),
        (1 + extreme) / (1 + draws),
        int(np.sum(differences < 0)),
        int(np.sum(differences > 0)),
        n,
    )


def _sign_test(b: int, c: int) -> float:
    """Two-sided exact p-value of b against c heads of a fair coin."""
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    outcomes: int = 2 ** (b + c)
    return min(1.0, 2 * tail / outcomes)


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}; 0.95 is usual")
    return NormalDist().inv_cdf(0.5 + confidence / 2)
