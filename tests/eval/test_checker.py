"""Which answers equal which gold answers, and that checking is safe."""

import asyncio
import json
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import check, check_many, extract_answer
from tests.eval.checker_policy import POLICY

SHARED = Path(os.environ.get("MDPO_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
CASES = [json.loads(line) for line in Path(__file__).with_name("checker_cases.jsonl").open(encoding="utf-8")]
KINDS = list(dict.fromkeys(case["kind"] for case in CASES))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_answers(kind: str) -> None:
    cases = [case for case in CASES if case["kind"] == kind and case["expected"]]
    assert [case for case in cases if not check(case["prediction"], case["answer"])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_different_answers(kind: str) -> None:
    cases = [case for case in CASES if case["kind"] == kind and not case["expected"]]
    assert [case for case in cases if check(case["prediction"], case["answer"])] == []


@pytest.mark.parametrize(("rule", "prediction", "gold", "verdict"), POLICY, ids=[case[0] for case in POLICY])
def test_policy(rule: str, prediction: str, gold: str, verdict: bool) -> None:
    assert check(prediction, gold) is verdict, rule


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_ten_cases(kind: str) -> None:
    assert sum(case["kind"] == kind for case in CASES) >= 10


@pytest.mark.parametrize("prediction", [None, "", "  "])
def test_no_prediction_is_wrong(prediction: str | None) -> None:
    assert not check(prediction, "5")
    assert not check(prediction, "")


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


def test_works_in_async_code() -> None:
    async def main() -> list[bool]:
        return await asyncio.gather(
            *(asyncio.to_thread(check, rf"\sqrt{{{3 * n * n}}}", rf"{n}\sqrt{{3}}") for n in (2, 3))
        )

    assert asyncio.run(main()) == [True, True]
    assert check(r"\lim_{x\to 0} x", r"\lim_{x\to 0} x")


@pytest.mark.parametrize(
    "text", [r"\sum_{k=1}^{10^{12}} \frac{1}{k}", r"\{" + ",".join(rf"\ln(x+{n})" for n in range(150)) + r"\}"]
)
def test_the_limit_is_wall_time(text: str) -> None:
    check(r"\int x", "5")  # the worker is ready
    start = time.monotonic()
    assert not check(text, text.replace("1", "2", 1), limit=0.5)
    assert time.monotonic() - start < 1.0


DRESSES = (
    "{:,}", "${}$", r"\${:,}", "{}.0", "{}.", r"{}\text{{ cm}}", "x = {}", r"\boxed{{{}}}", "{} dollars",
    r"\frac{{{}}}{{1}}",
    "{}00%", "Rational({}, 1)", "[{}]", r"\text{{{}}}", "{}e0", r"{} \cdot 1", "np.int64({})", "({}+0j)",
    r"\left( {} \right)",
)  # fmt: skip


@given(st.integers(1, 10**9), st.sampled_from(DRESSES))
def test_a_number_is_itself_in_any_dress(value: int, dress: str) -> None:
    assert check(dress.format(value), str(value))
    assert check(str(value), dress.format(value))
    assert not check(dress.format(value), str(value + 1))


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-50, 50))
def test_products_equal_their_expansion_only(a: int, b: int, c: int) -> None:
    expanded = f"x^2 + ({a + b})x + ({a * b})"
    assert check(f"(x + ({a}))(x + ({b}))", expanded)
    assert check(f"(x + {a})*(x + {b})", expanded)
    assert check(f"(x + ({a}))(x + ({c}))", expanded) == (c == b)


@given(st.integers(2, 200), st.integers(2, 20))
def test_roots_equal_their_simplified_form(n: int, k: int) -> None:
    assert check(rf"\sqrt{{{n * k * k}}}", rf"{k}\sqrt{{{n}}}")
    assert not check(rf"\sqrt{{{n * k * k + 1}}}", rf"{k}\sqrt{{{n}}}")


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=5, unique=True), st.randoms())
def test_sets_have_no_order_and_points_have_one(items: list[int], random) -> None:
    shuffled = random.sample(items, len(items))
    a, b = (", ".join(map(str, row)) for row in (items, shuffled))
    assert check(rf"\{{{a}\}}", rf"\{{{b}\}}")
    assert check(f"({a})", f"({b})") == (items == shuffled)


@given(st.integers(-20, 20), st.integers(1, 20), st.sampled_from(["<", r"\le"]), st.sampled_from(["<", r"\le"]))
def test_inequalities_are_intervals(low: int, width: int, left: str, right: str) -> None:
    brackets = ("(" if left == "<" else "[", ")" if right == "<" else "]")
    interval = f"{brackets[0]}{low}, {low + width}{brackets[1]}"
    assert check(f"{low} {left} x {right} {low + width}", interval)
    assert not check(f"{low} {left} x {right} {low + width + 1}", interval)


def test_check_many_keeps_the_order() -> None:
    pairs = [("1", "1"), (r"\sqrt{8}", r"2\sqrt{2}"), ("2", "1"), (None, "1"), ("1", "1")]
    assert check_many(pairs, workers=2) == [True, True, False, False, True]
    assert check_many([]) == []


@pytest.mark.parametrize("name", ["math_test", "gsm8k_test"])
def test_gold_answers_accept_themselves_in_any_style(name: str) -> None:
    golds = [row["answer"] for row in _rows(name)]
    styled = [(f"${gold}$".replace(r"\frac", r"\dfrac"), gold) for gold in golds]
    assert [pair for pair, equal in zip(styled, check_many(styled), strict=True) if not equal] == []


@pytest.mark.parametrize("name", ["math_test", "gsm8k_test"])
def test_gold_solutions_state_their_gold_answers(name: str) -> None:
    pairs = [(extract_answer(row["solution"]), row["answer"]) for row in _rows(name)]
    assert [pair for pair, equal in zip(pairs, check_many(pairs), strict=True) if not equal] == []


@pytest.mark.parametrize("name", ["math_test", "gsm8k_test"])
def test_gold_answers_reject_the_next(name: str) -> None:
    golds = [row["answer"] for row in _rows(name)]
    pairs = [pair for pair in pairwise(golds) if pair[0] != pair[1]]
    accepted = [pair for pair, equal in zip(pairs, check_many(pairs), strict=True) if equal]
    assert accepted == (
        [(r"\frac{3}{4}", r"\frac34"), (r"120^\circ", "120"), (r"7\%", "7")] if name == "math_test" else []
    )


def _rows(name: str) -> list[dict]:
    path = SHARED / f"data/{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no shared problems at {path}")
    return [json.loads(line) for line in path.open(encoding="utf-8")]


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
    assert right >= 0.99 * len(cases)


def test_the_papers_grader_is_a_mode():
    assert check("10001", "10000", mode="paper")
    assert not check("10001", "10000")
    assert not check(None, "1", mode="paper")


def test_an_unknown_mode_names_those_that_there_are():
    with pytest.raises(ValueError, match="no mode 'loose': give 'strict' or 'paper'"):
        check("1", "1", mode="loose")
