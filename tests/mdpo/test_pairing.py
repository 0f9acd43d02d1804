"""An iteration's pairs: settings, the pool of earlier iterations, and what a kill leaves."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import mdpo.loop
from mdpo.config import Config, PairsConfig, PoolConfig
from mdpo.display import Display
from mdpo.errors import ConfigError
from mdpo.exploration import Exploration
from mdpo.folder import RunFolder, open_folder
from mdpo.loop import Agents, Run, _choose_pairs
from mdpo.pairing import Chosen, Origin, choose_pairs
from mdpo.preference import Pair, read_pairs
from mdpo.trajectory import TrajectoryWriter
from tests.mdpo.attempts import attempt


def trajectory_file(path: Path, problems: int, samples: int = 6) -> Origin:
    """Problems of which the even samples are right."""
    with TrajectoryWriter(path) as writer:
        for number in range(problems):
            for sample in range(samples):
                writer.append(attempt(f"p{number:03}", sample, float(sample % 2 == 0), words=(sample * number) % 7))
    return Origin(path.parent.name, path)


@pytest.fixture
def origins(tmp_path: Path) -> list[Origin]:
    """The current iteration's file first, then those before it."""
    sizes = {"iteration-4": 70, "iteration-3": 40, "iteration-2": 40, "iteration-1": 40}
    return [trajectory_file(tmp_path / name / "trajectories.jsonl", size) for name, size in sizes.items()]


def chosen(origins: list[Origin], share: float, iterations: int = 2, per_problem: int = 1, seed: int = 0) -> Chosen:
    config = PairsConfig(pool=PoolConfig(share=share, iterations=iterations), per_problem=per_problem)
    return choose_pairs(config, origins[0], origins[1:], 100, seed)


def test_the_pool_gives_its_share_of_all_pairs_evenly_from_as_many_iterations(origins: list[Origin]) -> None:
    made = chosen(origins, share=0.3)
    assert made.count.pairs == 70
    assert {name: count.pairs for name, count in made.earlier.items()} == {"iteration-3": 15, "iteration-2": 15}
    assert len(made.pairs) == 100
    assert [pair.origin for pair in made.pairs[:70]] == ["iteration-4"] * 70


def test_a_problem_gives_its_pairs_whole_and_the_share_is_never_exceeded(origins: list[Origin]) -> None:
    made = chosen(origins, share=0.05, iterations=1, per_problem=3)
    assert made.count.pairs == 210
    assert made.earlier["iteration-3"].pairs == 9  # 11 would be the share, and a problem has 3


def test_what_an_iteration_lacks_the_one_before_it_gives(origins: list[Origin]) -> None:
    made = chosen(origins, share=0.6, iterations=3)
    assert [count.pairs for count in made.earlier.values()] == [35, 35, 35]
    made = chosen([origins[0], trajectory_file(origins[1].path.with_name("few.jsonl"), 5), *origins[2:]], 0.5)
    assert [count.pairs for count in made.earlier.values()] == [5, 40]


def test_without_a_pool_earlier_files_are_not_even_read(origins: list[Origin]) -> None:
    made = choose_pairs(PairsConfig(), origins[0], [Origin("gone", Path("gone"))], 100, 0)
    assert (made.earlier, len(made.pairs)) == ({}, 70)


def test_the_pool_is_drawn_by_the_seed(origins: list[Origin]) -> None:
    def pool(seed: int) -> list[Pair]:
        return [pair for pair in chosen(origins, 0.2, seed=seed).pairs if pair.origin == "iteration-3"]

    assert pool(0) == pool(0) != pool(1)
    names = [pair.problem_id for pair in pool(0)]
    assert names == sorted(names) != [f"p{n:03}" for n in range(len(names))]


def test_earlier_pairs_are_not_those_that_were_trained_on_before(origins: list[Origin]) -> None:
    then = {(p.problem_id, p.chosen, p.rejected) for p in choose_pairs(PairsConfig(), origins[1], [], 100, 0).pairs}
    now = {(p.problem_id, p.chosen, p.rejected) for p in chosen(origins, 0.3).pairs if p.origin == "iteration-3"}
    assert len(now - then) > 5


def test_settings_reach_the_pairs(origins: list[Origin]) -> None:
    config = PairsConfig(strategy="best_worst", filters={"repeated": False, "long_answer": True}, per_problem=2)
    made = choose_pairs(config, origins[0], [], 100, 0)
    assert len(made.pairs) == 140
    assert {pair.strategy for pair in made.pairs} == {"best_worst"}
    assert [step.name for step in made.count.steps][-2:] == ["right_after_a_failed_call", "long_answer"]


def test_the_row_holds_every_step_and_the_table_shows_it(origins: list[Origin]) -> None:
    made = chosen(origins, share=0.3)
    row = json.loads(json.dumps(made.row()))
    assert (row["total"], row["pairs"], row["mixed"]) == (100, 70, 70)
    assert row["steps"][0] == {"name": "empty", "side": "both", "seen": 420, "dropped": 0, "kept": 420}
    assert row["earlier"]["iteration-2"]["pairs"] == 15
    assert row["summary"] == str(made)
    assert "; 30 earlier pairs: 15 of iteration-3, 15 of iteration-2" in str(made)
    console = Console(file=io.StringIO(), width=120)
    console.print(made.table())
    assert "in a pair (random)" in console.file.getvalue()  # type: ignore[attr-defined]


def test_uncertain_pairs_need_a_policy(origins: list[Origin]) -> None:
    with pytest.raises(ConfigError, match="name one with --model"):
        choose_pairs(PairsConfig(strategy="uncertain"), origins[0], [], 100, 0)


# In a run


@pytest.fixture
def run(tmp_path: Path, checkpoint: Path, origins: list[Origin]) -> Run:
    """A run of uncertain pairs with a pool, whose trajectories are there."""
    settings = {
        "policy": {"model": "unused", "dtype": "float32"},
        "problems": {"benchmark": "quickstart", "split": "train"},
        "pairs": {"strategy": "uncertain", "pool": {"share": 0.25}},
        "eval": {"problems": [{"benchmark": "quickstart", "split": "test"}]},
    }
    shutil.copytree(checkpoint, tmp_path / "sft" / "policy")
    config, display = Config.model_validate(settings), Display(Console(file=io.StringIO()))
    return Run(config, RunFolder(tmp_path), display, Agents(config, display))


def left(run: Run, number: int) -> tuple[bytes, list[float], int]:
    exploration = Exploration.load(run.folder.covariance(number))
    pairs = (run.folder.iteration(number) / "preferences.jsonl").read_bytes()
    return pairs, exploration.covariance.sigma.ravel().tolist(), exploration.covariance.pairs


def test_iterations_carry_the_covariance_on_and_tell_what_they_gained(run: Run) -> None:
    for number in (1, 2):
        _choose_pairs(run, number)
    assert (left(run, 1)[2], left(run, 2)[2]) == (40, 40 + 40 + 13)
    pairs = list(read_pairs(run.folder.iteration(2) / "preferences.jsonl"))
    assert {pair.origin for pair in pairs} == {"iteration-1", "iteration-2"}
    assert all(pair.uncertainty is not None for pair in pairs)
    row = json.loads((run.folder.iteration(2) / "metrics.json").read_text())["pairs"]
    own, pool = row["information"]
    assert (own["pairs"], pool["pairs"]) == (40, 13)
    assert own["nats"] >= own["at_random"]
    assert "nats of information" in run.folder.stages()["iteration-2 pairs"]["note"]


@pytest.mark.parametrize("moment", ["_add_metrics", "write_pairs"])
def test_pairs_after_a_kill_are_the_same(run: Run, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        _choose_pairs(run, number)
    whole = left(run, 2)
    (run.folder.iteration(2) / "preferences.jsonl").unlink()
    run.folder.covariance(2).unlink()

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(mdpo.loop, moment, kill)
        _choose_pairs(run, 2)
    assert run.folder.covariance(2).exists()
    _choose_pairs(run, 2)
    assert left(run, 2) == whole
    _choose_pairs(run, 2)  # done: nothing is added twice
    assert left(run, 2) == whole


def test_a_run_directory_shows_every_filter_and_goes_on_with_the_same_settings(tmp_path: Path, run: Run) -> None:
    with open_folder(tmp_path / "other", run.config) as folder:
        assert "void_turn: false" in folder.config.read_text()
    with open_folder(tmp_path / "other", run.config):
        pass
