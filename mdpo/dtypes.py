"""The types of weights, by the names that the configuration uses."""

import torch

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_dtype(name: str) -> torch.dtype:
    """The torch type with this name."""
    return _TYPES[name]
