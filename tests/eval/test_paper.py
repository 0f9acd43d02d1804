"""The paper's grader: as lenient as published, and safe where the original is not."""

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.paper import check_paper, normalise


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [("12", "1200"), ("0.5", "50"), ("10001", "10000"), ("2000", "20"), ("1,2,3", "123"), (r"\$5", "0.05")],
)
def test_numbers_are_equal_within_1e_4_of_gold_and_of_its_hundredth_and_hundredfold(prediction: str, gold: str) -> None:
    assert check_paper(prediction, gold)


def test_two_numbers_that_differ_by_more_are_different() -> None:
    assert not check_paper("10002", "10000")


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [("2(3)", "23"), ("[1,2]", "1,2"), (r"(-\infty, 3)", r"(-\infty, 3]"), ("-(x+1)", "-x+1"), ("{1,2}", "1,2")],
)
def test_brackets_are_dropped(prediction: str, gold: str) -> None:
    assert check_paper(prediction, gold)


@pytest.mark.parametrize(("prediction", "gold"), [("[1,2]", "(1,2)"), ("{1,2}", "{2,1}"), ("(1,3)", "(1,2)")])
def test_lists_need_the_same_brackets_and_order(prediction: str, gold: str) -> None:
    assert not check_paper(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        (r"\dfrac12", "0.5"),
        (r"\sqrt{12}", r"2\sqrt{3}"),
        ("(x-1)^2", "x^2-2x+1"),
        (r"(\frac{2}{4}, 50)", "(0.5, 0.5)"),
        (r"1.4139", r"\sqrt{2}"),
        (r"\tan^{-1} 1", r"\arctan 1"),
        (r"\log_28", "3"),
        ("((x)**2+1)/2", r"\frac{x^2+1}{2}"),
    ],
)
def test_equal_expressions(prediction: str, gold: str) -> None:
    assert check_paper(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("sqrt(3)/2", r"\frac{\sqrt{3}}{2}"),  # letters multiply
        ("1.25", r"1\frac{1}{4}"),  # a mixed number is a product
        ("3.14159", r"\pi"),  # a letter
        ("n(n+1)", "n^2+n"),  # a function of n+1
        ("x+y=2", "y+x=2"),  # relations have no difference
        (r"\frac{x}{2}", r"\frac{X}{2}"),
    ],
)
def test_refusals_of_the_original(prediction: str, gold: str) -> None:
    assert not check_paper(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"), [("x**2", "x"), ("x, y", "x, z"), ("x)+3", "x)+4"), ("(x-5)(x+1)", "(x-5)(x+2)")]
)
def test_reading_stops_where_the_original_stops(prediction: str, gold: str) -> None:
    assert check_paper(prediction, gold)


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("2 and 3", "23"),
        ("information", r"\inftyormation"),
        (r"25^\circ", "25"),
        (r"5 \text{ cm}", "5"),
        (r"50\%", "50"),
        ("k = 3.00", "3"),
        (r"3 \cdot 4", "34"),
        ("1/2", r"\frac{1}{2}"),
        (r"\left(\tfrac12, \sqrt3\right)", r"(\frac{1}{2},\sqrt{3})"),
    ],
)
def test_one_spelling(text: str, spelling: str) -> None:
    assert normalise(text) == spelling


@pytest.mark.parametrize("text", [None, "", "  ", "nan", "inf", "0/0", r"\frac{1}{0}", r"\text{}", "5" * 10_000])
def test_no_answer_and_no_value_equal_nothing(text: str | None) -> None:
    assert not check_paper(text, "5")


@pytest.mark.parametrize(
    "code",
    [
        "open('ran','w')",
        "sqrt(open('ran','w'))",
        "[__import__('os').mkdir('ran')]",
        "(lambda: open('ran','w'))()",
        "(x).__class__",
        "((open('ran','w')))**2",
    ],
)
def test_nothing_is_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_paper("1+y", "y+1")
    assert not check_paper(code, "5")
    assert not os.listdir(tmp_path)  # noqa: PTH208


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^{9}}}",
        "999999999!",
        "10**10**8",
        "binomial(10**9,10**8)",
        r"\binom{99999999}{9999999}",
        "(x+1)" * 300,
        "x^{" * 500 + "2" + "}" * 500,
        "((1" * 600,
    ],
)
def test_time_is_bounded_and_the_next_answer_is_right(text: str) -> None:
    check_paper("1+y", "y+1")
    start = time.monotonic()
    assert not check_paper(text, "5", limit=0.5)
    assert time.monotonic() - start < 2.5
    assert check_paper("1+y", "y+1")


def test_the_limit_holds_for_all_elements_together() -> None:
    slow = ",".join(f"9^{{9^{{9^{{{n}}}}}}}+{n}" for n in range(30))
    start = time.monotonic()
    check_paper(f"({slow})", f"({slow}0)", limit=0.5)
    assert time.monotonic() - start < 2.5


def test_any_thread_may_ask() -> None:
    verdicts: list[bool] = []
    threads = [threading.Thread(target=lambda: verdicts.append(check_paper("2+x", "x+2"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 4


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet=r"0123456789xyn+-*/^_!|=<>,.'(){}[]\ %$", max_size=30))
def test_no_text_raises_and_each_equals_itself(text: str) -> None:
    check_paper(text, "5+x")
    assert check_paper(text, text) == bool(text.strip())


@settings(deadline=None)
@given(st.fractions(max_denominator=99), st.integers(1, 9))
def test_equal_fractions_are_equal(value: object, factor: int) -> None:
    top, bottom = value.numerator * factor, value.denominator * factor  # type: ignore[attr-defined]
    assert check_paper(rf"\frac{{{top}}}{{{bottom}}}", str(value))
