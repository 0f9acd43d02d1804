"""Supervised fine-tuning on demonstrations, with the same action mask as everything else (paper §3.1)."""

from pathlib import Path

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from mdpo.checkpoint import load_model, load_tokenizer
from mdpo.train.stage import TrainStage, quiet, run_training, training_arguments

# The paper's SFT of the Gemma family: learning rate 5e-6, cosine, clipped at 1, batch 64.
_DEFAULTS = {
    "learning_rate": 5e-6,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 50,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 8,
}


def train_sft(policy: str | Path, dataset: Dataset, stage: TrainStage, dtype: torch.dtype = torch.float32) -> Path:
    """Maximise the likelihood of the actions of some demonstrations.

    Args:
        policy: The checkpoint to start from.
        dataset: Rows of `input_ids` and `labels`, from `mdpo.data.sft_dataset` or `trajectory_dataset`.
        stage: Where to read and write.
        dtype: The type of the weights while they are trained.

    Returns:
        The folder of the trained policy.
    """
    tokenizer = load_tokenizer(policy)
    with quiet():
        trainer = SFTTrainer(
            model=load_model(policy, dtype),
            args=training_arguments(SFTConfig, stage, _DEFAULTS),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        return run_training(trainer, tokenizer, stage)
