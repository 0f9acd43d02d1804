"""What counts as a test problem inside training data, and what does not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import BenchmarkError, Problem, load_benchmark
from eval.contamination import Overlap, find_contamination, normalise, read_texts

SHARED = Path(os.environ.get("MDPO_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
SHORT = Problem("short", "What is 6 * 7?", "42", "test")
LONG = Problem("long", " ".join(f"word{i}" for i in range(16)) + "?", "1", "test")


def find(*texts: str) -> list[Overlap]:
    return find_contamination([[text] for text in texts], [SHORT, LONG])


@pytest.mark.parametrize(
    "text", ["What is 6 * 7?", "  what IS\n6*7", "WHAT IS 6 · 7", "Solve:\nWhat is 6 * 7?\nThanks"]
)
def test_case_space_and_punctuation_hide_nothing(text: str) -> None:
    assert [(o.problem_id, o.kind, o.coverage) for o in find(text)] == [("short", "exact", 1.0)]


def test_a_short_question_inside_a_sentence_is_another_problem() -> None:
    assert find("What is 6 * 7 + 1?", "I ask: what is 6 * 7?", "", "***") == []


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() -> None:
    words = LONG.question.split()
    assert find("Once " + " ".join(words[2:14]) + " again") == []
    (overlap,) = find("nothing", "Once " + " ".join(words[1:14]) + ", again")
    assert overlap == Overlap("long", 2, "ngram", 1 / 4, " ".join(words[1:14]))


def test_an_exact_match_is_reported_once() -> None:
    assert [overlap.kind for overlap in find(LONG.question + " " + LONG.question, LONG.question)] == ["ngram", "exact"]


@given(st.text())
def test_normalising_twice_is_normalising_once(text: str) -> None:
    words = normalise(text)
    assert normalise(" ".join(words)) == words


def test_every_text_of_a_row_is_looked_at(tmp_path: Path) -> None:
    rows: list[Any] = [{"id": 1, "messages": [{"role": "user", "content": SHORT.question}]}, ["x", {"y": ["z"]}]]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert list(read_texts(path)) == [["user", SHORT.question], ["x", "z"], []]
    assert [overlap.line for overlap in find_contamination(read_texts(path), [SHORT])] == [1]


@pytest.mark.parametrize(("text", "says"), [(None, "no training file"), ('{"a": 1}\n{', "line 2 is no JSON")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "t.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BenchmarkError, match=says):
        list(read_texts(path))


def test_real_sets_tell_a_leak_from_shared_phrases() -> None:
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip(f"no shared problems at {data}")
    tests = load_benchmark("gsm8k", path=data / "gsm8k_test.jsonl")
    clean = find_contamination(read_texts(data / "gsm8k_train.jsonl"), tests)
    assert all(overlap.kind == "ngram" for overlap in clean)
    assert len(clean) < 10
    math500 = load_benchmark("math500", path=data / "math500_test.jsonl")
    whole = find_contamination(read_texts(data / "math_test.jsonl"), math500)
    assert len({overlap.problem_id for overlap in whole if overlap.kind == "exact"}) == 500
