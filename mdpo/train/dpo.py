"""Multi-turn direct preference optimisation, M-DPO (Xiong et al. 2025, equation 14).

    L = − Σ log σ( η Σ_h [ log π_θ(a_h^w|s_h^w) / π_ref(a_h^w|s_h^w) − log π_θ(a_h^l|s_h^l) / π_ref(a_h^l|s_h^l) ] )

It is DPO whose log-probabilities are summed over the policy's own tokens only: what the environment wrote conditions
the policy but is not in the sum. TRL's loss reads the mask that the collator gives it, so the change is in the data
alone. η is TRL's `beta`.
"""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from mdpo.checkpoint import load_model, load_tokenizer
from mdpo.data import PairCollator
from mdpo.train.stage import TrainStage, quiet, run_training, training_arguments

# The paper's M-DPO of Gemma-1.1-it-7B: η = 0.1, learning rate 4e-7, cosine, 40 warm-up steps, batch 32, one epoch.
_DEFAULTS = {
    "beta": 0.1,
    "learning_rate": 4e-7,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 40,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 32,
    # The reference model need not stay in memory.
    "precompute_ref_log_probs": True,
}


class MultiTurnDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's `DPOTrainer` on rows of `mdpo.data.pair_dataset`: token ids and action masks instead of text."""

    def __init__(
        self,
        model: PreTrainedModel,
        ref_model: PreTrainedModel | None,
        args: DPOConfig,
        train_dataset: Dataset,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        super().__init__(
            model=model,
            ref_model=ref_model,
            args=args,
            data_collator=PairCollator(pad),
            train_dataset=train_dataset,
            processing_class=tokenizer,
        )

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        # TRL would tokenise text here. Ours are ids already, and stay the ids that were sampled.
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        for name in ("chosen_mask", "rejected_mask"):
            if name not in self._signature_columns:
                self._signature_columns.append(name)


def train_mdpo(
    policy: str | Path,
    reference: str | Path,
    dataset: Dataset,
    stage: TrainStage,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Train a policy on pairs with M-DPO.

    Args:
        policy: The checkpoint to start from.
        reference: π_ref; the same checkpoint as `policy` for the updated reference, the first one for a fixed one.
        dataset: Rows of `mdpo.data.pair_dataset`.
        stage: Where to read and write.
        dtype: The type of the weights while they are trained.

    Returns:
        The folder of the trained policy.
    """
    tokenizer = load_tokenizer(policy)
    with quiet():
        trainer = MultiTurnDPOTrainer(
            model=load_model(policy, dtype),
            ref_model=None if str(policy) == str(reference) else load_model(reference, dtype),
            args=training_arguments(DPOConfig, stage, _DEFAULTS),
            train_dataset=dataset,
            tokenizer=tokenizer,
        )
        return run_training(trainer, tokenizer, stage)
