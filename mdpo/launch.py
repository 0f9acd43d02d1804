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

from mdpo.config import PolicyConfig
from mdpo.errors import TrainingError


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
