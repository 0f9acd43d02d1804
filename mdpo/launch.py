"""Training in several processes: `mdpo train` in a child that `accelerate launch` starts, by an accelerate file.

    accelerate launch --config_file fsdp2.yaml -m mdpo.cli train --model … --data … --out … learning_rate=4e-7

The child reads the files of the run and writes into it what a training in this process would have written, so each goes
on where the other was stopped.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from mdpo.config import Config, PolicyConfig, SFTConfig, TrainConfig
from mdpo.errors import TrainingError
from mdpo.recipes import find_accelerate_file
from mdpo.train.stage import TrainStage
from mdpo.training import TRAIN_OPTIONS


def command_options(
    method: str,
    policy: str | Path,
    data: str | Path,
    out: Path,
    talk: PolicyConfig,
    max_length: int,
    seed: int,
    args: Mapping[str, Any],
    reference: str | Path | None = None,
    more: Mapping[str, Any] | None = None,
) -> list[str]:
    """The options of `mdpo train` for a stage of a run.

    Args:
        method: The loss.
        policy: The checkpoint to start from.
        data: What it learns from.
        out: The folder of the stage.
        talk: How the policy is talked to.
        max_length: Of an example, in tokens.
        seed: Of everything that is random.
        args: TRL's arguments.
        reference: π_ref, for the methods that have one.
        more: Further options by name, such as `per_problem`; `None` leaves one out.
    """
    options = {
        "model": policy, "data": data, "out": out, "method": method, "max_length": max_length, "seed": seed,
        "dtype": talk.dtype, "role": talk.observation_role, "system": talk.system, "examples": talk.examples,
        "history": talk.history, "reference": reference, **(more or {}),
    }  # fmt: skip
    given = [
        text
        for name, value in options.items()
        if value is not None
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    # JSON is YAML, which is what the command reads.
    return [*given, *[f"{name}={json.dumps(value)}" for name, value in args.items()]]


def launch_training(accelerate_file: Path, options: Sequence[str], say: Callable[[str], None]) -> None:
    """Run `mdpo train` under `accelerate launch`; its messages go where this process's go.

    Raises:
        TrainingError: It did not end well.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(accelerate_file)]
    command += ["-m", "mdpo.cli", "train", *options]
    say(f"[dim]{escape(shlex.join(command[2:]))}[/]")
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise TrainingError(
            f"the training that accelerate launch started with {accelerate_file} ended with exit status "
            f"{done.returncode}; its own messages are above. The same command goes on from its last checkpoint"
        )


def launch_stage(
    config: Config,
    say: Callable[[str], None],
    method: str,
    policy: str | Path,
    data: str | Path,
    stage: TrainStage,
    section: SFTConfig | TrainConfig,
    reference: Path | None = None,
    **more: Any,
) -> None:
    """Do a stage of a run in the processes that the recipe's `train.launch` describes.

    Args:
        config: The recipe.
        say: Told the command.
        method: The loss.
        policy: The checkpoint to start from.
        data: What it learns from.
        stage: Where it writes.
        section: The recipe's section of this stage.
        reference: π_ref, for the methods that have one.
        more: Further options of `mdpo train`.

    Raises:
        ConfigError: There is no such accelerate file.
        TrainingError: The training did not end well.
    """
    file = find_accelerate_file(str(config.train.launch))
    named = section.model_dump(include=set(TRAIN_OPTIONS), exclude_defaults=True)
    options = command_options(
        method, policy, data, stage.folder, config.policy, section.max_length, config.seed, {**stage.args, **named},
        reference, {"threads": config.engine.threads, **more},
    )  # fmt: skip
    launch_training(file, options, say)
