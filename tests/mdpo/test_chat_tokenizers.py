"""Tokenizers that put a blank in front of a text, swallow white space or normalise it."""

from functools import cache

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mdpo.chat import ChatFormat, ObservationRole
from tests.mdpo.chat_families import OURS, QUICKSTART, appended, messages, template_ids, tokenizer_of


@cache
def sentencepiece_like(scheme: str) -> PreTrainedTokenizerFast:
    """A byte-fallback BPE that writes blanks as `▁` and puts one in front of texts; `legacy` does it by normalising."""
    texts = [
        "How many? Compute. Again. Step 1 2 3 4 5 6 7 8 9 0",
        "User: Assistant: ```python print(7) ```output 7 ```",
    ]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if scheme == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        # Training needs words; the tokenizer itself splits nothing.
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[*special, *[f"<0x{byte:02X}>" for byte in range(256)]],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts * 5, trainer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
BLANKS: dict[str, str] = {
    "mistral": (OURS / "mistral_v03.jinja").read_text(),
    "llama 2": (OURS / "llama2.jinja").read_text(),
    "deepseek": (OURS / "deepseek_math.jinja").read_text(),
    "phi": PHI,
}


def blank_chat(scheme: str, template: str, role: ObservationRole) -> ChatFormat:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(sentencepiece_like(scheme).backend_tokenizer.to_str()),
        bos_token="<s>",
        eos_token="</s>",
    )
    tokenizer.chat_template = BLANKS[template]
    return ChatFormat(tokenizer, role)


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("template", BLANKS)
@pytest.mark.parametrize("scheme", ["first", "always", "never", "legacy"])
def test_no_blank_is_put_in_front_of_a_message_that_is_encoded_by_itself(
    scheme: str, template: str, turns: int
) -> None:
    chat = blank_chat(scheme, template, "user")
    actions, observations = ["Compute."] * turns, ["```output\n7\n```"] * turns
    theirs = template_ids(chat.tokenizer, messages("user", actions, observations), generate=True)
    assert appended(chat, actions, observations) == theirs
    assert not [difference for difference in chat.differences if difference.kind == "tokens"]


@pytest.mark.parametrize("template", BLANKS)
@pytest.mark.parametrize("scheme", ["first", "always", "never", "legacy"])
def test_inline_no_blank_is_put_in_front_of_an_observation(scheme: str, template: str) -> None:
    chat = blank_chat(scheme, template, "inline")
    action = chat.action_ids("Compute.\n```python\nprint(7)\n```", last=False)
    ids = chat.prompt_ids("How many?") + action + chat.observation_ids("```output\n7\n```", action)
    text = chat.tokenizer.decode(ids)
    assert text.endswith("Compute.\n```python\nprint(7)\n```\n```output\n7\n```\n")


def test_a_special_token_that_swallows_white_space_swallows_none_of_an_inline_observation() -> None:
    tokenizer = tokenizer_of("phi 3")
    strips = AutoTokenizer.from_pretrained(QUICKSTART)
    strips.add_tokens([AddedToken("<|finish|>", special=True, normalized=False, rstrip=True)])
    strips.eos_token = "<|finish|>"
    strips.chat_template = str(tokenizer.chat_template).replace("<|end|>", "<|finish|>")
    chat = ChatFormat(strips, "inline")
    action = chat.action_ids("```python\nprint(7)\n```", last=False)
    assert strips.decode(chat.observation_ids("```output\n7\n```", action)) == "\n7\n```\n"


def test_markup_that_appears_only_after_normalising_is_broken_too() -> None:
    tokenizer = AutoTokenizer.from_pretrained(QUICKSTART)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.add_tokens([AddedToken("<stop>", special=True, normalized=True)])
    chat = ChatFormat(tokenizer)
    stop = tokenizer.convert_tokens_to_ids("<stop>")
    assert stop in tokenizer.encode("＜STOP＞")
    action = chat.action_ids("Compute.")
    assert stop not in chat.observation_ids("```output\n＜STOP＞ <Stop> <stop>\n```", action)
