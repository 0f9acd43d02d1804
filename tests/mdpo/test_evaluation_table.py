"""What a person reads of an evaluation, and what they paste."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from eval import Problem
from eval.contamination import Overlap
from mdpo.evaluation import evaluate
from mdpo.evaluation_table import markdown, print_contamination, print_evaluation, print_findings
from mdpo.trajectory import Trajectory, Turn

MADE_WITH: dict[str, Any] = {
    "model": "org/a|b", "dtype": "bfloat16", "benchmark": "math500", "split": "test", "origin": "file.jsonl", "seed": 3,
    "limit": 4, "tool": True, "samples": 2, "sampling": {"temperature": 0.7, "horizon": 6, "max_tokens": 2048},
    "engine": {"kind": "vllm"},
}  # fmt: skip
PROBLEMS = [Problem(f"p{i}", "q", "1", "math500", "Algebra" if i else "Geometry", "5") for i in range(4)]
TURNS = [Turn("a", [1], [-1.0], "1/0", "error", [2], "error"), Turn("b", [3], [-1.0])]
RESULT = evaluate(
    [Trajectory(f"p{i}", s, "q", "1", "math500", [0], TURNS, "answered", "1", float(i != s), "policy", {})
     for i in range(4) for s in range(2)],
    PROBLEMS,
)  # fmt: skip


def shown(show: Any, *arguments: Any) -> str:
    output = io.StringIO()
    show(*arguments, Console(file=output, width=140))
    return output.getvalue()


def test_the_screen_has_split_count_interval_groups_tool_use_and_files() -> None:
    text = shown(print_evaluation, MADE_WITH, RESULT, Path("t.jsonl"), Path("t.json"))
    for part in (
        "math500 test: 75.0 % right, 95 % interval 30.1 – 95.4, 6 of 8 attempts at 4 problems",
        "problems from file.jsonl, a subset chosen by seed 3; 2 samples at temperature 0.7, horizon 6",
        "pass@k", "maj@k", "Geometry", "100.0 % ended in an error, 0.0 % in a timeout",
        "100.0 % of the answers came after a failed program, 75.0 % of these right",
        "stopped: 8 answered", "t.jsonl", "t.json",
    ):  # fmt: skip
        assert part in text
    assert "│ level" not in text  # every problem has the same


def test_the_markdown_row_has_as_many_cells_as_its_header() -> None:
    lines = markdown(MADE_WITH, RESULT).splitlines()
    assert len(lines) == 3
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "| 4 (subset, seed 3) | Python | 2 samples at temperature 0.7 | 75.0 %; pass@2 100.0 %; maj@2" in lines[2]


def test_contamination_is_counted_by_problem_and_its_text_is_no_markup() -> None:
    overlaps = [
        Overlap("p1", 7, "exact", 1.0, "[red]x"),
        Overlap("p1", 9, "ngram", 0.5, "x"),
        Overlap("p2", 9, "ngram", 0.1, "x"),
    ]
    text = shown(print_contamination, overlaps, 4, Path("train.jsonl"))
    assert "1 of 4 test problems are in train.jsonl, and 1 more share a run of 13 words" in text
    assert "[red]x" in text
    assert "none of 4" in shown(print_contamination, [], 4, Path("train.jsonl"))


def test_findings_are_a_table_of_their_fields() -> None:
    text = shown(print_findings, [{"id": "p1", "gold": "[1, 2]", "other": None}], "9 gold answers")
    assert "gold" in text and "[1, 2]" in text
    assert "1 to look at in 9 gold answers" in text
