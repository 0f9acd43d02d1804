"""Which answers equal which gold answers, and that checking is safe."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import check, check_many

SHARED = Path(os.environ.get("MDPO_SHARED", Path(__file__).resolve().parents[2] / "../shared"))


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("007", "7"),
        ("64.0", "64"),
        ("−8", "-8"),
        ("1,234", "1234"),
        ("25000", r"25,\!000"),
        ("1_000_000", "1000000"),
        (r"\$1,234.50", "1234.5"),
        ("20 dollars", r"\$20"),
        ("1.5e3", "1500"),
        ("1.6×10⁻¹⁹", "1.6e-19"),
        ("0.5", r"\frac12"),
        ("-2.5", r"-2\frac{1}{2}"),
        ("1 1/4", "5/4"),
        (r"0.1\overline{6}", "1/6"),
        (r"50\%", "0.5"),
        ("65", r"65\%"),
        ("18 eggs", "18"),
        ("24 cm²", r"24 \text{ cm}^2"),
        ("0.3333333333333333", "1/3"),
        ("0.30000000000000004", "0.3"),
        ("1.4142135623730951", r"\sqrt{2}"),
    ],
)
def test_equal_numbers(prediction: str, gold: str) -> None:
    assert check(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("sqrt(3)/2", r"\frac{\sqrt{3}}{2}"),
        ("x**2 - 5", "x^2-5"),
        ("Rational(1, 2)", r"\frac12"),
        ("np.float64(0.5)", r"\frac12"),
        ("{x: 3, y: 4}", "x=3, y=4"),
        ("[1, 2]", "1, 2"),
        ("Matrix([[1, 2], [3, 4]])", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        ("Union(Interval.open(-oo, 2), Interval.open(3, oo))", r"(-\infty, 2) \cup (3, \infty)"),
        ("Interval(-oo, 0)", r"(-\infty,0]"),
        ("(3+5j)", "3+5i"),
        ("-12 + 15*I", "-12+15i"),
    ],
)
def test_what_python_prints(prediction: str, gold: str) -> None:
    assert check(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        (r"\dfrac{6\sqrt{5}}{5}", r"\frac{6}{\sqrt{5}}"),
        (r"(1, 4.5)", r"\left(1,\frac{9}{2}\right)"),
        (r"\{3, 1\}", r"\{1,3\}"),
        ("x > 5", r"(5, \infty)"),
        (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}, 1 - \sqrt{19}"),
        ("6:2", "3:1"),
        ("x=5", "5"),
        ("(x,y) = (3,2)", "(3,2)"),
        ("2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}"),
        ("i^2", "-1"),
        ("C", r"\text{(C)}"),
        ("a parabola", r"\text{parabola}"),
        ("20th June", r"\text{June 20}"),
        ("1:03 p.m.", r"\text{1:03 PM}"),
        (r"42_{\text{seven}}", "42_7"),
    ],
)
def test_equal_answers(prediction: str, gold: str) -> None:
    assert check(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("0.33", "1/3"),
        ("10001", "10000"),
        ("9007199254740993", "9007199254740992"),
        ("1234567890.5", "1234567890"),
        ("1,2,3", "123"),
        ("(1,234)", "1234"),
        ("12", "1 2"),
        ("2000", "20"),
        (r"0.5\%", "0.5"),
        ("5 m", "5 cm"),
        ("€5", r"\$5"),
        (r"25^\circ C", r"25^\circ F"),
        ("42_7", "427"),
        (r"0.\overline{12}", r"0.\overline{21}"),
        ("(2,1)", "(1,2)"),
        ("(2,1)", r"\{1,2\}"),
        ("[0, 1)", "[0, 1]"),
        ("5, 6", "5"),
        ("3 or 4", "3"),
        ("> 3", "3"),
        ("3 = 4", "4"),
        ("y = 5", "x = 5"),
        ("f(3) = 7", "f(7) = 3"),
        (r"\pi r^2", r"\pi R^2"),
        ("2X+1", "2x+1"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        ("2^{100}", "1267650600228229401496703205375"),
        ("not A", "A"),
        ("The answer is not 5, it is 6", "5"),
        (r"\text{no}", r"\text{yes}"),
        ("", "5"),
        (None, "5"),
        (r"\frac{5}{0}", "5"),
    ],
)
def test_different_answers(prediction: str | None, gold: str) -> None:
    assert not check(prediction, gold)


@pytest.mark.parametrize(
    "text",
    ["9**9**9", r"9^{9^{9^{9}}}", "9" * 1_000_000, "a" * 500_000, "5" + " " * 200_000 + "6", "{" * 20_000, "(" * 1_900,
     "-" * 1_900 + "1", "+".join("1" * 900), r"\frac{1}{" * 200 + "2" + "}" * 200, "1e9999999", "$" * 1_900,
     "[" * 900 + "]" * 900, r"\{" + ",".join(map(str, range(450))) + r"\}", "5 " + "ab " * 600],
)  # fmt: skip
def test_hostile_texts_are_different_in_bounded_time(text: str) -> None:
    start = time.monotonic()
    assert not check(text, "5")
    assert not check("5", text)
    assert time.monotonic() - start < 20


PIECES = (
    "$",
    r"\$",
    "x=",
    "1,",
    "1 ",
    "ab ",
    "5 ab ",
    "1:",
    "x<",
    r"\pm 1,",
    r"(0,1)\cup",
    r"\text{a}",
    "[(",
    "½",
    "5_",
    "-",
)


@pytest.mark.parametrize("piece", PIECES)
def test_repeated_pieces_take_no_time(piece: str) -> None:
    text = piece * (1_990 // len(piece))
    start = time.monotonic()
    assert not any(check(a, b) for gold in ("5x", r"\{1,2\}", "(1,2)") for a, b in ((text, gold), (gold, text)))
    assert time.monotonic() - start < 5


@given(
    st.text(alphabet="0123456789.,-+*/^_{}[]()\\$%=<>|: axeiIEf'\"", max_size=25),
    st.sampled_from(["5", r"\frac12", "(1,2)"]),
)
@settings(deadline=None, max_examples=40)
def test_never_raises(text: str, gold: str) -> None:
    assert check(text, gold) in (True, False)
    assert check(gold, text) in (True, False)


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_fractions_equal_exactly_when_their_values_do(a, b) -> None:
    latex = rf"\frac{{{b.numerator}}}{{{b.denominator}}}"
    assert check(str(a), latex) == check(latex, str(a)) == (a == b)


@pytest.mark.parametrize(
    "code",
    ["[__import__('os').mkdir('ran')]", "open('ran','w').write('5')", "Matrix([[__import__('os').mkdir('ran')]])"],
)
def test_answers_are_never_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for gold in ("1", "x=1", r"\begin{pmatrix} 0 \end{pmatrix}"):
        assert not check(code, gold)
        assert not check(gold, code)
    assert list(tmp_path.iterdir()) == []


def test_works_in_threads() -> None:
    verdicts: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: verdicts.append(check(rf"\sqrt{{{n * n * 3}}}", rf"{n}\sqrt{{3}}")))
        for n in range(2, 8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 6


def test_check_many_keeps_the_order() -> None:
    pairs = [("1", "1"), (r"\sqrt{8}", r"2\sqrt{2}"), ("2", "1"), (None, "1"), ("1", "1")]
    assert check_many(pairs, workers=2) == [True, True, False, False, True]
    assert check_many([]) == []


@pytest.mark.parametrize("name", ["math_test", "gsm8k_test"])
def test_gold_answers_accept_themselves_in_any_style(name: str) -> None:
    path = SHARED / f"data/{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no shared problems at {path}")
    golds = [json.loads(line)["answer"] for line in path.open(encoding="utf-8")]
    styled = [(f"${gold}$".replace(r"\frac", r"\dfrac"), gold) for gold in golds]
    assert [pair for pair, equal in zip(styled, check_many(styled), strict=True) if not equal] == []


def test_agrees_with_mathematics_on_the_shared_cases() -> None:
    path = SHARED / "bench/checker_dev.jsonl"
    if not path.is_file():
        pytest.skip(f"no shared cases at {path}")
    cases = [case for case in map(json.loads, path.open(encoding="utf-8")) if case["expected"] is not None]
    cases = [case for case in cases if "prediction" in case and case["kind"] != "hostile"]
    verdicts = check_many([(case["prediction"], case["answer"]) for case in cases])
    false_positives = [c["id"] for c, equal in zip(cases, verdicts, strict=True) if equal and not c["expected"]]
    right = sum(equal == c["expected"] for c, equal in zip(cases, verdicts, strict=True))
    assert false_positives == []
    assert right >= 0.98 * len(cases)
