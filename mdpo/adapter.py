"""PEFT adapters: folders that hold the difference between a policy and its base model."""

import json
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from mdpo.checkpoint import load_model
from mdpo.errors import CheckpointError

_CONFIG = "adapter_config.json"


def is_adapter(checkpoint: str | Path) -> bool:
    """Whether this is the folder of an adapter and not of a whole model."""
    return (Path(checkpoint) / _CONFIG).is_file()


def base_of(adapter: str | Path) -> str:
    """The base model that an adapter names: a folder or a hub id.

    Raises:
        CheckpointError: Its configuration is broken or names none.
    """
    try:
        base = json.loads((Path(adapter) / _CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{_CONFIG} of the adapter {adapter} cannot be read ({error}); save it again") from error
    if not base:
        raise CheckpointError(
            f"the adapter {adapter} names no base model; set base_model_name_or_path in its {_CONFIG}"
        )
    return str(base)


def load_policy(checkpoint: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a model, or an adapter merged into its base model.

    Args:
        checkpoint: The folder of an adapter, or what `mdpo.checkpoint.load_model` takes.
        dtype: The type of the weights in memory, in which the merged ones are rounded as well.

    Raises:
        CheckpointError: The checkpoint, the adapter or its base model is broken, incomplete or not there.
    """
    if not is_adapter(checkpoint):
        return load_model(checkpoint, dtype)
    from peft import PeftModel

    model = load_model(base_of(checkpoint), dtype)
    try:
        with warnings.catch_warnings():
            # PEFT would go on with made-up weights for those that the file lacks.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, checkpoint).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UserWarning) as error:
        cause = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the adapter {checkpoint} cannot be loaded ({cause}); save it again") from error
