"""The families of chat templates, what each must do, and the same conversation made in two ways."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import trl
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import mdpo.quickstart
from mdpo.chat import ChatFormat, ObservationRole

TRL = Path(trl.__file__).parent / "chat_templates"
OURS = Path(__file__).parent / "templates"
QUICKSTART = Path(mdpo.quickstart.__file__).parent / "checkpoint"

EXACT: tuple[str, ...] = ()
TRIMS = ("white space",)
NO_MESSAGE, REFUSES = "does not render the {} message", "does not accept the {} message, number 3"


@dataclass(frozen=True)
class Family:
    """What a template must do.

    Attributes:
        file: Its template.
        end: Its end of turn.
        special: Its other special tokens.
        roles: For each role, the kinds of difference in the order found, or the beginning of the refusal.
        lead: What stands between the generation prompt and an action.
        system: Whether it takes a system prompt.
    """

    file: Path
    end: str
    special: tuple[str, ...]
    roles: dict[ObservationRole, tuple[str, ...] | str]
    lead: str = ""
    system: bool = True
    bos: str | None = None
    eos: str | None = None


CHATML = ("<|im_start|>",)
HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
THINKS = ("<think>", "</think>")
R1 = ("<｜User｜>", "<｜Assistant｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>",
      "<｜tool▁outputs▁end｜>", *THINKS)  # fmt: skip
EVERY_ROLE: dict[ObservationRole, tuple[str, ...] | str] = dict.fromkeys(("user", "tool", "ipython", "inline"), EXACT)

FAMILIES = {
    "chatml": Family(OURS / "chatml.jinja", "<|im_end|>", CHATML, EVERY_ROLE),
    "smollm2": Family(OURS / "smollm2.jinja", "<|im_end|>", CHATML, EVERY_ROLE),
    "quickstart": Family(QUICKSTART / "chat_template.jinja", "<|end|>", (), EVERY_ROLE),
    "gemma": Family(
        TRL / "gemma.jinja",
        "<end_of_turn>",
        ("<start_of_turn>",),
        {"user": TRIMS, "tool": REFUSES, "ipython": REFUSES, "inline": TRIMS},
        system=False,
        bos="<bos>",
        eos="<eos>",
    ),
    "mistral v0.3": Family(
        OURS / "mistral_v03.jinja",
        "</s>",
        ("[INST]", "[/INST]"),
        {"user": TRIMS, "tool": REFUSES, "ipython": REFUSES, "inline": TRIMS},
        lead=" ",
        bos="<s>",
        eos="</s>",
    ),
    "llama 2": Family(
        OURS / "llama2.jinja",
        "</s>",
        ("[INST]", "[/INST]"),
        {"user": TRIMS, "tool": REFUSES, "ipython": REFUSES, "inline": TRIMS},
        lead=" ",
        system=False,
        bos="<s>",
        eos="</s>",
    ),
    "llama 3": Family(
        TRL / "llama3.jinja",
        "<|eot_id|>",
        HEADERS,
        dict.fromkeys(EVERY_ROLE, TRIMS),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
    ),
    "llama 3.1": Family(
        TRL / "llama3_1.jinja",
        "<|eot_id|>",
        HEADERS,
        dict.fromkeys(EVERY_ROLE, TRIMS),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
    ),
    "deepseek-math": Family(
        OURS / "deepseek_math.jinja",
        "<eos>",
        (),
        {"user": EXACT, "tool": NO_MESSAGE, "ipython": NO_MESSAGE, "inline": EXACT},
        lead=" ",
        bos="<bos>",
        eos="<eos>",
    ),
    "phi 3": Family(
        TRL / "phi3.jinja",
        "<|end|>",
        ("<|user|>", "<|assistant|>", "<|system|>"),
        {"user": EXACT, "tool": NO_MESSAGE, "ipython": NO_MESSAGE, "inline": EXACT},
        eos="<|endoftext|>",
    ),
    "qwen 2.5": Family(
        TRL / "qwen2_5.jinja",
        "<|im_end|>",
        CHATML,
        {"user": EXACT, "tool": EXACT, "ipython": NO_MESSAGE, "inline": EXACT},
    ),
    "qwen 3": Family(
        TRL / "qwen3.jinja",
        "<|im_end|>",
        (*CHATML, *THINKS, "<tool_response>", "</tool_response>"),
        {
            "user": ("last action", "history"),
            "tool": ("last action",),
            "ipython": NO_MESSAGE,
            "inline": ("last action", "last action"),
        },
    ),
    "deepseek r1 distill": Family(
        TRL / "deepseek_r1_distill.jinja",
        "<｜end▁of▁sentence｜>",
        R1,
        {"user": ("history",), "tool": ("history", "history"), "ipython": NO_MESSAGE, "inline": ("last action",)},
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
    ),
}
CASES = [(name, role) for name, family in FAMILIES.items() for role in family.roles]
USABLE = [(name, role) for name, role in CASES if not isinstance(FAMILIES[name].roles[role], str)]
# Where plain actions give the template's ids; Qwen 3 rewrites thinking only, and what it adds to the last message.
PLAIN = [
    (name, role)
    for name, role in USABLE
    if name != "deepseek r1 distill" and not (role == "inline" and "last action" in FAMILIES[name].roles[role])
]
FAITHFUL = [(name, role) for name, role in PLAIN if not set(FAMILIES[name].roles[role]) - {"white space"}]


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """The quickstart's byte-level tokenizer with a family's template and special tokens."""
    family = FAMILIES[name]
    tokenizer = AutoTokenizer.from_pretrained(QUICKSTART)
    special = [token for token in (family.end, *family.special, family.bos, family.eos) if token]
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.bos_token, tokenizer.eos_token = family.bos, family.eos or family.end
    tokenizer.chat_template = family.file.read_text(encoding="utf-8")
    return tokenizer


@cache
def chat_of(name: str, role: ObservationRole) -> ChatFormat:
    return ChatFormat(tokenizer_of(name), role)


def messages(role: str, actions: Iterable[str], observations: Iterable[str]) -> list[dict[str, str]]:
    """The conversation that the turns are, written by hand."""
    asked = [{"role": "user", "content": "How many?"}]
    if role != "inline":
        for action, observation in zip(actions, observations, strict=True):
            asked += [{"role": "assistant", "content": action}, {"role": role, "content": observation}]
        return asked
    turns = "".join(f"{a}\n{o}\n" for a, o in zip(actions, observations, strict=True))
    return [*asked, {"role": "assistant", "content": turns}]


def appended(chat: ChatFormat, actions: list[str], observations: list[str]) -> list[int]:
    """The same conversation as a rollout appends it."""
    ids = chat.prompt_ids("How many?")
    for number, (action, observation) in enumerate(zip(actions, observations, strict=True)):
        action_ids = chat.action_ids(action, first=number == 0, last=False)
        ids += action_ids + chat.observation_ids(observation, action_ids)
    return ids


def assert_same_ids(chat: ChatFormat, actions: list[str], observations: list[str]) -> None:
    """What a rollout appends are the ids of the whole conversation in the template."""
    ours, conversation = appended(chat, actions, observations), messages(chat.role, actions, observations)
    if chat.role == "inline":
        # The one message is over only with its last action.
        ours += chat.action_ids("So it is.", first=False)
        conversation[-1]["content"] += "So it is."
    theirs = template_ids(chat.tokenizer, conversation, generate=chat.role != "inline")
    # Some templates write a line break behind the last end of turn.
    assert ours == (theirs if chat.role != "inline" else theirs[: len(ours)])


def template_ids(tokenizer: PreTrainedTokenizerFast, conversation: list[dict[str, str]], generate: bool) -> list[int]:
    ids: Any = tokenizer.apply_chat_template(conversation, add_generation_prompt=generate, return_dict=False)
    return list(ids)
