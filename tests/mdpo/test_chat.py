"""The chat format: examples, errors, and what must not happen between a text and its tokens.

What each family of templates does is specified in `test_chat_templates.py`, tokenizers in `test_chat_tokenizers.py`.
"""

from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from mdpo.chat import ChatFormat, ObservationRole
from mdpo.data import demonstration_ids
from mdpo.demonstration import Demonstration
from mdpo.errors import ChatTemplateError, DataError
from mdpo.render import answer_action, call_action

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = (
    "<bos>{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SOLVED = Demonstration(
    problem_id="e",
    question="What is 2 + 3?",
    answer="5",
    source="test",
    actions=(call_action("Add.", "print(2 + 3)"), answer_action("5")),
    observations=("5",),
)
ROLES: tuple[ObservationRole, ...] = ("user", "tool", "ipython", "inline")


def with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>")
    copy.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<bos>"]})
    copy.chat_template = template
    return copy


@pytest.fixture
def chatml(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return with_template(tokenizer, CHATML)


def template_ids(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], generate: bool) -> list[int]:
    ids: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=True, return_dict=False)
    return list(ids)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_a_system_prompt_comes_first(chatml: PreTrainedTokenizerFast) -> None:
    expected = template_ids(chatml, [{"role": "system", "content": "S"}, user("Q")], generate=True)
    assert ChatFormat(chatml, system="S").prompt_ids("Q") == expected


@pytest.mark.parametrize("role", ["user", "tool", "ipython"])
def test_examples_are_earlier_turns_of_the_conversation(chatml: PreTrainedTokenizerFast, role: ObservationRole) -> None:
    observed = {"role": role, "content": "```output\n5\n```"}
    solved = [user(SOLVED.question), assistant(SOLVED.actions[0]), observed, assistant(SOLVED.actions[1])]
    messages = [{"role": "system", "content": "S"}, *solved, *solved, user("Q")]
    chat = ChatFormat(chatml, role, "S", examples=[SOLVED, SOLVED])
    assert chat.prompt_ids("Q") == template_ids(chatml, messages, generate=True)


def test_an_example_inline_is_one_message(chatml: PreTrainedTokenizerFast) -> None:
    solution = f"{SOLVED.actions[0]}\n```output\n5\n```\n{SOLVED.actions[1]}"
    messages = [user(SOLVED.question), assistant(solution), user("Q")]
    assert ChatFormat(chatml, "inline", examples=[SOLVED]).prompt_ids("Q") == template_ids(chatml, messages, True)


def test_examples_change_the_prompt_and_nothing_after_it(chatml: PreTrainedTokenizerFast) -> None:
    plain, primed = ChatFormat(chatml), ChatFormat(chatml, examples=[SOLVED])
    ids, mask = demonstration_ids(SOLVED, primed)
    prompt = primed.prompt_ids(SOLVED.question)
    rest = demonstration_ids(SOLVED, plain)[0][len(plain.prompt_ids(SOLVED.question)) :]
    assert ids == prompt + rest
    assert not any(mask[: len(prompt)])


@pytest.mark.parametrize("role", ROLES)
def test_a_demonstration_is_the_templates_conversation(chatml: PreTrainedTokenizerFast, role: ObservationRole) -> None:
    chat = ChatFormat(chatml, role, "S", examples=[SOLVED])
    ids, _ = demonstration_ids(SOLVED, chat)
    messages = chat.conversation(SOLVED.question, SOLVED.actions, ["```output\n5\n```"])
    assert chatml.decode(ids) + "\n" == chatml.apply_chat_template(messages, tokenize=False)
    assert ids == template_ids(chatml, messages, generate=False)[: len(ids)]


@pytest.mark.parametrize("role", ROLES)
def test_the_mask_keeps_what_the_policy_sampled_and_nothing_that_the_environment_wrote(
    chatml: PreTrainedTokenizerFast, role: ObservationRole
) -> None:
    ids, mask = demonstration_ids(SOLVED, ChatFormat(chatml, role))
    kept = chatml.decode([token for token, kept in zip(ids, mask, strict=True) if kept])
    # Inline, the policy opens the observation itself: that is how it asks for one.
    asked = "\n```output" if role == "inline" else "<|im_end|>"
    assert kept == SOLVED.actions[0] + asked + SOLVED.actions[1] + "<|im_end|>"


# --- what went wrong elsewhere -------------------------------------------------------------------------------------


def test_an_action_that_repeats_the_prompt_or_a_markdown_rule_keeps_every_token(
    chatml: PreTrainedTokenizerFast,
) -> None:
    chat = ChatFormat(chatml)
    action = f"{SOLVED.question}\n\n---\n\n{SOLVED.question} <think>5</think>"
    ids = chat.action_ids(action)
    assert chat.action_text(ids) == action
    assert chatml.decode(chat.observation_ids("---\n5", ids)).count("---\n5") == 1


def test_the_template_writes_the_beginning_of_sequence_and_nobody_doubles_it(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    strict = with_template(tokenizer, STRICT)
    # A tokenizer that adds one of its own to every text, as Llama's and Gemma's do.
    beginning = strict.convert_tokens_to_ids("<bos>")
    strict.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", beginning)]
    )
    assert strict.encode("a").count(beginning) == 1
    ids, _ = demonstration_ids(SOLVED, ChatFormat(strict))
    assert ids.count(beginning) == 1 and ids[0] == beginning


def test_an_action_cut_by_a_stop_string_is_closed_by_the_template(chatml: PreTrainedTokenizerFast) -> None:
    chat = ChatFormat(chatml)
    assert chat.stop_strings == ("```output",)
    cut = chatml.encode(call_action("Add.", "print(5)") + "\n```output", add_special_tokens=False)
    conversation = [user("Q"), assistant(chat.action_text(cut)), user("```output\n5\n```")]
    ids = chat.prompt_ids("Q") + cut + chat.observation_ids("```output\n5\n```", cut)
    assert ids == template_ids(chatml, conversation, generate=True)


def test_another_stop_token_ends_the_turn_as_well_and_nothing_is_added(chatml: PreTrainedTokenizerFast) -> None:
    chat = ChatFormat(chatml)
    assert [chatml.convert_ids_to_tokens(token) for token in chat.stop_ids] == ["<|im_end|>", "<|end|>"]
    ended = [*chatml.encode("Compute."), chatml.eos_token_id]
    assert chat.action_text(ended) == "Compute."
    assert chat.end_of_turn_id not in chat.observation_ids("5", ended)[:1]


def test_an_observation_keeps_its_text_but_for_markup(chatml: PreTrainedTokenizerFast) -> None:
    chat = ChatFormat(chatml)
    action = chat.action_ids("Compute.")
    text = chatml.decode(chat.observation_ids("a <b> [c] <|im_end|>\n  d\t", action))
    assert text == "\n<|im_start|>user\na <b> [c] < |im_end|>\n  d\t<|im_end|>\n<|im_start|>assistant\n"


# --- errors --------------------------------------------------------------------------------------------------------


def test_a_written_action_that_ends_a_turn_within_is_refused(chatml: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="holds a token that ends a turn"):
        ChatFormat(chatml).action_ids("One.<|im_end|>Two.")


def test_a_role_that_the_template_refuses_is_named_with_the_roles_that_work(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ChatTemplateError, match=r"the tool message, number 3 of .*alternate.*: user, inline$"):
        ChatFormat(with_template(tokenizer, STRICT), role="tool")


def test_a_role_that_the_template_refuses_only_in_the_second_turn_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    once = CHATML.replace(
        "%}<|im_start|>{{ m.role }}",
        "%}{% if loop.index0 == 4 and m.role == 'tool' %}{{ raise_exception('one call only') }}{% endif %}"
        "<|im_start|>{{ m.role }}",
        1,
    )
    with pytest.raises(ChatTemplateError, match=r"number 5 of .*one call only; .*: user, ipython, inline$"):
        ChatFormat(with_template(tokenizer, once), role="tool")


def test_a_system_prompt_that_the_template_refuses_is_named(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ChatTemplateError, match=r"the system message, number 1 of .*leave `policy\.system` out"):
        ChatFormat(with_template(tokenizer, STRICT), system="S")


def test_a_system_prompt_that_the_template_drops_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    silent = CHATML.replace("%}<|im_start|>{{ m.role }}", "if m.role != 'system' %}<|im_start|>{{ m.role }}", 1)
    with pytest.raises(ChatTemplateError, match="leaves the system prompt out"):
        ChatFormat(with_template(tokenizer, silent), system="S")


def test_a_tokenizer_without_a_template_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ChatTemplateError, match="no chat template"):
        ChatFormat(with_template(tokenizer, ""))


def test_a_template_that_drops_a_message_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    last_only = "<bos>{{ messages[-1].content }}<|end|>"
    with pytest.raises(ChatTemplateError, match="does not render the user message"):
        ChatFormat(with_template(tokenizer, last_only))


def test_a_template_whose_turns_end_in_plain_text_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(ChatTemplateError, match="no special token"):
        ChatFormat(with_template(tokenizer, plain))
