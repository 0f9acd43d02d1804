"""How many optimizer steps a training makes, and of how many examples each: the trainer's own arithmetic."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from mdpo.processes import process_count


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a training.

    Attributes:
        total: Optimizer steps in all.
        batch: Examples in each of them, over all processes.
        warmup: How many of them the learning rate rises in.
        arithmetic: Where the batch comes from, in words.
    """

    total: int
    batch: int
    warmup: int
    arithmetic: str

    def __str__(self) -> str:
        return f"{self.total:,} optimizer steps of {self.batch:,} examples ({self.arithmetic})"


def count_steps(examples: int, args: Mapping[str, Any], processes: int | None = None) -> Steps:
    """The steps that the trainer will make.

    Args:
        examples: Rows of the data set.
        args: TRL's arguments, with our defaults under them; what is missing there is TRL's default.
        processes: How many train; default: as many as the launcher started.
    """
    processes = process_count() if processes is None else processes
    device = int(args.get("per_device_train_batch_size", 8))
    accumulated = int(args.get("gradient_accumulation_steps", 1))
    micro_batches = math.ceil(examples / (device * processes))
    per_epoch = max(1, math.ceil(micro_batches / accumulated))
    total = math.ceil(per_epoch * float(args.get("num_train_epochs", 3)))
    if int(args.get("max_steps", -1)) > 0:
        total = int(args["max_steps"])
    warmup = float(args.get("warmup_steps") or 0)
    # Below 1 it is a share of the steps.
    warmup = math.ceil(total * warmup) if warmup < 1 else int(warmup)
    arithmetic = (
        f"{device} a device × {processes} {'process' if processes == 1 else 'processes'} × {accumulated} accumulated"
    )
    return Steps(total, device * processes * accumulated, warmup, arithmetic)


def trainer_arguments(method: str) -> type[TrainingArguments]:
    """TRL's class of a method's arguments."""
    from trl import DPOConfig, KTOConfig, SFTConfig

    kinds: dict[str, type[TrainingArguments]] = {
        "sft": SFTConfig,
        "dpo": DPOConfig,
        "raft": SFTConfig,
        "kto": KTOConfig,
    }
    return kinds[_FAMILIES.get(method, method)]


def training_defaults(method: str) -> dict[str, Any]:
    """The arguments that a method has unless the recipe says otherwise."""
    from mdpo.train import dpo, kto, sft

    defaults = {"sft": sft.DEFAULTS, "raft": sft.RAFT_DEFAULTS, "dpo": dpo.DEFAULTS, "kto": kto.DEFAULTS}
    return dict(defaults[_FAMILIES.get(method, method)])


# The multi-turn methods are the single-turn ones with other masks.
_FAMILIES = {"mdpo": "dpo", "mkto": "kto"}
