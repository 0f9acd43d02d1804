import io
from pathlib import Path

import pytest
from rich.console import Console

from mdpo.errors import ConfigError, DataError
from mdpo.folder import RunFolder, open_folder
from mdpo.report import print_result, write_comparison, write_report
from tests.mdpo.report_runs import CONFIG, HOSTILE, attempt, make_run, row, write


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with open_folder(tmp_path / "run", CONFIG) as folder:
        folder.add_metrics(row("sft", 0.45))
        folder.add_metrics(row("iteration-1", 0.9))
        write(folder.iteration(1) / "trajectories.jsonl", [attempt()])
    return tmp_path / "run"


def page_of(path: Path) -> str:
    write_report(path)
    return (path / "report.html").read_text()


def test_the_page_says_what_the_run_came_to_with_the_paired_difference(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", before=[False] * 12, after=[True] * 12))
    assert "0.0 % right after sft, 100.0 % after iteration-1: +100.0 points, 95 % interval" in page
    assert "p &lt; 0.001 (McNemar, exact)" in page
    assert (tmp_path / "run" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_has_every_picture_that_the_run_has_numbers_for(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"))
    for title in (
        "Accuracy on quickstart", "Loss", "Reward margin", "KL from the reference", "Coverage", "Why attempts stopped",
        "pass@k on the problems of the first and the last rollout", "Sampled tokens of a trajectory",
    ):  # fmt: skip
        assert f"<figcaption>{title}" in page
    assert "50.0 % of 2 give pairs" in page


def test_several_attempts_at_held_out_problems_give_pass_at_k_before_and_after(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    for stage in ("sft", "iteration-1"):
        write(path / "eval" / f"{stage}-quickstart.jsonl", [attempt("p-1", 1), attempt("p-2", 1, right=False)])
    page = page_of(path)
    assert "<figcaption>pass@k on held-out problems, before and after" in page
    assert "sft on quickstart: k = 1 50.0 %, k = 2 50.0 %" in page


def test_a_run_without_logs_and_evaluated_trajectories_says_what_is_missing(run: Path) -> None:
    page = page_of(run)
    assert "eval/sft-quickstart.jsonl is not there" in page
    assert "iteration-1/training.json is not there" in page
    assert "there are no curves" in page


def test_rows_of_an_old_run_need_only_what_the_pictures_need(tmp_path: Path) -> None:
    with open_folder(tmp_path / "run", CONFIG) as folder:
        folder.add_metrics({"stage": "sft", "benchmark": "b", "problems": 3, "accuracy": 1.0, "ci95": [0.4, 1.0]})
        folder.add_metrics({"stage": "iteration-1", "benchmark": "b"})
    assert "There are no trajectories to show." in page_of(tmp_path / "run")


def test_the_page_asks_for_nothing_and_its_policy_lets_only_its_own_script_run(run: Path) -> None:
    page = page_of(run)
    assert "default-src 'none'; style-src 'sha256-" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/1998/Math/MathML", "")


def test_what_a_model_wrote_never_stands_in_the_page_as_text(tmp_path: Path) -> None:
    path = make_run(tmp_path / "<b>run")
    RunFolder(path).add_metrics(row("</script><img src=x><!--", 0.5))
    write(path / "iteration-1" / "trajectories.jsonl", [attempt(question=HOSTILE, stop_reason=HOSTILE)])
    page = page_of(path)
    assert page.count("</script>") == page.count("<script")
    assert not any(written in page for written in ("<img", "<!--", "<b>run"))


def test_no_path_of_the_machine_is_in_the_page(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"))
    assert str(tmp_path) not in page
    assert "/home/somebody" not in page


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    write_report(make_run(tmp_path / "run"), trajectories=2, out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "iteration-1 rollout: 2 of 4 trajectories, those of 1 of 2 problems" in page


def test_runs_on_the_same_problems_are_compared_in_pairs(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", after=[True, False]), make_run(tmp_path / "b", after=[True, True])]
    write_comparison(runs, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert "<h1>a and b</h1>" in page
    assert "<td>b − a</td>" in page
    assert "+50.0" in page


def test_runs_on_other_problems_are_shown_and_not_subtracted(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", before=[True], after=[True])]
    write_comparison(runs, tmp_path / "c.html")
    assert "have not the same problems" in (tmp_path / "c.html").read_text()


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    with pytest.raises(DataError, match="named twice"):
        write_comparison([path, path / ".." / "a"], tmp_path / "c.html")


def test_a_page_that_cannot_be_written_says_how_to_go_on(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name another file with --out"):
        write_report(run, out=tmp_path / "none" / "page.html")


def test_the_terminal_shows_every_policy_with_its_interval_and_where_to_look_next(run: Path) -> None:
    output = io.StringIO()
    print_result(run, Console(file=output, width=120))
    text = output.getvalue()
    assert "quickstart test, 100 problems, greedy" in text
    assert "45.0 %" in text
    assert "85.0 – 95.0" in text
    assert "+45.0 points" in text
    assert "mdpo inspect" in text
    assert "mdpo report" in text


def test_a_row_of_the_same_stage_and_benchmark_is_replaced(run: Path) -> None:
    folder = RunFolder(run)
    folder.add_metrics(row("sft", 0.5))
    assert [(r["stage"], r["accuracy"]) for r in folder.metrics()] == [("iteration-1", 0.9), ("sft", 0.5)]


def test_a_folder_that_is_no_run_or_has_no_result_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run directory"):
        write_report(tmp_path)
    with open_folder(tmp_path / "new", CONFIG), pytest.raises(DataError, match="nothing was evaluated"):
        write_report(tmp_path / "new")


def test_two_processes_do_not_work_in_one_folder(run: Path) -> None:
    with open_folder(run, CONFIG), pytest.raises(ConfigError, match="another mdpo works"), open_folder(run, CONFIG):
        pass


def test_another_configuration_is_refused_and_named(run: Path) -> None:
    other = CONFIG.model_copy(update={"iterations": 7})
    with pytest.raises(ConfigError, match="iterations: 7, 3 there"), open_folder(run, other):
        pass
