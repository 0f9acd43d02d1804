"""What many tests need: the quickstart's tokenizer, and tiny random models."""

import importlib.util
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mdpo.chat import ChatFormat
from mdpo.demonstration import Demonstration
from mdpo.quickstart.policy import fresh_policy, train_tokenizer
from mdpo.quickstart.problems import generate_demonstrations
from sandbox import Sandbox


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where vLLM is missing, the tests that need it are skipped and say so."""
    if importlib.util.find_spec("vllm") is None:
        skip = pytest.mark.skip(reason="vLLM is not installed: pip install 'mdpo[vllm]', or see CONTRIBUTING.md")
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def demonstrations() -> list[Demonstration]:
    with Sandbox() as sandbox, sandbox.session() as session:
        return list(generate_demonstrations(64, session.run_sync))


@pytest.fixture(scope="session")
def tokenizer(demonstrations: list[Demonstration]) -> PreTrainedTokenizerFast:
    return train_tokenizer(demonstrations)


@pytest.fixture(scope="session")
def chat(tokenizer: PreTrainedTokenizerFast) -> ChatFormat:
    return ChatFormat(tokenizer)


@pytest.fixture(scope="session")
def checkpoint(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained quickstart policy as a Hugging Face checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    fresh_policy(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_llama(seed: int, vocabulary: int = 60) -> LlamaForCausalLM:
    """A random Llama whose logits are peaked enough for ties to be rare."""
    import torch

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.2,
            tie_word_embeddings=False,
        )
    )
