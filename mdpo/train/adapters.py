"""LoRA and QLoRA: train small matrices beside frozen weights, and merge them into the weights at the end.

After the merge a policy is an ordinary checkpoint, so that engines, evaluation and the next iteration know one kind.
"""

import gc
import importlib.util
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from mdpo.checkpoint import load_model, no_progress_bars
from mdpo.errors import MissingExtraError, TrainingError
from mdpo.train.stage import Adapter


def peft_config(adapter: Adapter) -> LoraConfig:
    """An adapter as PEFT wants it."""
    targets = adapter.target_modules if isinstance(adapter.target_modules, str) else list(adapter.target_modules)
    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def load_for_training(policy: Path | str, dtype: torch.dtype, adapter: Adapter | None) -> PreTrainedModel:
    """A policy as it is trained, or a reference as it is compared with.

    Weights that are trained are in float32 whatever `dtype` says: at a learning rate of 4e-7 a step is far below the
    spacing of bfloat16, and would be rounded away. On GPUs the products are in bfloat16 nevertheless (autocast).
    Frozen weights, beside which adapters are trained, are in `dtype` or in 4 bits.

    Raises:
        MissingExtraError: 4 bits, and bitsandbytes is not installed.
        TrainingError: 4 bits, and there is no CUDA GPU.
    """
    if adapter is None:
        return load_model(policy, torch.float32)
    if not adapter.quantize:
        return load_model(policy, dtype)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("`quantize` (QLoRA) needs bitsandbytes; run `pip install bitsandbytes`, or turn it off")
    if not torch.cuda.is_available():
        raise TrainingError("`quantize` (QLoRA) needs a CUDA GPU, and none is here; turn it off for plain LoRA")
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    device: dict[str, Any] = {"": torch.cuda.current_device()}
    with no_progress_bars():
        return AutoModelForCausalLM.from_pretrained(
            policy, dtype=dtype, quantization_config=four_bits, device_map=device
        )


def merge_adapter(policy: Path | str, adapter: Path, dtype: torch.dtype, target: Path) -> None:
    """Add trained adapters to the unquantised weights they were trained beside, and save an ordinary checkpoint.

    Args:
        policy: The checkpoint that was trained.
        adapter: The folder that the trainer saved.
        dtype: The type of the saved weights.
        target: The new checkpoint's folder.
    """
    gc.collect()
    # The sum is taken in float32 and rounded once.
    model = PeftModel.from_pretrained(load_model(policy, torch.float32), adapter)
    with no_progress_bars():
        model.merge_and_unload().to(dtype).save_pretrained(target)
