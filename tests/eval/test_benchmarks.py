"""Loading problems, and what a user reads when it fails."""

import json
import os
from pathlib import Path

import datasets
import pytest

from eval import BenchmarkError, Problem, load_benchmark
from eval.benchmarks import benchmark_name, benchmark_origin

SHARED = Path(os.environ.get("MDPO_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
ROW = {"id": "a/1", "question": "1+1?", "answer": "2", "source": "a"}


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDPO_DATA", raising=False)


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_is_a_benchmark(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ROW, ROW | {"id": "a/2", "level": 3, "answer": 4})
    assert load_benchmark(str(file)) == [
        Problem("a/1", "1+1?", "2", "a"),
        Problem("a/2", "1+1?", "4", "a", level="3"),
    ]


def test_path_stands_in_for_the_hub(tmp_path: Path) -> None:
    assert load_benchmark("gsm8k", path=write(tmp_path / "mine.jsonl", ROW))[0].id == "a/1"


def test_the_data_folder_stands_in_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "math_train.jsonl", ROW)
    monkeypatch.setenv("MDPO_DATA", str(tmp_path))
    assert load_benchmark("math", split="train")[0].id == "a/1"


def test_limit_takes_the_first_problems(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ROW, ROW | {"id": "a/2"})
    assert [problem.id for problem in load_benchmark(str(file), limit=1)] == ["a/1"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"id": 1', r"a\.jsonl, line 1 is no JSON"),
        (json.dumps(ROW) + "\n[1]", "line 2 holds a list"),
        (json.dumps(ROW | {"answer": None, "question": ""}), "line 1 lacks question, answer.*question=COLUMN"),
        (json.dumps(ROW | {"question": ["x"]}), "line 1: question is a list"),
        (json.dumps(ROW) + "\n" + json.dumps(ROW), "problems 1 and 2 share the id 'a/1'"),
        ("\n", "holds no problem"),
    ],
)
def test_broken_files_are_named_with_their_line(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name_or_path": "gsm8"}, "known are gsm8k, math, math500, gsm_hard, svamp, asdiv; did you mean 'gsm8k'"),
        ({"name_or_path": "nowhere.jsonl"}, "no file 'nowhere.jsonl'"),
        ({"name_or_path": "gsm8k", "limit": 0}, "limit must be at least 1"),
        ({"name_or_path": "svamp", "split": "train"}, "svamp has no split 'train'; it has test"),
        ({"name_or_path": "svamp", "columns": {"question": "q"}}, "columns can be named for files only"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark(**arguments)


def test_a_wrong_data_folder_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDPO_DATA", "/nowhere")
    with pytest.raises(BenchmarkError, match="MDPO_DATA names '/nowhere'"):
        load_benchmark("math")


HUB_ROWS = {
    "gsm8k": {"question": "q", "answer": "so 1,000\n#### 1,000"},
    "math": {"problem": "q", "solution": r"is $\boxed{\frac12}$", "type": "Algebra", "level": "Level 5"},
    "math500": {"problem": "q", "answer": "7", "solution": "s", "subject": "Algebra", "level": 2},
    "gsm_hard": {"input": "q", "code": "def solution(): ...", "target": -9867630.0},
    "svamp": {"Body": "If he has 34 books", "Question": "How many?", "Answer": "34.0", "Type": "Addition"},
    "asdiv": {"body": "He has 9.", "question": "How many?", "answer": "9 (apples)", "solution_type": "Addition"},
}


@pytest.mark.parametrize(
    ("name", "answer", "level", "problems"),
    [
        ("gsm8k", "1000", None, 1),
        ("math", r"\frac12", "5", 7),
        ("math500", "7", "2", 1),
        ("gsm_hard", "-9867630.0", None, 1),
        ("svamp", "34.0", None, 2),
        ("asdiv", "9", None, 1),
    ],
)
def test_hub_rows_become_problems(monkeypatch, name: str, answer: str, level: str | None, problems: int) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [HUB_ROWS[name]])
    loaded = load_benchmark(name)
    assert (loaded[0].id, loaded[0].answer, loaded[0].level, len(loaded)) == (f"{name}/test/0", answer, level, problems)


def test_a_local_copy_of_the_hubs_rows_is_read_like_the_hubs(tmp_path: Path) -> None:
    for name, row in HUB_ROWS.items():
        (problem,) = load_benchmark(name, path=write(tmp_path / "raw.jsonl", row))
        assert (problem.id, problem.source) == (f"{name}/test/0", name)
    assert problem.question == "He has 9. How many?"
    assert load_benchmark("gsm8k", path=write(tmp_path / "raw.jsonl", HUB_ROWS["gsm8k"]))[0].answer == "1000"


def test_a_sentence_that_is_cut_in_two_is_joined_by_a_comma(tmp_path: Path) -> None:
    (problem,) = load_benchmark("svamp", path=write(tmp_path / "raw.jsonl", HUB_ROWS["svamp"]))
    assert problem.question == "If he has 34 books, How many?"


def test_asdiv_leaves_out_problems_with_several_answers(tmp_path: Path) -> None:
    file = write(tmp_path / "raw.jsonl", HUB_ROWS["asdiv"] | {"answer": "1; 2"}, HUB_ROWS["asdiv"])
    assert [problem.id for problem in load_benchmark("asdiv", path=file)] == ["asdiv/test/0"]


def test_columns_of_any_name_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", {"problem": "1+1?", "gold": 2, "kind": "sum"}, {"problem": "2+2?", "gold": 4,
                 "kind": "sum"})  # fmt: skip
    columns = {"question": "problem", "answer": "gold", "subject": "kind"}
    assert load_benchmark(str(file), columns=columns) == [
        Problem("mine/0", "1+1?", "2", "mine", subject="sum"),
        Problem("mine/1", "2+2?", "4", "mine", subject="sum"),
    ]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"answer": "gold"}, "has no column 'gold', which is named for answer; it has id"),
        ({"gold": "answer"}, "no field"),
    ],
)
def test_a_column_that_is_not_there_is_an_error(tmp_path: Path, columns: dict[str, str], says: str) -> None:
    with pytest.raises(BenchmarkError, match=says):
        load_benchmark(str(write(tmp_path / "a.jsonl", ROW)), columns=columns)


def test_any_data_set_of_the_hub_is_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"problem": "1+1?", "gold": "2", "source": ""}]
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: rows if split == "train" else None)
    columns = {"question": "problem", "answer": "gold"}
    (problem,) = load_benchmark("some-org/sums.v2", split="train", columns=columns)
    assert problem == Problem("sums.v2/train/0", "1+1?", "2", "sums.v2")
    with pytest.raises(BenchmarkError, match=r"some-org/sums\.v2, train, row 0 lacks question, answer"):
        load_benchmark("some-org/sums.v2", split="train")
    assert benchmark_origin("some-org/sums.v2", split="train") == "some-org/sums.v2 on the hub, train"


@pytest.mark.parametrize("name", ["MATH-500", "math500", "Math_500"])
def test_a_benchmark_has_one_name_however_it_is_spelt(name: str) -> None:
    assert benchmark_name(name) == "math500"


def test_the_origin_says_file_or_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert benchmark_origin("svamp") == "ChilleD/SVAMP on the hub, train and test"
    file = write(tmp_path / "svamp.jsonl", ROW)
    monkeypatch.setenv("MDPO_DATA", str(tmp_path))
    assert benchmark_origin("SVAMP") == str(file)
    assert load_benchmark("SVAMP")[0].id == "a/1"


def test_an_unreachable_hub_names_the_way_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(BenchmarkError, match=r"openai/gsm8k.*no network.*--data FILE.*MDPO_DATA.*gsm8k_test\.jsonl"):
        load_benchmark("gsm8k")


@pytest.mark.parametrize(
    ("name", "count"),
    [("GSM8K", 1319), ("MATH", 5000), ("MATH-500", 500), ("GSM-Hard", 1319), ("SVAMP", 1000), ("ASDiv", 2215)],
)
def test_the_shared_files_load(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared problems at {SHARED / 'data'}")
    monkeypatch.setenv("MDPO_DATA", str(SHARED / "data"))
    assert len(load_benchmark(name)) == count
