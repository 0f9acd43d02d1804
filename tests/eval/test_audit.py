"""The audits of gold answers and of graded answers."""

import dataclasses
import time

import pytest

from eval.audit import audit_answers, audit_golds, check_math_verify
from eval.benchmarks import Problem
from eval.errors import EvalError


def problem(number: int, answer: str, solution: str | None = None) -> Problem:
    return Problem(f"p{number}", "?", answer, "test", solution=solution)


def test_sound_golds_give_nothing() -> None:
    problems = [problem(1, "5", r"So $\boxed{5}$."), problem(2, r"\frac12", "#### 0.5"), problem(3, "x+1")]
    assert audit_golds(problems) == []


def test_a_solution_that_states_another_answer_is_found() -> None:
    (found,) = audit_golds([problem(1, "5", r"So $\boxed{6}$."), problem(2, "7")])
    assert (found.id, found.test, found.gold, found.other) == ("p1", "solution", "5", "6")


def test_a_solution_that_states_no_answer_is_found() -> None:
    (found,) = audit_golds([problem(1, "5", "It is five.")])
    assert (found.test, found.other) == ("solution", None)


def test_a_gold_that_rejects_itself_is_found() -> None:
    (found,) = audit_golds([problem(1, " ")])
    assert (found.id, found.test) == ("p1", "self")


def test_neighbours_that_are_equal_in_another_form_are_found() -> None:
    assert [(d.id, d.test) for d in audit_golds([problem(1, "0.5"), problem(2, r"\frac12")])] == [
        ("p1", "next"),
        ("p2", "next"),
    ]


def test_neighbours_that_differ_in_style_only_are_not_asked_about() -> None:
    assert audit_golds([problem(1, r"\dfrac12"), problem(2, r"\frac{1}{2}")]) == []


def test_answers_on_which_graders_differ_are_returned_with_the_verdicts() -> None:
    rows: list[dict[str, str | None]] = [
        {"id": "a", "prediction": "18", "answer": "18"},
        {"id": "b", "prediction": "10001", "answer": "10000"},
        {"id": "c", "prediction": "x**2 - 5", "answer": "x^2-5"},
        {"prediction": "5 m", "answer": "5 cm"},
        {"id": "e", "prediction": None, "answer": "1"},
    ]
    found = [dataclasses.astuple(d) for d in audit_answers(rows)]
    assert [(row, id_, *verdicts) for row, id_, _, _, *verdicts in found] == [
        (2, "b", False, True, False),
        (3, "c", True, False, False),
        (4, None, False, False, True),
    ]


def test_other_columns_and_other_types_do_no_harm() -> None:
    assert audit_answers([{"id": 7, "text": "…", "prediction": 18, "answer": 18.0}]) == []


@pytest.mark.parametrize("row", [{"prediction": "1"}, {"answer": "1"}, {"prediction": "1", "answer": None}, {}])
def test_a_row_without_its_columns_is_named(row: dict[str, object]) -> None:
    with pytest.raises(EvalError, match=r"row 2 has no '(answer|prediction)'"):
        audit_answers([{"prediction": "1", "answer": "1"}, row])


def test_math_verify_alone_is_bounded() -> None:
    assert check_math_verify(r"\frac{2}{4}", "0.5")
    start = time.monotonic()
    assert not check_math_verify(r"\sin(10^{10^{10}})", "1", limit=0.5)
    assert time.monotonic() - start < 2.5
