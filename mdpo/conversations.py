"""Conversations that others wrote, as lists of messages, become ids and an action mask.

The roles say what is an action: each message of the assistant, and nothing else. The whole conversation is rendered
once by the chat template, and its ids are what `apply_chat_template` gives; the template is then rendered for the
messages in front of each action, which shows where the action begins.

    <user> Q </user> <assistant> A </assistant> <tool> O </tool> <assistant> B </assistant> \\n
    └──────── prompt ──────────┘ └─────┘                                    └─────┘
                                 mask 1                                     mask 1           everything else: mask 0

A conversation for which this does not hold is not trained on: `Unfit` says why, and whoever reads a data set counts it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdpo.chat import ChatFormat
from mdpo.chat_template import ACTION, OBSERVATION, QUESTION, any_of
from mdpo.errors import ChatTemplateError

ASSISTANT = "assistant"
Message = dict[str, Any]
# What an assistant says besides its content.
_SAID = ("tool_calls", "reasoning_content", "reasoning", "thinking")


class Unfit(Exception):  # noqa: N818 - not a failure: such a conversation is left out and counted
    """A conversation that cannot be trained on.

    Attributes:
        reason: In general words, by which it is counted.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as ids.

    Attributes:
        prompt_ids: Up to the first action, its generation prompt included.
        completion_ids: The rest.
        completion_mask: 1 on actions, their end-of-turn tokens included; 0 elsewhere.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    completion_mask: list[int]


class Encoder:
    """Makes ids and masks of conversations.

    Args:
        chat: The chat format of the policy that is trained. Its role of observations, system prompt and examples are
            not used: the messages are taken as they are.
    """

    def __init__(self, chat: ChatFormat) -> None:
        self._chat, self._template = chat, chat.template
        seams = chat.template.seams
        self._end, self._closing = seams.end_of_turn, seams.close.removesuffix(seams.end_of_turn)
        self._opening = any_of(token for token in chat.template.markup if token in seams.before + seams.after)
        self._special = _special_finder(chat)
        self._rendered: dict[str, bool] = {}

    def encode(self, messages: Sequence[Mapping[str, Any]], given: int = 0) -> Encoded:
        """The ids of a whole conversation and its action mask.

        Args:
            messages: With `role` and `content`, and whatever else the template reads, such as `tool_calls`.
            given: So many messages at the beginning are context: an assistant's message among them is no action.

        Raises:
            Unfit: There is no action; the template refuses the conversation or writes an earlier turn or an action
                anew; a message holds the text of a special token; an action cannot be told from its prompt in tokens.
        """
        conversation = [_cleaned(message, number) for number, message in enumerate(messages, start=1)]
        for number, message in enumerate(conversation, start=1):
            if token := self._special(message):
                raise Unfit("a special token in a message", f"{token!r} in message {number}")
            self._check_role(message["role"])
        text = self._render(conversation, generate=False)
        ids = self._ids(text)
        mask = [0] * len(ids)
        for number, message in enumerate(conversation):
            if message["role"] == ASSISTANT and number >= given:
                first, last = self._action(conversation, number, text, ids)
                mask[first : last + 1] = [1] * (last + 1 - first)
        if 1 not in mask:
            raise Unfit("no message of the assistant")
        start = mask.index(1)
        return Encoded(ids[:start], ids[start:], mask[start:])

    def _action(self, conversation: list[Message], number: int, text: str, ids: list[int]) -> tuple[int, int]:
        """Where an assistant's message stands in the ids of the whole: its first and its last token."""
        where = f"message {number + 1}"
        if number == 0:
            raise Unfit("the assistant speaks first")
        head = self._render(conversation[:number], generate=True)
        if not text.startswith(head):
            raise Unfit("the chat template rewrites earlier turns", where)
        said, end, _ = text[len(head) :].partition(self._end)
        if not end or self._opening.search(said):
            # Another turn begins before this one has ended with the token that ends turns.
            raise Unfit("the chat template does not end the turn", where)
        gap = "" if self._is_structured(conversation, number, text) else self._gap(conversation[number], said, where)
        prompt = self._ids(head + gap)
        if ids[: len(prompt)] != prompt:
            raise Unfit("the prompt and the beginning of an action are one token", where)
        return len(prompt), ids.index(self._chat.end_of_turn_id, len(prompt))

    def _is_structured(self, conversation: list[Message], number: int, text: str) -> bool:
        """Whether the template writes more of a message than its content (calls, say): then all of it is the action."""
        message = conversation[number]
        if not message.keys() - {"role", "content"}:
            return False
        bare = {"role": message["role"], "content": message["content"]}
        try:
            changes = self._render([*conversation[:number], bare, *conversation[number + 1 :]], generate=False) != text
        except Unfit:
            changes = True
        lost = [key for key in _SAID if message.get(key)]
        if lost and not changes:
            raise Unfit(f"the chat template leaves `{lost[0]}` out", f"message {number + 1}")
        return changes

    def _gap(self, message: Message, said: str, where: str) -> str:
        """What the template itself writes in front of an action, such as empty thinking; a blank is the policy's."""
        content = message["content"]
        if not content.strip():
            raise Unfit("an empty message of the assistant", where)
        said = said.removesuffix(self._closing)
        for shape in (content, content.strip(), content.rstrip(), content.lstrip()):
            if said.endswith(shape):
                gap = said.removesuffix(shape)
                return "" if gap.isspace() else gap
        raise Unfit("the chat template changes what the assistant says", where)

    def _check_role(self, role: str) -> None:
        """Refuse a role whose messages the template passes over without a word."""
        if role not in self._rendered:
            said = {"role": role, "content": OBSERVATION}
            asked, answer = {"role": "user", "content": QUESTION}, {"role": ASSISTANT, "content": ACTION}
            trial = [said, asked] if role == "system" else [asked, answer, said]
            try:
                self._rendered[role] = role == ASSISTANT or OBSERVATION in self._render(trial, generate=False)
            except Unfit:
                # It may need more than a content; then the conversation itself shows what the template thinks of it.
                self._rendered[role] = True
        if not self._rendered[role]:
            raise Unfit(f"the chat template leaves {role} messages out")

    def _render(self, messages: list[Message], *, generate: bool) -> str:
        try:
            return self._template.render(messages, generate=generate)
        except ChatTemplateError as error:
            raise Unfit("the chat template refuses it", str(error)) from error

    def _ids(self, text: str) -> list[int]:
        return list(self._chat.tokenizer.encode(text, add_special_tokens=False))


def _cleaned(message: Any, number: int) -> Message:
    """A message without the gaps that a table puts where other rows have a key."""
    kept = {key: value for key, value in message.items() if value is not None} if isinstance(message, Mapping) else {}
    if not isinstance(kept.get("role"), str):
        shown = json.dumps(message, ensure_ascii=False, default=str)[:80]
        raise Unfit("a message without a role", f"message {number} is {shown}; a message has `role` and `content`")
    if not isinstance(kept.setdefault("content", ""), str):
        raise Unfit("a message that is no text", f"message {number}; mixed contents such as images are not supported")
    return kept


def _special_finder(chat: ChatFormat) -> Callable[[Message], str | None]:
    """Finds the first special token whose text a message holds, in its content or anywhere else in it."""
    tokenizer = chat.tokenizer
    special = {number: token for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    pattern = any_of(token.content for token in special.values())
    # Some are looked for only after the text was normalised.
    hidden = any(token.normalized for token in special.values())

    def find(message: Message) -> str | None:
        for text in _texts(message):
            if found := pattern.search(text):
                return found.group()
            if hidden:
                found_ids = special.keys() & set(tokenizer.encode(text, add_special_tokens=False))
                if found_ids:
                    return str(special[min(found_ids)].content)
        return None

    return find


def _texts(value: Any) -> Iterator[str]:
    """All texts inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)
