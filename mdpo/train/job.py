"""What every training has in common: it resumes where it was killed, and is done when its policy has its final name."""

import gc
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.training_args import TrainingArguments

from mdpo.checkpoint import load_tokenizer, no_progress_bars
from mdpo.errors import TrainingError
from mdpo.train.adapters import load_for_training, merge_adapter, peft_config
from mdpo.train.arguments import training_arguments
from mdpo.train.reference import ReferenceLogps, reference_logps
from mdpo.train.sequences import Sequences, Side
from mdpo.train.stage import OnStep, TrainStage, last_complete_checkpoint
from mdpo.train.trainer import Work


@dataclass(frozen=True)
class Job:
    """A policy to train on a data set; each thing is loaded when it is asked for.

    Attributes:
        policy: The checkpoint to start from.
        dataset: Its rows.
        stage: Where to read and write, and with which options.
        dtype: The type that the policy computes in.
        kind: TRL's configuration class.
        defaults: Arguments that the stage may replace.
        sides: Where a row's sequences are.
    """

    policy: str | Path
    dataset: Dataset
    stage: TrainStage
    dtype: torch.dtype
    kind: type[TrainingArguments]
    defaults: Mapping[str, Any]
    sides: Sequence[Side]

    @cached_property
    def args(self) -> TrainingArguments:
        """TRL's arguments."""
        return training_arguments(self.kind, self.stage, self.defaults)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's."""
        return load_tokenizer(self.policy)

    @cached_property
    def sequences(self) -> Sequences:
        """The sequences of the rows."""
        return Sequences(self.dataset, self.sides)

    def load(self, path: str | Path) -> PreTrainedModel:
        """The policy, or a reference exactly as the policy is loaded: log-ratios compare like with like."""
        return load_for_training(path, self.dtype, self.stage.options.adapter)

    def budget(self, sequences: Sequences) -> int:
        """Tokens of a micro-batch."""
        if self.stage.options.micro_batch_tokens is not None:
            return self.stage.options.micro_batch_tokens
        examples = {**self.defaults, **self.stage.args}["per_device_train_batch_size"]
        return int(examples) * max(map(sum, sequences.lengths))

    def reference_logps(
        self, reference: str | Path, sequences: Sequences, name: str = "reference.safetensors"
    ) -> ReferenceLogps:
        """log π_ref of the sequences, kept under this name in the stage's folder."""

        def load() -> PreTrainedModel:
            # A whole reference in each process, also where DeepSpeed will shard the policy.
            unset_hf_deepspeed_config()
            try:
                return self.load(reference)
            finally:
                if (deepspeed := getattr(self.args, "hf_deepspeed_config", None)) is not None:
                    set_hf_deepspeed_config(deepspeed)

        return reference_logps(
            sequences,
            reference,
            load,
            self.stage.folder / name,
            how=f"{self.dtype}, {self.stage.options.adapter}",
            pad=self.tokenizer.pad_token_id or 0,
            budget=self.budget(sequences),
            bf16=self.args.bf16,
        )

    def common(self) -> dict[str, Any]:
        """What every trainer takes, the policy among it: called when the reference has come and gone."""
        gc.collect()
        options = self.stage.options
        return {
            "model": self.load(self.policy),
            "args": self.args,
            "train_dataset": self.dataset,
            "processing_class": self.tokenizer,
            "peft_config": None if options.adapter is None else peft_config(options.adapter),
            "work": Work(self.sequences, self.budget(self.sequences), options.turn_weights, options.gamma),
        }


def run_training(trainer: Trainer, job: Job) -> Path:
    """Train from the last complete checkpoint, or from the start, and save the policy under its final name.

    Returns:
        The folder of the policy.

    Raises:
        TrainingError: The loss of a step is not a number; the policy is not saved.
    """
    stage = job.stage
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(_Report(stage.on_step))
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(stage.checkpoints))
    if trainer.is_world_process_zero():
        (stage.folder / "training.json").write_text(json.dumps(trainer.state.log_history, indent=1))
    _save(trainer, job)
    if trainer.is_world_process_zero():
        (stage.folder / "policy.partial").replace(stage.policy)
        # TensorBoard's files, where they were asked for.
        if (stage.checkpoints / "runs").exists():
            shutil.move(stage.checkpoints / "runs", stage.folder / "logs")
        # The optimizer's state is several times the policy; nothing needs it any more.
        shutil.rmtree(stage.checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return stage.policy


def _save(trainer: Trainer, job: Job) -> None:
    """Write the policy, adapters merged into it, under its partial name."""
    stage = job.stage
    partial = stage.folder / "policy.partial"
    adapter = stage.folder / "adapter"
    saved = partial if stage.options.adapter is None else adapter
    if trainer.is_world_process_zero():
        shutil.rmtree(partial, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_fsdp_enabled:
        # Checkpoints may be sharded; a policy is whole.
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(saved))
    if trainer.is_world_process_zero():
        if stage.options.adapter is not None:
            merge_adapter(job.policy, adapter, job.dtype, partial)
        job.tokenizer.save_pretrained(partial)
        (partial / "training_args.bin").unlink(missing_ok=True)


class _Report(TrainerCallback):  # type: ignore[misc]
    """Hands the trainer's progress to `on_step`."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        last = state.log_history[-1] if state.log_history else {}
        self._on_step(state.global_step, state.max_steps, last)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not math.isfinite(state.log_history[-1].get("loss", 0.0)):
            raise TrainingError(
                f"the loss of step {state.global_step} is not a finite number; lower `args.learning_rate` and run again"
            )


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
