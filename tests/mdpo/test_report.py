import io
from pathlib import Path

import pytest
from rich.console import Console

from mdpo.config import Config, EvalConfig, PolicyConfig, ProblemsConfig
from mdpo.errors import ConfigError, DataError
from mdpo.folder import RunFolder, open_folder
from mdpo.report import print_result, write_report
from mdpo.trajectory import Trajectory, TrajectoryWriter, Turn

TRAIN = ProblemsConfig(benchmark="quickstart", split="train")
TEST = ProblemsConfig(benchmark="quickstart", split="test")
CONFIG = Config(policy=PolicyConfig(model="m"), problems=TRAIN, eval=EvalConfig(problems=[TEST]))


def row(stage: str, accuracy: float) -> dict[str, object]:
    return {
        "stage": stage, "benchmark": "quickstart", "split": "test", "decoding": "greedy", "problems": 100,
        "accuracy": accuracy, "calls": 1.5,
        "ci95": [accuracy - 0.05, accuracy + 0.05], "stop_reasons": {"answered": 100},
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with open_folder(tmp_path / "run", CONFIG) as folder:
        folder.add_metrics(row("sft", 0.45))
        folder.add_metrics(row("iteration-1", 0.9))
        hostile = Turn("<script>alert(1)</script>", [1], [-1.0], "print(1)", "<b>1</b>", [2], "ok")
        turns = [hostile, Turn("\\boxed{1}", [3], [-1.0])]
        trajectory = Trajectory("p", 0, "q?", "1", "t", [0], turns, "answered", "1", 1.0, "nowhere", {})
        with TrajectoryWriter(folder.iteration(1) / "trajectories.jsonl") as writer:
            writer.append(trajectory)
    return tmp_path / "run"


def test_the_page_holds_the_picture_the_table_and_trajectories_and_runs_nothing_of_them(run: Path) -> None:
    write_report(run)
    page = (run / "report.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "90.0 %" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert (run / "accuracy.png").read_bytes().startswith(b"\x89PNG")


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
