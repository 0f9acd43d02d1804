"""One specification for all families of chat templates, every role of observations, and one to four turns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdpo.chat import ChatFormat, ObservationRole
from mdpo.errors import ChatTemplateError
from mdpo.render import call_action, observation_text
from tests.mdpo.chat_families import (
    CASES,
    FAITHFUL,
    FAMILIES,
    PLAIN,
    USABLE,
    appended,
    assert_same_ids,
    chat_of,
    messages,
    template_ids,
    tokenizer_of,
)


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


@pytest.mark.parametrize("name", FAMILIES)
def test_a_system_prompt_is_the_templates_or_refused(name: str) -> None:
    tokenizer = tokenizer_of(name)
    if not FAMILIES[name].system:
        with pytest.raises(ChatTemplateError, match=r"the system message, number 1.*`policy\.system`"):
            ChatFormat(tokenizer, system="Be brief.")
        return
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many?"}]
    ids = ChatFormat(tokenizer, system="Be brief.").prompt_ids("How many?")
    assert ids == template_ids(tokenizer, conversation, generate=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_written_action_begins_with_the_blank_of_the_template_and_ends_with_its_end_of_turn(name: str) -> None:
    chat = chat_of(name, "user")
    ids = chat.action_ids("x = 1\nprint(x)")
    assert chat.action_text(ids).rstrip(" ") == FAMILIES[name].lead + "x = 1\nprint(x)"
    assert ids[-1] == chat.end_of_turn_id and chat.end_of_turn_id not in ids[:-1]


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
FAST = settings(max_examples=25, deadline=None)


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


@pytest.mark.parametrize("role", ["tool", "ipython"])
def test_a_template_that_writes_observations_as_json_is_followed(role: ObservationRole) -> None:
    chat = chat_of("llama 3.1", role)
    action = chat.action_ids("Compute.")
    assert '"```output\\n\\"7\\"\\n```"' in chat.tokenizer.decode(chat.observation_ids('```output\n"7"\n```', action))
