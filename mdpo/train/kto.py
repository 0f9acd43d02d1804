"""Multi-turn KTO, M-KTO (Xiong et al. 2025, equation 15): single trajectories, each right or wrong.

    L = (1/N) Σ λ₊(1 − σ(β(ρ − z₀))) over right trajectories, λ₋(1 − σ(β(z₀ − ρ))) over wrong ones

ρ is the sum of log-ratios over the policy's own tokens. z₀ = max(0, mean ρ') over the whole optimizer step, where ρ' is
that of the row's prompt with the trajectory of another problem behind it, under that trajectory's own action mask; z₀
has no gradient. TRL and the paper's code take the mean over a micro-batch instead, so that their result depends on how
a step is cut; here it does not.

The single-turn baseline `kto` is the same with everything behind the first prompt in the sums.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import KTOConfig, KTOTrainer

from mdpo.train.batches import MicroBatch, plan_step
from mdpo.train.job import Job, quiet, run_training
from mdpo.train.losses import kl_baseline, log_ratio, m_kto
from mdpo.train.reference import ReferenceLogps
from mdpo.train.sequences import Sequences, Side
from mdpo.train.stage import TrainStage
from mdpo.train.trainer import Measures, StepTotals, StepTrainer, drift_measure, squared_drift

SIDES = (Side("completion_ids", "completion_mask", "prompt_ids"),)
MISMATCHED = (Side("mismatched_ids", "mismatched_mask", "prompt_ids"),)

# The paper's M-KTO is "mostly the same as M-DPO"; λ₊ = λ₋ = 1.
DEFAULTS = {
    "beta": 0.1,
    "desirable_weight": 1.0,
    "undesirable_weight": 1.0,
    "learning_rate": 4e-7,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 40,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 16,
}


class MultiTurnKTOTrainer(StepTrainer, KTOTrainer):  # type: ignore[misc]
    """TRL's `KTOTrainer` on rows of `mdpo.data.kto_dataset`.

    Args:
        reference: log π_ref of the rows' action tokens.
        mismatched: The sequences of the rows' prompts with other problems' trajectories.
        mismatched_reference: log π_ref of their action tokens.
        desirable: Whether each row is a right trajectory.
        kwargs: Of `StepTrainer` and `KTOTrainer`.
    """

    measured = (
        "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected", "kl", "reference_kl", "chosen_drift",
    )  # fmt: skip

    def __init__(
        self,
        *,
        reference: ReferenceLogps,
        mismatched: Sequences,
        mismatched_reference: ReferenceLogps,
        desirable: Sequence[bool],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.reference, self.desirable = reference, desirable
        self.mismatched, self.mismatched_reference = mismatched, mismatched_reference
        self._z0 = torch.zeros(())

    @torch.no_grad()
    def begin_step(self, model: nn.Module, rows: Sequence[int]) -> None:
        """z₀ of the step, from all processes' mismatched trajectories."""
        state, device = self.accelerator.state, self.accelerator.device
        plan = plan_step(rows, self.mismatched.lengths, state.num_processes, self.work.budget)[state.process_index]
        total = torch.zeros((), dtype=torch.float64, device=device)
        for micro in plan:
            tokens = self.mismatched.of(micro.examples) if micro.examples else []
            logps = self.logps(model, tokens, micro.calls)
            for row, sequence, part in zip(micro.examples, tokens, logps, strict=False):
                fixed = self.mismatched_reference.of(row, 0, device)
                total += log_ratio(part, fixed, self.weights(sequence, device))
        self._z0 = kl_baseline(self.accelerator.reduce(total, "sum"), len(rows))

    def micro_loss(self, model: nn.Module, micro: MicroBatch, totals: StepTotals) -> tuple[Tensor, Measures]:
        """Part of the mean loss of the step's trajectories."""
        device = self.accelerator.device
        tokens = self.work.sequences.of(micro.examples) if micro.examples else []
        logps = self.logps(model, tokens, micro.calls)
        if not tokens:
            return logps[0], {}
        fixed = [self.reference.of(row, 0, device) for row in micro.examples]
        ratios = torch.stack([
            log_ratio(ours, theirs, self.weights(sequence, device))
            for ours, theirs, sequence in zip(logps, fixed, tokens, strict=True)
        ])  # fmt: skip
        desirable = torch.tensor([self.desirable[row] for row in micro.examples], device=device)
        args = self.args
        losses = m_kto(ratios, desirable, self._z0, args.beta, args.desirable_weight, args.undesirable_weight)
        return losses.sum() / totals.examples, self._measures(logps, fixed, ratios.detach(), desirable)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the margin, which is between different trajectories here."""
        metrics = self._metrics["train"]
        if "rewards/chosen" in metrics and "rewards/rejected" in metrics:
            chosen, rejected = (fmean(metrics[f"rewards/{side}"]) for side in ("chosen", "rejected"))
            metrics["rewards/margins"] = [chosen - rejected]
        super().log(logs, start_time)

    def _measures(self, logps: list[Tensor], fixed: list[Tensor], ratios: Tensor, desirable: Tensor) -> Measures:
        sums = torch.stack([part.detach().sum() for part in logps])
        right, wrong = int(desirable.sum()), int((~desirable).sum())
        actions = sum(part.numel() for part, kept in zip(logps, desirable.tolist(), strict=True) if kept)
        return {
            "rewards/chosen": (self.args.beta * ratios[desirable].sum(), right),
            "rewards/rejected": (self.args.beta * ratios[~desirable].sum(), wrong),
            "logps/chosen": (sums[desirable].sum(), right),
            "logps/rejected": (sums[~desirable].sum(), wrong),
            "kl": (self._z0 * len(ratios), len(ratios)),
            "reference_kl": squared_drift(logps, fixed),
            "chosen_drift": drift_measure(ratios[desirable], actions),
        }


def mkto_trainer(
    policy: str | Path,
    reference: str | Path,
    dataset: Dataset,
    stage: TrainStage,
    dtype: torch.dtype = torch.float32,
) -> tuple[MultiTurnKTOTrainer, Job]:
    """The trainer that `train_mkto` runs, and what it is for; the arguments are the same."""
    job = Job(policy, dataset, stage, dtype, KTOConfig, DEFAULTS, SIDES)
    mismatched = Sequences(dataset, MISMATCHED)
    trainer = MultiTurnKTOTrainer(
        reference=job.reference_logps(reference, job.sequences),
        mismatched=mismatched,
        mismatched_reference=job.reference_logps(reference, mismatched, "mismatched.safetensors"),
        desirable=list(dataset["label"]),
        **job.common(),
    )
    return trainer, job


def train_mkto(
    policy: str | Path,
    reference: str | Path,
    dataset: Dataset,
    stage: TrainStage,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Train a policy on single trajectories with M-KTO, or with KTO if the masks of the rows say so.

    Args:
        policy: The checkpoint to start from.
        reference: π_ref; the same checkpoint as `policy` for the updated reference, the first one for a fixed one.
        dataset: Rows of `mdpo.data.kto_dataset`.
        stage: Where to read and write, and with which options.
        dtype: The type that the policy computes in; see `mdpo.train.adapters.load_for_training`.

    Returns:
        The folder of the trained policy.
    """
    with quiet():
        return run_training(*mkto_trainer(policy, reference, dataset, stage, dtype))
