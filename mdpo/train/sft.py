"""Supervised fine-tuning on demonstrations, and RAFT on the policy's own right trajectories.

    L = − (1/T) Σ log π_θ(action token)        over the T action tokens of an optimizer step

The mask is the same as everything else's: prompts and observations condition the policy and are not in the loss.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import SFTConfig, SFTTrainer

from mdpo.train.batches import MicroBatch
from mdpo.train.job import Job, quiet, run_training
from mdpo.train.sequences import Side
from mdpo.train.stage import TrainStage
from mdpo.train.trainer import Measures, StepTotals, StepTrainer

SIDES = (Side("input_ids", "labels"),)

# The paper's SFT of the Gemma family: learning rate 5e-6, cosine, clipped at 1, batch 64.
DEFAULTS = {
    "learning_rate": 5e-6,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 50,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 8,
    "dataset_kwargs": {"skip_prepare_dataset": True},
}
# RAFT (paper §3.1): the same with batch 32 and two epochs an iteration.
RAFT_DEFAULTS = {**DEFAULTS, "num_train_epochs": 2, "gradient_accumulation_steps": 4}


class ActionSFTTrainer(StepTrainer, SFTTrainer):  # type: ignore[misc]
    """TRL's `SFTTrainer` on rows of `mdpo.data.sft_dataset` or `trajectory_dataset`."""

    measured = ("mean_token_logp",)

    def micro_loss(self, model: nn.Module, micro: MicroBatch, totals: StepTotals) -> tuple[Tensor, Measures]:
        """Part of the mean cross entropy of the step's action tokens."""
        tokens = self.work.sequences.of(micro.examples) if micro.examples else []
        logps = torch.cat([part.reshape(-1) for part in self.logps(model, tokens, micro.calls)])
        total = logps.double().sum()
        if not tokens:
            return total, {}
        return -total / totals.actions[0], {"mean_token_logp": (total.detach(), logps.numel())}


def sft_trainer(
    policy: str | Path,
    dataset: Dataset,
    stage: TrainStage,
    dtype: torch.dtype = torch.float32,
    defaults: Mapping[str, Any] = DEFAULTS,
) -> tuple[ActionSFTTrainer, Job]:
    """The trainer that `train_sft` runs, and what it is for; the arguments are the same."""
    job = Job(policy, dataset, stage, dtype, SFTConfig, defaults, SIDES)
    return ActionSFTTrainer(**job.common()), job


def train_sft(
    policy: str | Path,
    dataset: Dataset,
    stage: TrainStage,
    dtype: torch.dtype = torch.float32,
    defaults: Mapping[str, Any] = DEFAULTS,
) -> Path:
    """Maximise the likelihood of the actions of demonstrations, or of right trajectories.

    Args:
        policy: The checkpoint to start from.
        dataset: Rows of `input_ids` and `labels`, from `mdpo.data.sft_dataset` or `trajectory_dataset`.
        stage: Where to read and write, and with which options.
        dtype: The type that the policy computes in; see `mdpo.train.adapters.load_for_training`.
        defaults: Arguments that the stage may replace: `DEFAULTS`, or `RAFT_DEFAULTS`.

    Returns:
        The folder of the trained policy.
    """
    with quiet():
        return run_training(*sft_trainer(policy, dataset, stage, dtype, defaults))
