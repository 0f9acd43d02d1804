"""What every training has in common: it resumes where it was killed, and is done when its policy has its final name."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import datasets
import torch
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.training_args import TrainingArguments

from mdpo.checkpoint import no_progress_bars
from mdpo.errors import ConfigError, TrainingError


class OnStep(Protocol):
    """Told after every optimizer step, to show progress."""

    def __call__(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """`step` of `steps` is done; `metrics` holds what the trainer logged last."""
        ...


@dataclass(frozen=True, slots=True)
class TrainStage:
    """Where a training reads and writes.

    Attributes:
        folder: Checkpoints go to `folder/checkpoints`, the result to `folder/policy`.
        args: Arguments of TRL's configuration class, under TRL's own names.
        seed: Of the weights that are made up and of the order of the data.
        on_step: Told after every step.
    """

    folder: Path
    args: Mapping[str, Any]
    seed: int
    on_step: OnStep

    @property
    def policy(self) -> Path:
        """The trained policy, an ordinary Hugging Face checkpoint. It exists only when it is complete."""
        return self.folder / "policy"

    @property
    def checkpoints(self) -> Path:
        """Where the trainer saves what it needs to resume."""
        return self.folder / "checkpoints"


def training_arguments(
    kind: type[TrainingArguments], stage: TrainStage, defaults: Mapping[str, Any]
) -> TrainingArguments:
    """TRL's configuration: our defaults, then the user's arguments, then what the stage decides.

    Raises:
        ConfigError: TRL does not know an argument, or refuses a value.
    """
    decided = {
        "output_dir": str(stage.checkpoints),
        "seed": stage.seed,
        "report_to": "none",
        "disable_tqdm": True,
        # Ids come prepared; a sequence that is too long was dropped and counted, never cut.
        "max_length": None,
        "remove_unused_columns": True,
    }
    taken = sorted(set(decided) & set(stage.args))
    if taken:
        raise ConfigError(f"`args.{taken[0]}` is decided by mdpo; remove it from the configuration")
    general = {
        "logging_steps": 1,
        "logging_first_step": True,
        "save_total_limit": 2,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "bf16": torch.cuda.is_available(),
        "gradient_checkpointing": torch.cuda.is_available(),
    }
    try:
        return kind(**{**general, **defaults, **stage.args, **decided})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the trainer's arguments are not accepted: {error}; see TRL's {kind.__name__}") from error


def run_training(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, stage: TrainStage) -> Path:
    """Train from the last complete checkpoint, or from the start, and save the policy under its final name.

    Returns:
        The folder of the policy.

    Raises:
        TrainingError: The loss is not a number; the policy is not saved.
    """
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(_Report(stage.on_step))
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(stage.checkpoints))
    _check_finite(trainer.state)
    if trainer.is_world_process_zero():
        (stage.folder / "training.json").write_text(json.dumps(trainer.state.log_history, indent=1))
    partial = stage.folder / "policy.partial"
    if trainer.is_world_process_zero():
        shutil.rmtree(partial, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(partial))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(partial)
        (partial / "training_args.bin").unlink(missing_ok=True)
        partial.replace(stage.policy)
        # The optimizer's state is several times the policy; nothing needs it any more.
        shutil.rmtree(stage.checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return stage.policy


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end, `None` if there is none.

    The trainer writes `trainer_state.json` last, so a checkpoint that a kill cut short lacks it or holds a torn one.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(path)
    return None


class _Report(TrainerCallback):  # type: ignore[misc]
    """Hands the trainer's progress to `on_step`."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        last = state.log_history[-1] if state.log_history else {}
        self._on_step(state.global_step, state.max_steps, last)


def _check_finite(state: TrainerState) -> None:
    losses = [row["loss"] for row in state.log_history if "loss" in row]
    if losses and not all(torch.isfinite(torch.tensor(losses))):
        raise TrainingError("the loss is not a finite number; lower `args.learning_rate` and run it again")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own bars and notices off the terminal while they train: progress is shown by `on_step`."""
    before = os.environ.get("TQDM_DISABLE")
    logger = logging.getLogger("transformers.trainer")
    level = logger.level
    bars = datasets.are_progress_bars_disabled()
    try:
        os.environ["TQDM_DISABLE"] = "1"
        logger.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        with no_progress_bars():
            yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before
