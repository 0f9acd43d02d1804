"""What answers are read as, and that reading is bounded."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.evaluate import InexactError, NoValueError, OutOfTimeError, exact, time_limit
from eval.syntax import Node, NotReadError, UnknownCommandError, parse
from eval.units import conversion, unit_name


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("5", "number"),
        (r"1\frac{1}{2}", "number"),
        ("x+1", "+"),
        ("2x", "*"),
        ("x^2", "^"),
        (r"\sqrt{x}", "root"),
        (r"\sin x", "call"),
        ("f(x)", "apply"),
        ("5 cm", "quantity"),
        ("1, 2", "list"),
        ("(1, 2)", "()"),
        ("[0, 1)", "[)"),
        ("]0, 1[", "()"),
        (r"\{1, 2\}", "{}"),
        (r"\{x : x > 1\}", "builder"),
        (r"(0,1) \cup (2,3)", "union"),
        ("x < 3", "relation"),
        ("{x: 1, y: 2}", "list"),
        ("1:2", "ratio"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "matrix"),
        (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "det"),
        (r"1 \pm 2", "+"),
    ],
)
def test_heads(text: str, head: str) -> None:
    assert parse(text).head == head


@pytest.mark.parametrize(
    ("latex", "python"),
    [
        (r"\frac{x}{2}", "x/2"),
        (r"3 \cdot \sqrt{2}", "3*sqrt(2)"),
        (r"x^{2}", "x**2"),
        (r"(1, \pi)", "(1, pi)"),
        (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", "Matrix([[1, 2]])"),
        (r"[0, 1)", "Interval.Ropen(0, 1)"),
        (r"e^{x}", "exp(x)"),
        ("x = 3", "Eq(x, 3)"),
        (r"\{1, 2\}", "FiniteSet(1, 2)"),
    ],
)
def test_latex_and_python_are_read_alike(latex: str, python: str) -> None:
    assert parse(latex) == parse(python)


@pytest.mark.parametrize(
    "text", ["1 2", "5.5.5", "((5", "between 3 and 5", "5 if x else 6", "lambda: 5", "x[0]", "0x1F", "5%0"]
)
def test_what_is_no_answer_is_not_read(text: str) -> None:
    with pytest.raises(NotReadError):
        parse(text)


@pytest.mark.parametrize("text", [r"\int_0^1 x", r"\sum_k k", r"\begin{cases} 1 \end{cases}"])
def test_unknown_commands_are_told_apart(text: str) -> None:
    with pytest.raises(UnknownCommandError):
        parse(text)


@given(st.text(alphabet=r"0123456789.,+-*/^_{}()[]\|<>=:;!%'$& xyesinpafrctq", max_size=60))
def test_reading_fails_in_one_way_only(text: str) -> None:
    try:
        assert isinstance(parse(text), Node)
    except NotReadError as error:
        assert str(error)


@given(
    st.recursive(
        st.integers(0, 99).map(str),
        lambda t: st.tuples(t, st.sampled_from("+-*"), t).map("({0[0]}{0[1]}{0[2]})".format),
    )
)
def test_arithmetic_means_what_python_means(text: str) -> None:
    assert exact(parse(text), {}) == Fraction(eval(text))


@pytest.mark.parametrize("text", ["1/0", "9**9**9", "0^0", "99999999!", "x+cat"])
def test_what_has_no_value_is_not_computed(text: str) -> None:
    with pytest.raises((NoValueError, InexactError, NotReadError)):
        exact(parse(text), {})


def test_evaluation_ends_in_time() -> None:
    with pytest.raises(OutOfTimeError), time_limit(0.0):
        exact(parse("1+1"), {})
    assert exact(parse("1+1"), {}) == 2


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([("square", 1), ("inches", 1)], "inch^2"),
        ([("cm", 2)], "cm^2"),
        ([("miles", 1), ("hour", -1)], "mile hour^-1"),
        ([("mph", 1)], "mile hour^-1"),
        ([("eggs", 1)], "egg"),
    ],
)
def test_units_have_one_name(words: list[tuple[str, int]], name: str) -> None:
    assert unit_name(words) == name


def test_units_convert_within_their_kind() -> None:
    assert conversion("m", "cm") == 100
    assert conversion("hour", "min") == 60
    assert conversion("m^2", "cm^2") == 10_000
    assert conversion("m", "s") is None
    assert conversion("m^2", "m^3") is None
