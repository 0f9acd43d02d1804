"""Small PEFT adapters with random weights."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel


def random_adapter(base: Path, folder: Path, seed: int, rank: int = 4) -> PreTrainedModel:
    """Save an adapter that changes every linear layer a lot, and return the base model with it merged in."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=8 * rank, target_modules="all-linear", init_lora_weights=False)
    with_adapter = get_peft_model(model, config)
    with_adapter.save_pretrained(folder)
    return with_adapter.merge_and_unload().eval()
