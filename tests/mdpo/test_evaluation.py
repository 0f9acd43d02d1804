"""The numbers of an evaluation, worked out by hand on small sets of trajectories."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import Problem
from mdpo.errors import DataError
from mdpo.evaluation import compare, evaluate, lengths
from mdpo.trajectory import StopReason, Trajectory, Turn


def problem(number: int, **fields: str) -> Problem:
    return Problem(f"p{number}", f"question {number}", "1", "set", **fields)


def call(status: str = "ok") -> Turn:
    return Turn("…", [1, 2], [-1.0, -1.0], "print(1)", "1", [3], status, 0.5)


def made(
    number: int,
    reward: float,
    sample: int = 0,
    turns: Sequence[Turn] = (),
    prediction: str | None = "1",
    stop: StopReason = "answered",
) -> Trajectory:
    turns = [*turns, Turn("answer", [4], [-1.0])]
    return Trajectory(
        f"p{number}", sample, f"question {number}", "1", "set", [0], turns, stop, prediction, reward, "policy", {}
    )


def equal_as_numbers(pairs: Iterable[tuple[str | None, str]]) -> list[bool]:
    return [float(str(a)) == float(b) for a, b in pairs]


def test_one_attempt_a_problem_gives_accuracy_and_its_wilson_interval() -> None:
    result = evaluate([made(i, reward=i < 50) for i in range(100)], [problem(i) for i in range(100)])
    assert (result.accuracy, result.right, result.problems, result.samples) == (0.5, 50, 100, 1)
    assert result.ci95 == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert list(result.pass_at) == list(result.maj_at) == [1]


def test_several_attempts_give_pass_at_k_by_the_unbiased_estimate() -> None:
    rewards = [[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    trajectories = [made(i, reward, s) for i, each in enumerate(rewards) for s, reward in enumerate(each)]
    result = evaluate(trajectories, [problem(0), problem(1)])
    found = {k: score.accuracy for k, score in result.pass_at.items()}
    # 1 - C(4, k) / C(6, k) for the first problem, k / 6 for the second
    assert found == pytest.approx({1: (2 + 1) / 12, 2: (9 / 15 + 1 / 3) / 2, 4: (14 / 15 + 2 / 3) / 2, 6: 1})
    assert result.accuracy == pytest.approx(1 / 4)


def test_majority_votes_count_equal_answers_and_not_equal_texts() -> None:
    answers = ["1", "2", "2.0", None]
    trajectories = [made(0, answer == "1", sample, prediction=answer) for sample, answer in enumerate(answers)]
    result = evaluate(trajectories, [problem(0)], equal_as_numbers)
    assert {k: score.accuracy for k, score in result.maj_at.items()} == {1: 1, 2: 1, 4: 0}
    assert evaluate(trajectories, [problem(0)], same=None).maj_at == {}


def test_groups_are_those_that_the_problems_know() -> None:
    problems = [problem(0, subject="Algebra"), problem(1, subject="Algebra"), problem(2)]
    result = evaluate([made(0, 1), made(1, 0), made(2, 1)], problems)
    assert list(result.by) == ["source", "subject"]
    found = {name: (score.problems, score.accuracy) for name, score in result.by["subject"].items()}
    assert found == {"Algebra": (2, 0.5), "unknown": (1, 1.0)}


def test_tool_use_tells_errors_timeouts_and_answers_after_them() -> None:
    trajectories = [
        made(0, 1, turns=[call("error"), call()]),
        made(1, 0, turns=[call("timeout")]),
        made(2, 1, turns=[call()]),
        made(3, 0, turns=[call("memory")], stop="horizon", prediction=None),
        made(4, 0),
    ]
    tool = evaluate(trajectories, [problem(i) for i in range(5)]).tool
    assert (tool.calls, tool.used) == (1.0, 0.8)
    assert (tool.errors, tool.timeouts, tool.other_failures) == (0.2, 0.2, 0.2)
    assert (tool.answers_after_error, tool.right_after_error) == (0.5, 0.5)
    assert tool.seconds == 0.5


def test_without_programs_there_are_no_shares_of_programs() -> None:
    tool = evaluate([made(0, 1)], [problem(0)]).tool
    assert (tool.calls, tool.errors, tool.answers_after_error, tool.right_after_error) == (0, None, 0, None)


def test_lengths_and_stop_reasons_are_counted() -> None:
    result = evaluate([made(0, 1, turns=[call()]), made(1, 0, stop="no_code")], [problem(0), problem(1)])
    assert (result.sampled.mean, result.sampled.max, result.tokens.max, result.turns.mean) == (2, 3, 5, 1.5)
    assert result.stop_reasons == {"answered": 1, "no_code": 1}
    assert result.action_tokens == 4


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_at_least_95_percent_of_lengths_do_not_exceed_p95(values: list[int]) -> None:
    found = lengths(values)
    assert sum(value <= found.p95 for value in values) >= 0.95 * len(values)
    assert found.p95 in values


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.randoms())
def test_the_order_of_a_file_changes_nothing(right: list[int], random: object) -> None:
    trajectories = [made(i, s < count, s) for i, count in enumerate(right) for s in range(3)]
    problems = [problem(i) for i in range(len(right))]
    shuffled = list(trajectories)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert evaluate(shuffled, problems, same=None) == evaluate(trajectories, problems, same=None)


@pytest.mark.parametrize(
    ("trajectories", "says"),
    [
        ([], "0 to 0 times"),
        ([made(0, 1), made(0, 1, 1), made(1, 1)], "1 to 2 times"),
        ([made(7, 1)], "p7, which is not"),
    ],
)
def test_an_incomplete_evaluation_has_no_result(trajectories: list[Trajectory], says: str) -> None:
    with pytest.raises(DataError, match=says):
        evaluate(trajectories, [problem(0), problem(1)])


def test_a_gold_answer_that_changed_since_is_noticed() -> None:
    with pytest.raises(DataError, match=r"judged by another gold answer \(1, now 2\)"):
        evaluate([made(0, 1)], [replace(problem(0), answer="2")])


def test_single_attempts_are_compared_by_mcnemar() -> None:
    first, second = [made(i, i < 1) for i in range(7)], [made(i, i >= 1) for i in range(7)]
    compared = compare(first, reversed(second))
    assert compared.method == "McNemar, exact"
    assert compared.difference.p_value == pytest.approx(2 * 8 / 2**7)
    assert compared.second.accuracy - compared.first.accuracy == pytest.approx(compared.difference.difference)


def test_means_of_several_attempts_are_compared_by_the_bootstrap() -> None:
    first = [made(i, s < 1, s) for i in range(4) for s in range(2)]
    compared = compare(first, [made(i, 1) for i in range(4)])
    assert (compared.method, compared.difference.difference) == ("paired bootstrap", 0.5)


def test_different_problems_are_not_compared() -> None:
    with pytest.raises(DataError, match=r"1 are only in the first, 0 only in the second, of 2 and 1"):
        compare([made(0, 1), made(1, 1)], [made(0, 1)])
