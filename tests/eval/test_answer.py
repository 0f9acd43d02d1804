"""Where the final answer of a text is found."""

import json
import os
import time
from pathlib import Path

import pytest

from eval import extract_answer

SHARED = Path(os.environ.get("MDPO_SHARED", Path(__file__).resolve().parents[2] / "../shared"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so $\boxed{18}$.", "18"),
        (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"$\boxed{\{1,2\}}$", r"\{1,2\}"),
        (r"\fbox{42}", "42"),
        (r"\boxed {42}, \boxed 7", "7"),
        (r"\boxed{$5$}", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"first \boxed{3}, then \boxed{5}", "5"),
        ("#### 1,200", "1,200"),
        ("#### 5\nno:\n#### 6\n", "6"),
        ("The answer is 3.5.", "3.5"),
        ("THE ANSWER IS: **42**.", "42"),
        (r"the answer is $\frac12$. I hope so.", r"\frac12"),
    ],
)
def test_finds(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    ["", "42", "8 fruits", "####", "### 5", "The answer is", r"\boxed{}", r"\boxed{5", r"\boxed{{5}", "boxes of 5"],
)
def test_states_no_answer(text: str) -> None:
    assert extract_answer(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5\}", None),
        (r"\boxed{5} then \boxed{}", None),
        (r"\boxed{\boxed{}}", None),
        (r"\boxedx{5}", None),
        (r"\boxed\frac{1}{2}", r"\frac{1}{2}"),
        (r"\\boxed{5}", "5"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),
        (r"\boxed{a\\b}", r"a\\b"),
        (r"\boxed{7}. I used `\boxed{...}`.", "7"),
        (r"`\boxed{7}`", "7"),
        ("~~~python\n\\boxed{3}\n~~~\nNow \\boxed{4}", "4"),
        ("  ```python\n  print('\\\\boxed{3}')\n  ```\n\\boxed{4}", "4"),
    ],
)
def test_boxes_that_models_write(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### Step 3\nno", None),
        ("#### 3. Check the total", None),
        ("#### 42\n#### Check", "42"),
        ("#### $1,234.50", "$1,234.50"),
        ("#### -7", "-7"),
        ("#### B", "B"),
        (r"#### \frac{1}{2}", r"\frac{1}{2}"),
        ("#### 5 apples", "5 apples"),
    ],
)
def test_hashes_are_answers_and_no_headings(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is $\$5$.", r"\$5"),
        ("The answer is `42`.", "42"),
        ("the final answer is:\n$$\\frac12$$", r"\frac12"),
        ("The answer is 3 1/2.", "3 1/2"),
        ("The answer is 2.5e-3.", "2.5e-3"),
        ("The answer is A. Because", "A"),
        ("The answer is\n\n5", "5"),
        ("the answers are 5 and 6", None),
    ],
)
def test_phrases_end_with_their_formula_or_sentence(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_box_wins_over_hashes_and_phrase() -> None:
    assert extract_answer("The answer is 1.\n#### 2\n\\boxed{3}") == "3"


def test_an_open_last_box_does_not_fall_back_on_an_earlier_one() -> None:
    assert extract_answer(r"\boxed{3} but then \boxed{4") is None


def test_code_and_its_output_are_not_the_answer() -> None:
    assert extract_answer("```python\nprint('\\\\boxed{5}')\n```\n```output\n\\boxed{5}\n```") is None


def test_last_number_is_taken_on_request_only() -> None:
    assert extract_answer("3 apples and 1,500.5 pears") is None
    assert extract_answer("3 apples and 1,500.5 pears", fallback="last_number") == "1,500.5"
    assert extract_answer("no number", fallback="last_number") is None


@pytest.mark.parametrize("piece", ["\\boxed{", "The answer is ", "#### 1\n", "```\n", "$", "{", "\\"])
def test_time_is_linear(piece: str) -> None:
    start = time.perf_counter()
    extract_answer(piece * (1_000_000 // len(piece)))
    assert time.perf_counter() - start < 5


def test_agrees_with_the_judged_cases() -> None:
    path = SHARED / "bench/extract_dev.jsonl"
    if not path.is_file():
        pytest.skip(f"no shared cases at {path}")
    cases = [case for case in map(json.loads, path.open(encoding="utf-8")) if case["judged"] and "text" in case]
    wrong = [case["id"] for case in cases if not _agrees(extract_answer(case["text"]), case)]
    assert wrong == []


def _agrees(answer: str | None, case: dict) -> bool:
    accepted = [case["expected"], *(case["also"] or [] if "also" in case else [])]
    return answer in accepted or (
        answer is not None and "".join(answer.split()) in ["".join(a.split()) for a in accepted if a]
    )
