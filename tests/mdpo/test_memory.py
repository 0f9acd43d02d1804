"""The arithmetic of memory, on models whose sizes are published."""

import pytest
from transformers import Gemma2Config, GemmaConfig, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config

from mdpo.memory import GIB, architecture, generation_memory, total, training_memory

# The values of the models' own config.json.
GEMMA_2_9B = Gemma2Config(
    vocab_size=256000, hidden_size=3584, intermediate_size=14336, num_hidden_layers=42, num_attention_heads=16,
    num_key_value_heads=8, head_dim=256, max_position_embeddings=8192,
)  # fmt: skip
GEMMA_7B = GemmaConfig(
    vocab_size=256000, hidden_size=3072, intermediate_size=24576, num_hidden_layers=28, num_attention_heads=16,
    num_key_value_heads=16, head_dim=256, max_position_embeddings=8192,
)  # fmt: skip
MISTRAL_7B = MistralConfig(
    vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8, max_position_embeddings=32768, tie_word_embeddings=False,
)  # fmt: skip
QWEN_1_5B = Qwen2Config(
    vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
SMOLLM_135M = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "billions"),
    [(GEMMA_2_9B, 9.24), (GEMMA_7B, 8.54), (MISTRAL_7B, 7.25), (QWEN_1_5B, 1.544), (SMOLLM_135M, 0.1345)],
)
def test_parameters_are_the_published_ones(config: PretrainedConfig, billions: float) -> None:
    assert architecture(config).parameters / 1e9 == pytest.approx(billions, rel=2e-3)


def test_the_parts_are_said() -> None:
    assert str(architecture(MISTRAL_7B)) == "7.25 billion parameters: 0.27 in embeddings + 32 layers × 0.218"


def test_a_token_in_the_cache_is_two_vectors_a_layer() -> None:
    assert architecture(MISTRAL_7B).kv_values == 2 * 32 * 8 * 128
    parts = {part.name: part for part in generation_memory(architecture(MISTRAL_7B), "bfloat16", 256, 2048, gpus=2)}
    cache = parts["KV cache, all rows at their longest"]
    assert cache.bytes == 256 * 2048 * 2 * 32 * 8 * 128 * 2 / 2
    assert cache.arithmetic == "256 rows × 2,048 tokens × 128 KiB / 2 GPUs"


def test_full_training_takes_sixteen_bytes_a_parameter_and_sharding_divides_them() -> None:
    model = architecture(MISTRAL_7B)
    held = {
        how: sum(p.bytes for p in training_memory(model, "bfloat16", 2048, {}, how, 8) if p.name in (
            "weights", "gradients", "optimizer")) / model.parameters
        for how in ("none", "zero2", "full")
    }  # fmt: skip
    assert held == {"none": 16, "zero2": 4 + 12 / 8, "full": 16 / 8}
    # A 7B model on one GPU of 80 GB needs sharding; on eight there is room.
    assert total(training_memory(model, "bfloat16", 8192, {}, "none", 8)) > 80 * GIB
    assert total(training_memory(model, "bfloat16", 8192, {}, "full", 8)) < 40 * GIB


def test_the_optimizer_and_checkpointing_are_looked_at() -> None:
    model = architecture(SMOLLM_135M)

    def of(name: str, **args: object) -> float:
        return next(p.bytes for p in training_memory(model, "float32", 4096, args) if p.name.startswith(name))

    assert of("optimizer", optim="adamw_torch_fused") == 8 * model.parameters
    assert of("optimizer", optim="paged_adamw_8bit") == 2 * model.parameters
    assert of("activations", gradient_checkpointing=False) > 5 * of("activations")


def test_adapters_are_trained_on_frozen_weights() -> None:
    model = architecture(MISTRAL_7B, lora_rank=16)
    # q, k, v, o, gate, up and down of each layer.
    wide, narrow, inner = 4096, 1024, 14336
    assert model.trainable == 32 * 16 * (2 * (wide + wide) + 2 * (wide + narrow) + 3 * (wide + inner))
    parts = {part.name: part.bytes for part in training_memory(model, "bfloat16", 2048, {})}
    assert parts["frozen weights"] == 2 * model.parameters
    assert parts["weights"] == 4 * model.trainable


def test_logits_are_held_a_chunk_at_a_time() -> None:
    parts = {part.name: part for part in training_memory(architecture(GEMMA_2_9B), "bfloat16", 8192, {})}
    assert parts["logits, at most"].bytes <= 2 * 2**26 * 4
