"""Multi-turn direct preference optimisation, M-DPO (Xiong et al. 2025, equation 14).

    L = − Σ log σ( η Σ_h [ log π_θ(a_h^w|s_h^w) / π_ref(a_h^w|s_h^w) − log π_θ(a_h^l|s_h^l) / π_ref(a_h^l|s_h^l) ] )

It is DPO whose log-probabilities are summed over the policy's own tokens only: what the environment wrote conditions
the policy but is not in the sum. η is TRL's `beta`.

The single-turn baseline `dpo` is the same with everything behind the first prompt in the sum, observations too.
"""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import DPOConfig, DPOTrainer

from mdpo.train.batches import MicroBatch
from mdpo.train.job import Job, quiet, run_training
from mdpo.train.losses import log_ratio, m_dpo
from mdpo.train.reference import ReferenceLogps
from mdpo.train.sequences import Side
from mdpo.train.stage import TrainStage
from mdpo.train.trainer import Measures, StepTotals, StepTrainer, drift_measure, squared_drift

SIDES = (Side("chosen_ids", "chosen_mask", "prompt_ids"), Side("rejected_ids", "rejected_mask", "prompt_ids"))

# The paper's M-DPO of Gemma-1.1-it-7B: η = 0.1, learning rate 4e-7, cosine, 40 warm-up steps, batch 32, one epoch.
DEFAULTS = {
    "beta": 0.1,
    "learning_rate": 4e-7,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 40,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 32,
}


class MultiTurnDPOTrainer(StepTrainer, DPOTrainer):  # type: ignore[misc]
    """TRL's `DPOTrainer` on rows of `mdpo.data.pair_dataset`.

    Args:
        reference: log π_ref of the rows' action tokens.
        margins: C^w − C^l of each row.
        nll: Coefficient of the mean cross entropy of the chosen actions.
        kwargs: Of `StepTrainer` and `DPOTrainer`.
    """

    measured = (
        "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
        "logps/rejected", "nll_loss", "reference_kl", "chosen_drift",
    )  # fmt: skip

    def __init__(self, *, reference: ReferenceLogps, margins: list[float], nll: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reference, self.margins, self.nll = reference, margins, nll

    def micro_loss(self, model: nn.Module, micro: MicroBatch, totals: StepTotals) -> tuple[Tensor, Measures]:
        """Part of  (1/N) Σ ℓ(pair) + nll · (1/T) Σ −log π_θ(chosen action token), over N pairs and T tokens."""
        device = self.accelerator.device
        tokens = self.work.sequences.of(micro.examples) if micro.examples else []
        logps = self.logps(model, tokens, micro.calls)
        if not tokens:
            return logps[0], {}
        fixed = [self.reference.of(row, side, device) for row in micro.examples for side in (0, 1)]
        ratios = torch.stack([
            log_ratio(ours, theirs, self.weights(sequence, device))
            for ours, theirs, sequence in zip(logps, fixed, tokens, strict=True)
        ])  # fmt: skip
        margin = torch.tensor([self.margins[row] for row in micro.examples], device=device)
        losses = m_dpo(ratios[0::2], ratios[1::2], self.args.beta, self.args.label_smoothing, margin)
        cross_entropy = -torch.stack([part.double().sum() for part in logps[0::2]]).sum()
        loss = losses.sum() / totals.examples + self.nll * cross_entropy / totals.actions[0]
        return loss, self._measures(logps, fixed, ratios.detach(), cross_entropy.detach())

    def _measures(self, logps: list[Tensor], fixed: list[Tensor], ratios: Tensor, cross_entropy: Tensor) -> Measures:
        chosen, rejected = self.args.beta * ratios[0::2], self.args.beta * ratios[1::2]
        sums = torch.stack([part.detach().sum() for part in logps])
        pairs = len(chosen)
        actions = sum(part.numel() for part in logps[0::2])
        return {
            "rewards/chosen": (chosen.sum(), pairs),
            "rewards/rejected": (rejected.sum(), pairs),
            "rewards/accuracies": ((chosen > rejected).sum(), pairs),
            "rewards/margins": ((chosen - rejected).sum(), pairs),
            "logps/chosen": (sums[0::2].sum(), pairs),
            "logps/rejected": (sums[1::2].sum(), pairs),
            "nll_loss": (cross_entropy, actions),
            "reference_kl": squared_drift(logps, fixed),
            "chosen_drift": drift_measure(ratios[0::2], actions),
        }


def mdpo_trainer(
    policy: str | Path,
    reference: str | Path,
    dataset: Dataset,
    stage: TrainStage,
    dtype: torch.dtype = torch.float32,
) -> tuple[MultiTurnDPOTrainer, Job]:
    """The trainer that `train_mdpo` runs, and what it is for; the arguments are the same."""
    job = Job(policy, dataset, stage, dtype, DPOConfig, DEFAULTS, SIDES)
    reference_logps = job.reference_logps(reference, job.sequences)
    trainer = MultiTurnDPOTrainer(
        reference=reference_logps, margins=list(dataset["margin"]), nll=stage.options.nll, **job.common()
    )
    return trainer, job


def train_mdpo(
    policy: str | Path,
    reference: str | Path,
    dataset: Dataset,
    stage: TrainStage,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Train a policy on pairs with M-DPO, or with DPO if the masks of the rows say so.

    Args:
        policy: The checkpoint to start from.
        reference: π_ref; the same checkpoint as `policy` for the updated reference, the first one for a fixed one.
        dataset: Rows of `mdpo.data.pair_dataset`.
        stage: Where to read and write, and with which options.
        dtype: The type that the policy computes in; see `mdpo.train.adapters.load_for_training`.

    Returns:
        The folder of the trained policy.
    """
    with quiet():
        return run_training(*mdpo_trainer(policy, reference, dataset, stage, dtype))
