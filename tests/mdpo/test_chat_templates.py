"""One specification for all families of chat templates, every role of observations, and one to four turns."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import mdpo.quickstart
from mdpo.chat import ChatFormat, ObservationRole
from mdpo.errors import ChatTemplateError
from mdpo.render import call_action, observation_text

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
    eos: str | None = field(default=None)


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


@pytest.mark.parametrize(("name", "role"), CASES)
def test_a_role_works_exactly_or_its_differences_are_listed_or_it_is_refused(name: str, role: ObservationRole) -> None:
    expected = FAMILIES[name].roles[role]
    if isinstance(expected, str):
        with pytest.raises(ChatTemplateError, match=expected.format(role)) as refused:
            ChatFormat(tokenizer_of(name), role)
        working = [other for other, kinds in FAMILIES[name].roles.items() if not isinstance(kinds, str)]
        assert str(refused.value).endswith(f"what works with this tokenizer: {', '.join(working)}")
        return
    assert tuple(difference.kind for difference in chat_of(name, role).differences) == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_prompt_is_the_templates_and_holds_the_question_and_one_beginning(name: str) -> None:
    tokenizer = tokenizer_of(name)
    ids = chat_of(name, "user").prompt_ids("How many apples?")
    assert ids == template_ids(tokenizer, [{"role": "user", "content": "How many apples?"}], generate=True)
    assert "How many apples?" in tokenizer.decode(ids)
    if tokenizer.bos_token is not None:
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
@pytest.mark.parametrize(("name", "role"), PLAIN)
def test_after_any_number_of_turns_the_ids_are_the_templates(name: str, role: ObservationRole, turns: int) -> None:
    chat = chat_of(name, role)
    actions = [call_action(f"Step {turn}.", f"print({turn})") for turn in range(turns)]
    observations = [observation_text(str(turn)) for turn in range(turns)]
    assert_same_ids(chat, actions, observations)


@pytest.mark.parametrize(("name", "role"), USABLE)
def test_the_end_of_turn_is_counted_once_whether_sampled_or_cut_by_a_stop_string(
    name: str, role: ObservationRole
) -> None:
    chat = chat_of(name, role)
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_of_turn_id) == FAMILIES[name].end
    sampled = chat.action_ids("Compute.")
    closing = len(chat.tokenizer.encode(chat.template.seams.close, add_special_tokens=False))
    cut = sampled[:-closing]
    assert sampled[-1] == chat.end_of_turn_id
    whole = sampled + chat.observation_ids("7", sampled)
    if role != "inline":
        assert whole == cut + chat.observation_ids("7", cut)
    else:
        assert chat.end_of_turn_id not in cut + chat.observation_ids("7", cut)
    assert whole[len(sampled)] != chat.end_of_turn_id


# --- inline ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampled", ["", "\n", "\n```output", "\n```output\n", "\n```output:"])
def test_inline_nothing_that_the_policy_sampled_of_the_opening_is_repeated(sampled: str) -> None:
    chat = chat_of("deepseek-math", "inline")
    action = call_action("Add.", "print(7)") + sampled
    ids = chat.tokenizer.encode(action, add_special_tokens=False)
    whole = chat.tokenizer.decode(ids + chat.observation_ids("```output\n7\n```", ids))
    assert whole.replace(":", "") == call_action("Add.", "print(7)") + "\n```output\n7\n```\n"


def test_inline_a_policy_that_ended_its_turn_is_answered_by_a_user_message() -> None:
    chat = chat_of("deepseek-math", "inline")
    action = chat.action_ids("Compute.")
    ids = chat.prompt_ids("How many?") + action + chat.observation_ids("```output\n7\n```", action)
    assert ids == template_ids(chat.tokenizer, messages("user", ["Compute."], ["```output\n7\n```"]), generate=True)


# --- any text ----------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# An action that begins with white space may merge with the generation prompt before it, which no sampler does.
ACTIONS = TEXTS.map(lambda text: f"A{text.strip()}.")
FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(("name", "role"), FAITHFUL)
@FAST
@given(turns=st.lists(st.tuples(ACTIONS, TEXTS, st.booleans()), min_size=1, max_size=3))
def test_any_actions_and_observations_give_the_ids_of_the_template(
    name: str, role: ObservationRole, turns: list[tuple[str, str, bool]]
) -> None:
    observations = [observation_text(text) if fenced or role == "inline" else text for _, text, fenced in turns]
    assert_same_ids(chat_of(name, role), [action for action, _, _ in turns], observations)


@pytest.mark.parametrize(("name", "role"), USABLE)
@FAST
@given(data=st.data())
def test_no_observation_holds_markup_of_its_own(name: str, role: ObservationRole, data: st.DataObject) -> None:
    chat = chat_of(name, role)
    special = set(chat.tokenizer.added_tokens_decoder)
    markup = st.sampled_from([*chat.template.markup, *[token[:-1] for token in chat.template.markup]])
    printed = "".join(data.draw(st.lists(st.one_of(TEXTS, markup), max_size=6)))
    action = chat.action_ids("Compute.", last=False)
    honest = [i for i in chat.observation_ids("```output\n7\n```", action) if i in special]
    assert [i for i in chat.observation_ids(observation_text(printed), action) if i in special] == honest


# --- templates that rewrite ----------------------------------------------------------------------------------------


def test_a_template_that_drops_earlier_thinking_is_continued_by_appending() -> None:
    chat = chat_of("qwen 3", "user")
    thinking = "<think>\nSeven?\n</think>\n\nCompute."
    ids = appended(chat, [thinking, "Again."], ["7", "8"])
    assert thinking in chat.tokenizer.decode(ids)
    conversation = messages("user", [thinking, "Again."], ["7", "8"])
    assert thinking not in chat.tokenizer.decode(template_ids(chat.tokenizer, conversation, generate=True))
    assert [str(difference) for difference in chat.rewrites] == [
        "an earlier action with thinking: given all messages again, the chat template would drop "
        r"'<think>\nthought\n</think>\n\n'"
    ]


def test_a_template_that_drops_earlier_thinking_is_refused_on_request_with_what_helps() -> None:
    with pytest.raises(ChatTemplateError, match=r"drop '<think>.*one that it keeps \(tool, inline\).*history: append"):
        ChatFormat(tokenizer_of("qwen 3"), history="refuse")
    with pytest.raises(ChatTemplateError, match="rewrites earlier turns"):
        ChatFormat(tokenizer_of("deepseek r1 distill"), history="refuse")
    assert not ChatFormat(tokenizer_of("qwen 3"), "tool", history="refuse").rewrites
    # White space that a template trims is listed, but is no reason to refuse.
    assert ChatFormat(tokenizer_of("gemma"), history="refuse").differences


def test_thinking_that_the_prompt_opens_is_no_part_of_the_action() -> None:
    chat = chat_of("deepseek r1 distill", "user")
    action = chat.action_ids("Seven.\n</think>\n\nCompute.")
    assert chat.tokenizer.decode(chat.prompt_ids("Q")).endswith("<｜Assistant｜><think>\n")
    assert chat.tokenizer.decode(chat.observation_ids("7", action)) == "<｜User｜>7<｜Assistant｜><think>\n"
    assert chat.tokenizer.decode(action) == "Seven.\n</think>\n\nCompute.<｜end▁of▁sentence｜>"
    assert [str(difference) for difference in chat.rewrites] == [
        "an earlier action: given all messages again, the chat template would drop '<think>\\nthought\\n</think>'"
    ]


def test_empty_thinking_that_an_argument_forces_is_no_part_of_the_action() -> None:
    chat = ChatFormat(tokenizer_of("qwen 3"), "tool", template_args={"enable_thinking": False})
    action = chat.action_ids("Compute.")
    for ids in (chat.prompt_ids("Q"), chat.observation_ids("7", action)):
        assert chat.tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert chat.tokenizer.decode(action) == "Compute.<|im_end|>"


def test_a_system_prompt_that_wanders_to_the_newest_message_is_not_repeated_and_is_listed() -> None:
    chat = ChatFormat(tokenizer_of("mistral v0.3"), system="Be brief.")
    assert chat.tokenizer.decode(appended(chat, ["Compute."], ["7"])).count("Be brief.") == 1
    assert "Be brief." in str(chat.rewrites[0])


# --- tokenizers that put a blank in front of a text ------------------------------------------------------------------


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


@pytest.mark.parametrize("role", ["tool", "ipython"])
def test_a_template_that_writes_observations_as_json_is_followed(role: ObservationRole) -> None:
    chat = chat_of("llama 3.1", role)
    action = chat.action_ids("Compute.")
    assert '"```output\\n\\"7\\"\\n```"' in chat.tokenizer.decode(chat.observation_ids('```output\n"7"\n```', action))
