"""The quickstart's policy before it has learned anything: a tokenizer trained on the problems, and a tiny Llama."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mdpo.demonstration import Demonstration
from mdpo.render import observation_text

_VOCABULARY = 1024
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_END, _PAD = "<|end|>", "<|pad|>"
_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Numbers in chunks of two digits from the left; words and runs of signs with the blank before them.
_PIECES = Regex(r"\d{1,2}| ?[A-Za-z]+| ?[^\sA-Za-z\d]+|\s+")


def train_tokenizer(demonstrations: Iterable[Demonstration]) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the texts of some demonstrations, with a chat template of one token a role."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_PIECES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_PAD, _END, *_ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every pair of digits becomes one token, also the pairs that are rare in the texts.
    pairs = " ".join(f"{number:02d}" for number in range(100))
    texts = ["\n".join([d.question, *d.actions, *map(observation_text, d.observations)]) for d in demonstrations]
    tokenizer.train_from_iterator([*texts, *[pairs] * len(texts)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD, chat_template=_TEMPLATE, model_max_length=512
    )


def fresh_policy(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    """A Llama of about half a million parameters with random weights."""
    torch.manual_seed(seed)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        **ids,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    return model


def save_fresh_policy(folder: Path, demonstrations: Iterable[Demonstration], seed: int = 0) -> None:
    """Write an untrained policy as an ordinary Hugging Face checkpoint."""
    tokenizer = train_tokenizer(demonstrations)
    fresh_policy(tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
