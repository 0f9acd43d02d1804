"""The text of a tokenizer's chat template, and where it is cut around an action and around an observation.

Everything is found by rendering small conversations and looking where their words come out again; what a template does
is seen, never known from a model's name.

    <user>Q</user><assistant> A</assistant><user>O</user><assistant>
                             ▲ ▲           ▲      ▲
                          lead close    before  after
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from mdpo.errors import ChatTemplateError

Message = dict[str, str]
MessageRole = Literal["user", "tool", "ipython"]

# Plain words that no template trims, rewrites or treats as markup.
QUESTION, ACTION, OBSERVATION = "mdpoquestion", "mdpoaction", "mdpoobservation"

# What templates have been seen to treat in their own way: white space, quotes for JSON, nothing at all.
_OBSERVATIONS = (
    OBSERVATION,
    f" \n{OBSERVATION} \n",
    f"\"{OBSERVATION}' \\n <&> é ∑",
    f"```output\n{OBSERVATION}\n```",
    "",
)

_ADVICE = {
    "system": "leave `policy.system` out, or write its text into the questions",
    "user": "take another template",
    "assistant": "take another template",
}


@dataclass(frozen=True, slots=True)
class Seams:
    """The texts that a template puts around an action and around its observation.

    Attributes:
        lead: White space that it writes between the generation prompt and an action: the policy samples it.
        close: What ends an action: `end_of_turn`, perhaps after white space.
        end_of_turn: The special token.
        before: From there to the observation.
        after: From the observation to the next action; it ends with the generation prompt.
    """

    lead: str
    close: str
    end_of_turn: str
    before: str
    after: str


class Template:
    """A tokenizer's chat template, cut for observations of one role.

    Args:
        tokenizer: A tokenizer with a chat template.
        role: The role of the message that an observation is.
        arguments: What the template is given besides the messages, each time.

    Raises:
        ChatTemplateError: There is no template; it refuses, drops or repeats a message of a tool conversation; or the
            end of an action cannot be told from text.

    Attributes:
        seams: The texts around an action and its observation.
        reply: Writes an observation: the text from the end of an action's turn to where the next action begins.
        markup: The special tokens, longest first.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, role: MessageRole, arguments: Mapping[str, Any]) -> None:
        if not tokenizer.chat_template:
            raise ChatTemplateError(
                "the tokenizer has no chat template; take the instruct version of the model, or set "
                "`tokenizer.chat_template` and save the tokenizer with it"
            )
        self._tokenizer, self._role, self._arguments = tokenizer, role, dict(arguments)
        # Added tokens of white space (runs of blanks or line breaks) are ordinary text.
        added = (token.content for token in tokenizer.added_tokens_decoder.values())
        self.markup = sorted((token for token in added if len(token.strip()) > 1), key=len, reverse=True)
        self._markup = any_of(self.markup)
        self.seams = self._find_seams()
        self.reply = self._find_reply()

    def render(self, messages: list[Message], *, generate: bool) -> str:
        """The template's text for a conversation, with the next generation prompt if `generate`.

        Raises:
            ChatTemplateError: The template refuses it; the error names the first message that it refuses.
        """
        try:
            return self._apply(messages, generate)
        except Exception as error:
            number = self._first_refused(messages)
            role = messages[number - 1]["role"]
            roles = ", ".join([message["role"] for message in messages[:8]] + ["…"] * (len(messages) > 8))
            advice = f"; {_ADVICE[role]}" if role in _ADVICE else ""
            raise ChatTemplateError(
                f"the chat template does not accept the {role} message, number {number} of [{roles}]: {error}{advice}"
            ) from error

    def last_special(self, text: str) -> str:
        """The end of a text, from its last special token on; empty if it has none."""
        starts = [match.start() for match in self._markup.finditer(text)]
        return text[starts[-1] :] if starts else ""

    def _find_seams(self) -> Seams:
        # The second turn shows what a template refuses only then; the seams are those of the first.
        rendered, _ = [self._render_whole(_probe(self._role, turns)) for turns in (1, 2)]
        head, _, rest = rendered.partition(ACTION)
        prompt = self.render(_probe(self._role, 0), generate=True)
        lead = head.removeprefix(prompt) if head.startswith(prompt) else ""
        found = self._markup.search(rest)
        if found is None or rest[: found.start()].strip():
            raise ChatTemplateError(
                f"the chat template ends an assistant message with {rest[:20]!r}, which is no special token, so the "
                f"end of an action cannot be told from text; take a template whose assistant messages end with one"
            )
        before, _, after = rest[found.end() :].partition(OBSERVATION)
        return Seams(lead if lead.isspace() else "", rest[: found.end()], found.group(), before, after)

    def _find_reply(self) -> Callable[[str], str]:
        for shape in (str, str.strip):
            quick = self._quick_reply(shape)
            if all(quick(text) == self._rendered_reply(text) for text in _OBSERVATIONS):
                return quick
        # Neither as it is nor trimmed (as JSON, say): the template writes each one.
        return self._rendered_reply

    def _quick_reply(self, shape: Callable[[str], str]) -> Callable[[str], str]:
        return lambda observation: self.seams.before + shape(observation) + self.seams.after

    def _rendered_reply(self, observation: str) -> str:
        messages = [*_probe(self._role, 1)[:-1], {"role": self._role, "content": observation}]
        return self.render(messages, generate=True).partition(ACTION)[2].removeprefix(self.seams.close)

    def _apply(self, messages: list[Message], generate: bool) -> str:
        text = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=generate, tokenize=False, **self._arguments
        )
        return str(text)

    def _first_refused(self, messages: list[Message]) -> int:
        for number in range(1, len(messages)):
            try:
                self._apply(messages[:number], generate=False)
            except Exception:  # noqa: BLE001 - the whole conversation has just raised too; the caller says what
                return number
        return len(messages)

    def _render_whole(self, conversation: list[Message]) -> str:
        text = self.render(conversation, generate=True)
        for content, role in {message["content"]: message["role"] for message in conversation}.items():
            wanted = sum(message["content"] == content for message in conversation)
            if text.count(content) != wanted:
                raise ChatTemplateError(
                    f"the chat template does not render the {role} message of a tool conversation exactly once"
                )
        return text


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of some words, the longer before the shorter."""
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or r"(?!)")


def _probe(role: str, turns: int) -> list[Message]:
    turn = [{"role": "assistant", "content": ACTION}, {"role": role, "content": OBSERVATION}]
    return [{"role": "user", "content": QUESTION}, *turn * turns]
