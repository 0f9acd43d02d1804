"""How much memory a training and a generation take on each GPU: arithmetic from a model's `config.json`, no weights.

Parameters are counted exactly, on torch's meta device. What depends on them is exact, too; activations are an estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

Sharding = Literal["none", "zero2", "full"]

GIB = 1024**3
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "4 bits": 0.5}
# Bytes of an optimizer's state for each parameter, by what TRL's `optim` begins with.
_STATES = {"adafactor": 0, "sgd": 0, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2}
# Values of a layer that are kept for its backward pass, in hidden and in intermediate sizes a token: the inputs of two
# norms, queries, keys, values, attention's output and both residuals; gate, up, their product and its input.
_KEPT_HIDDEN, _KEPT_INTERMEDIATE = 9, 4
_CHUNK = 2**26  # logits that the loss holds at once


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a model.

    Attributes:
        parameters: All of them.
        embedding: Those of the embedding, and of the output head if it has its own.
        trainable: Those that are trained; fewer with LoRA.
        layers, hidden, intermediate, vocabulary: As in `config.json`.
        kv_values: Keys and values that one token leaves in the cache of all layers.
        heads: Attention heads, which tensor parallelism shares out.
        context: The longest sequence, if the model has a bound.
    """

    parameters: int
    embedding: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    kv_values: int
    heads: int
    context: int | None

    def __str__(self) -> str:
        inner = (self.parameters - self.embedding) / self.layers
        if self.parameters < 1e7:
            return f"{self.parameters:,} parameters"
        return (
            f"{self.parameters / 1e9:.2f} billion parameters: {self.embedding / 1e9:.2f} in embeddings + "
            f"{self.layers} layers × {inner / 1e9:.3f}"
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the memory of a GPU, in bytes, with the arithmetic that gave it."""

    name: str
    bytes: float
    arithmetic: str


def architecture(config: PretrainedConfig, lora_rank: int | None = None) -> Architecture:
    """The sizes of the model that a configuration describes.

    Args:
        config: Of a causal language model.
        lora_rank: Where only adapters of this rank on all linear layers are trained.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    ends = {
        id(weight): weight.numel()
        for end in (model.get_input_embeddings(), model.get_output_embeddings())
        for weight in end.parameters()
    }
    parameters = sum(p.numel() for p in model.parameters())
    adapters = sum(
        lora_rank * (m.in_features + m.out_features)
        for m in model.modules()
        if lora_rank and isinstance(m, torch.nn.Linear) and m is not model.get_output_embeddings()
    )
    text = config.get_text_config()
    heads = int(text.num_attention_heads)
    kv_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    head_size = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    return Architecture(
        parameters=parameters,
        embedding=sum(ends.values()),
        trainable=adapters or parameters,
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        intermediate=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        vocabulary=int(text.vocab_size),
        kv_values=2 * int(text.num_hidden_layers) * kv_heads * head_size,
        heads=heads,
        context=getattr(text, "max_position_embeddings", None),
    )


def training_memory(
    model: Architecture,
    dtype: str,
    tokens: int,
    args: Mapping[str, Any],
    sharding: Sharding = "none",
    gpus: int = 1,
) -> list[Part]:
    """The memory of one GPU in training.

    Args:
        model: Its sizes.
        dtype: The type of frozen weights (LoRA's base), `4 bits` for QLoRA; what is trained is in float32, and computed
            with in 16 bit.
        tokens: Of one micro-batch, at most: rows × sequences of a row × longest sequence.
        args: TRL's arguments: `optim`, `gradient_checkpointing`.
        sharding: `none` (DDP), `zero2` (optimizer and gradients are shared out) or `full` (weights too; FSDP, ZeRO-3).
        gpus: How many train together.
    """
    trained, frozen = model.trainable, model.parameters if model.trainable < model.parameters else 0
    weights, held = (gpus if sharding == "full" else 1), (gpus if sharding != "none" else 1)
    state = next((size for name, size in _STATES.items() if str(args.get("optim", "")).startswith(name)), 8)
    parts = [
        Part("weights", trained * 4 / weights, f"{_billions(trained)} × 4 B{_shared(weights)}"),
        Part("gradients", trained * 4 / held, f"{_billions(trained)} × 4 B{_shared(held)}"),
        Part("optimizer", trained * state / held, f"{_billions(trained)} × {state} B{_shared(held)}"),
    ]
    if frozen:
        width = _BYTES[dtype]
        parts.append(
            Part("frozen weights", frozen * width / weights, f"{_billions(frozen)} × {width} B{_shared(weights)}")
        )
    if sharding != "full" and not frozen:
        parts.append(Part("copies to compute with", trained * 2, f"{_billions(trained)} × 2 B"))
    checkpointing = bool(args.get("gradient_checkpointing", True))
    return [*parts, _activations(model, tokens, checkpointing), _logits(model, tokens)]


def generation_memory(model: Architecture, dtype: str, rows: int, tokens: int, gpus: int = 1) -> list[Part]:
    """The memory of one GPU in generation.

    Args:
        model: Its sizes.
        dtype: The type of weights and cache.
        rows: Sequences sampled together.
        tokens: The longest of them.
        gpus: How many share one copy of the model.
    """
    width = _BYTES[dtype]
    cache = rows * tokens * model.kv_values * width
    return [
        Part("weights", model.parameters * width / gpus, f"{_billions(model.parameters)} × {width} B{_shared(gpus)}"),
        Part(
            "KV cache, all rows at their longest",
            cache / gpus,
            f"{rows:,} rows × {tokens:,} tokens × {model.kv_values * width / 1024:,.0f} KiB{_shared(gpus)}",
        ),
    ]


def total(parts: list[Part]) -> float:
    """All parts together, in bytes."""
    return sum(part.bytes for part in parts)


def size(count: float) -> str:
    """Bytes in words: GiB, or MiB below one."""
    return f"{count / GIB:,.1f} GiB" if count >= GIB else f"{1024 * count / GIB:,.1f} MiB"


def _activations(model: Architecture, tokens: int, checkpointing: bool) -> Part:
    """Kept for the backward pass, in 16 bit: with checkpoints one hidden state a layer, and one layer in full."""
    layer = 2 * (_KEPT_HIDDEN * model.hidden + _KEPT_INTERMEDIATE * model.intermediate)
    between = 2 * model.hidden * model.layers
    if checkpointing:
        arithmetic = f"{tokens:,} tokens × ({model.layers} layers × {model.hidden:,} × 2 B + one layer, {layer:,} B)"
        return Part("activations, about", tokens * (between + layer), arithmetic)
    arithmetic = f"{tokens:,} tokens × {model.layers} layers × {layer:,} B"
    return Part("activations, about", tokens * model.layers * layer, arithmetic)


def _logits(model: Architecture, tokens: int) -> Part:
    """Scores of all words at action positions, and their gradient, a chunk at a time."""
    rows = min(tokens, max(1, _CHUNK // model.vocabulary))
    arithmetic = f"{rows:,} of {tokens:,} action positions at a time × {model.vocabulary:,} × 4 B × 2"
    return Part("logits, at most", 2 * rows * model.vocabulary * 4, arithmetic)


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f}e9" if count >= 1e7 else f"{count:,}"


def _shared(gpus: int) -> str:
    return f" / {gpus} GPUs" if gpus > 1 else ""
