"""Training in several processes: the accelerate files, and a training of two processes from beginning to end."""

import importlib.util
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin

from mdpo import launch
from mdpo.commands import split_options
from mdpo.config import PolicyConfig, load_config
from mdpo.errors import ConfigError, TrainingError
from mdpo.launch import command_options, launch_training
from mdpo.recipe_file import parse_yaml
from mdpo.recipes import find_accelerate_file, find_recipe, recipes
from mdpo.train.stage import TrainStage
from mdpo.training import train_options
from tests.mdpo.test_training_data import ASKED, BAD, GOOD, write

FILES = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
POLICY = "package:mdpo/quickstart/checkpoint"
# What starts two processes here: without a GPU torch's processes talk over gloo.
TWO = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "mixed_precision": "no",
       "num_machines": 1, "num_processes": 2, "machine_rank": 0, "main_training_function": "main",
       "rdzv_backend": "static", "same_network": True, "use_cpu": False, "main_process_port": 0}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_accelerate_file_is_read_by_accelerate(name: str) -> None:
    file = str(find_accelerate_file(name))
    assert load_config_from_file(file).distributed_type == FILES[name]
    arguments = launch_command_parser().parse_args(["--config_file", file, "-m", "mdpo.cli"])
    checked, _, _ = _validate_launch_command(arguments)
    assert (checked.num_processes, checked.mixed_precision) == (8, "bf16")
    assert (checked.use_fsdp, checked.use_deepspeed) == (name == "fsdp2", name.startswith("zero"))
    assert Path(file).read_text().startswith("# ")


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize("stage", [2, 3])
def test_the_deepspeed_files_are_read_by_deepspeed(stage: int) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    given = load_config_from_file(str(find_accelerate_file(f"zero{stage}"))).deepspeed_config
    plugin = DeepSpeedPlugin(zero_stage=given["zero_stage"], gradient_clipping=given["gradient_clipping"])
    filled = {key: 1 if value == "auto" else value for key, value in plugin.deepspeed_config.items()}
    parsed = DeepSpeedConfig({**filled, "bf16": {"enabled": True}})
    assert (parsed.zero_config.stage, parsed.gradient_clipping) == (stage, 1.0)


def test_accelerate_files_are_no_recipes_and_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {name for name, _, _ in recipes()} & FILES.keys()
    monkeypatch.chdir(tmp_path)
    assert find_accelerate_file("configs/accelerate/fsdp2.yaml") == find_accelerate_file("fsdp2")
    with pytest.raises(ConfigError, match=r"`train\.launch`: there is no accelerate file fsdp3.*ddp, fsdp2, zero2"):
        find_accelerate_file("fsdp3")


def test_options_of_a_stage_are_those_of_the_command() -> None:
    talk = PolicyConfig(model="m", system="Be brief.")
    args = {"learning_rate": 4e-7, "bf16": False, "lr_scheduler_type": "cosine", "optim_args": None}
    options = command_options("mdpo", "p", "d.jsonl", Path("o"), talk, 64, 3, args, "r", {"threads": None, "limit": 5})
    assert "--threads" not in options
    assert [options[options.index(name) + 1] for name in ("--system", "--reference", "--limit")] == [
        "Be brief.",
        "r",
        "5",
    ]
    given = dict(text.split("=", 1) for text in options if "=" in text)
    assert {name: parse_yaml(value) for name, value in given.items()} == args


def test_a_stage_is_launched_with_all_that_its_section_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command: list[str] = []
    monkeypatch.setattr(launch.subprocess, "run", lambda *given, check: command.extend(given[0]) or Mock(returncode=0))
    changed = ["train.launch=zero3", "train.nll=0.1", "train.adapter={r: 4}", "train.method=dpo", "engine.threads=1"]
    config = load_config(find_recipe("quickstart"), changed)
    stage = TrainStage(tmp_path, config.train.args, 0, lambda step, steps, metrics: None)
    launch.launch_stage(config, print, "dpo", "p", "d.jsonl", stage, config.train, Path("r"), per_problem=2)
    assert command[1:4] == ["-m", "accelerate.commands.launch", "--config_file"]
    assert command[4].endswith("accelerate/zero3.yaml")
    assert command[command.index("--per-problem") + 1] == "2"
    given = dict(text.split("=", 1) for text in command if "=" in text)
    options, arguments = split_options("dpo", {name: parse_yaml(value) for name, value in given.items()})
    assert options == train_options(config.train)
    assert arguments == config.train.args


@pytest.mark.slow
def test_two_processes_train_one_policy_and_only_one_of_them_speaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(TWO))
    data = write(tmp_path / "d.jsonl", *[{"messages": [ASKED, answer]} for answer in (GOOD, BAD) * 4])
    talk = PolicyConfig(model=POLICY, dtype="float32")
    args = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "warmup_steps": 0}
    options = command_options("sft", POLICY, data, tmp_path / "out", talk, 256, 0, args, more={"threads": 1})
    launch_training(tmp_path / "two.yaml", options, print)
    said = capfd.readouterr().out
    assert said.count("8 examples: ") == 1
    assert "2 optimizer steps of 4 examples (2 a device × 2 processes × 1 accumulated)" in said
    assert (tmp_path / "out" / "policy" / "model.safetensors").is_file()


def test_a_training_that_fails_is_told_with_its_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError, match=r"with .*none\.yaml ended with exit status 1; its own messages are above"):
        launch_training(tmp_path / "none.yaml", ["--model", "m"], print)
    assert "-m mdpo.cli train --model m" in capfd.readouterr().out
