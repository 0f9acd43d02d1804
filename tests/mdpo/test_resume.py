"""`kill -9` at random moments of rollout and of training: the same command finishes the run, nothing lost or twice."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mdpo.config import load_config
from mdpo.data import pair_dataset
from mdpo.folder import read_json
from mdpo.preference import read_pairs
from mdpo.recipes import find_recipe
from mdpo.train.dpo import train_mdpo
from mdpo.train.stage import TrainStage, last_complete_checkpoint
from mdpo.trajectory import read_trajectories

SMALL = [
    "rollout.problems=32",
    "rollout.samples=4",
    "iterations=1",
    "train.args.per_device_train_batch_size=2",
    "train.args.save_steps=1",
    "eval.problems=[{benchmark: quickstart, split: test, limit: 16}]",
]


def start(folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mdpo.cli", "run", "quickstart", *SMALL, "--dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def kill_when(folder: Path, ready: Callable[[], bool]) -> None:
    """Start the run and kill it, and nothing else, as soon as it is ready."""
    process = start(folder)
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline, "the run never got so far"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def finish(folder: Path) -> str:
    process = start(folder)
    output = process.communicate(timeout=200)[0].decode()
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_a_run_killed_in_rollout_and_in_training_ends_as_if_it_was_not(tmp_path: Path) -> None:
    rng = random.Random()
    print(f"kills: {(seed := rng.randrange(10**6))}")  # noqa: T201 - shown when the test fails
    rng.seed(seed)
    folder = tmp_path / "run"
    trajectories = folder / "iteration-1" / "trajectories.jsonl"
    steps = folder / "iteration-1" / "checkpoints"

    def lines() -> int:
        return trajectories.read_bytes().count(b"\n") if trajectories.exists() else 0

    some = rng.randrange(1, 100)
    kill_when(folder, lambda: lines() >= some)
    written = trajectories.read_bytes()
    written = written[: written.rfind(b"\n") + 1]

    step, delay = rng.randrange(1, 4), rng.random() / 5
    kill_when(folder, lambda: (steps / f"checkpoint-{step}").exists() and (time.sleep(delay) or True))
    # What was there before the first kill is still there, as it was: nothing was sampled twice.
    assert trajectories.read_bytes().startswith(written)
    keys = [t.key for t in read_trajectories(trajectories)]
    assert len(keys) == len(set(keys)) == 32 * 4
    pairs_before = (folder / "iteration-1" / "preferences.jsonl").read_bytes()
    saved = last_complete_checkpoint(steps)

    output = finish(folder)
    assert "+" in output
    assert "-" in output
    assert (folder / "iteration-1" / "preferences.jsonl").read_bytes() == pairs_before
    assert [row["stage"] for row in read_json(folder / "metrics.json", [])] == ["sft", "iteration-1"]
    assert list(folder.rglob("*.partial")) == []

    # The weights are those of a training that nobody killed.
    assert saved is not None
    config = load_config(find_recipe("quickstart"), SMALL)
    torch.set_num_threads(1)
    rows, _ = pair_dataset(read_pairs(folder / "iteration-1" / "preferences.jsonl"), config.train.max_length)
    stage = TrainStage(tmp_path / "whole", config.train.args, config.seed, lambda *_: None)
    start_policy = folder / "sft" / "policy"
    whole = load_file(train_mdpo(start_policy, start_policy, rows, stage) / "model.safetensors")
    resumed = load_file(folder / "iteration-1" / "policy" / "model.safetensors")
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=0)


@pytest.mark.slow
def test_a_finished_run_does_nothing_again_and_another_configuration_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finish(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    output = finish(folder)
    assert output.count("done before") == 6
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before

    command = [sys.executable, "-m", "mdpo.cli", "run", "quickstart", *SMALL, "seed=5", "--dir", str(folder)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "seed: 5, 0 there" in refused.stderr

    shutil.rmtree(folder / "iteration-1" / "policy")
    assert "iteration-1 mdpo" in finish(folder)


def test_a_checkpoint_that_was_cut_short_is_not_resumed_from(tmp_path: Path) -> None:
    for step, state in ((1, "{}"), (2, '{"global_st'), (10, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert last_complete_checkpoint(tmp_path / "none") is None
