import base64
import gzip
import json
from pathlib import Path

import pytest

from mdpo.report_data import Attempts, read_run, read_runs
from mdpo.report_pack import pack
from mdpo.report_sample import Sample, natural
from tests.mdpo.report_runs import HOSTILE, attempt, make_run, write


def attempts(*found: tuple[str, int, bool], limit: int = 100) -> Attempts:
    file = Attempts("run", "rollout", "iteration-1", "", "f.jsonl", Sample(limit))
    for problem, sample, right in found:
        file.add(attempt(problem, sample, right))
    return file


def kept(file: Attempts) -> set[str]:
    return {each.problem_id for each in file.sample.shown()}


def test_coverage_counts_problems_by_the_outcomes_of_their_attempts() -> None:
    file = attempts(("a", 0, True), ("a", 1, False), ("b", 0, True), ("c", 0, False))
    assert file.coverage() == {"all right": 1, "both outcomes": 1, "all wrong": 1}


def test_pass_at_k_leaves_out_attempts_that_only_some_problems_got() -> None:
    file = attempts(("a", 0, False), ("a", 1, True), ("b", 1, False), ("b", 0, False), ("b", 2, True))
    assert {k: score.accuracy for k, score in file.pass_at().items()} == {1: 0.25, 2: 0.5}


def test_a_sample_keeps_whole_problems_and_the_same_ones_in_every_file() -> None:
    names = [f"p{i}" for i in range(50)]
    one = attempts(*((name, sample, True) for sample in range(4) for name in names), limit=40)
    other = attempts(*((name, sample, False) for name in reversed(names) for sample in range(4)), limit=40)
    assert one.sample.size == other.sample.size == 40
    assert kept(one) == kept(other)
    assert len(kept(one)) == 10
    assert one.tally.trajectories == 200


def test_of_one_problem_with_too_many_attempts_the_first_are_kept() -> None:
    file = attempts(*(("a", sample, True) for sample in range(9)), limit=3)
    assert [each.sample for each in file.sample.shown()] == [0, 1, 2]


def test_ten_comes_after_nine() -> None:
    assert sorted(["p10", "p9", "p", "q1", "٣"], key=natural) == ["p", "p9", "p10", "q1", "٣"]


def unpacked(text: str) -> list[dict[str, object]]:
    return list(json.loads(gzip.decompress(base64.b64decode(text))))


def test_each_row_of_the_index_leads_to_its_body() -> None:
    packed = pack([attempts(("a", 0, True), ("a", 1, False))])
    index = json.loads(gzip.decompress(base64.b64decode(packed.index)))
    places = list(zip(index["chunk"], index["place"], index["right"], strict=True))
    answers = [unpacked(packed.chunks[chunk])[place]["prediction"] for chunk, place, _ in places]
    assert (answers, index["right"]) == (["42", "41"], [1, 0])


def test_texts_are_made_visible_and_cut() -> None:
    file = attempts()
    file.add(attempt(question=HOSTILE, prediction="9" * 30_000))
    shown = file.sample.shown()[0]
    assert "<U+2028>␛[31m<U+202E>␀" in shown.question
    assert "10,000 more characters are not in this page" in shown.body


def test_files_come_in_the_order_of_the_loop(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    for number in (2, 10):
        write(path / f"iteration-{number}" / "trajectories.jsonl", [attempt()])
    names = [each.name for each in read_run(path, 10).attempts]
    assert names == ["sft on quickstart", "iteration-1 rollout", "iteration-1 on quickstart", "iteration-2 rollout",
                     "iteration-10 rollout"]  # fmt: skip


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / parent / "run") for parent in ("a", "b")]
    assert [run.name for run in read_runs(paths, 10)] == ["a/run", "b/run"]


@pytest.mark.parametrize("content", ["{}", "[1, 2]", '[{"step": 1, "loss": NaN}, {"step": "x", "loss": 1}]'])
def test_a_log_without_numbers_gives_no_curve(content: str, tmp_path: Path) -> None:
    from mdpo.report_training import training

    path = make_run(tmp_path / "run")
    (path / "iteration-1" / "training.json").write_text(content)
    assert training([read_run(path, 10)]).figures == []
