"""A chat format on trial: where a whole conversation, given to the template, differs from what turns appended.

Most templates write an earlier turn as it was sampled. Some drop its thinking, some trim it, some move the system
prompt; a few conversations with actions of each kind show it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mdpo.chat_template import ACTION, OBSERVATION, QUESTION
from mdpo.render import call_action, observation_text

if TYPE_CHECKING:
    from mdpo.chat import ChatFormat

Kind = Literal["history", "last action", "white space", "tokens"]

_ACTIONS = {
    "action": ACTION,
    "action with a program": call_action(ACTION, "print(1)"),
    "action with white space around it": f" {ACTION} \n",
}
_THINKING_BEGINS, _THINKING_GOES_ON = "<think>\n", "thought\n</think>\n\n"
_TURNS = (1, 2, 3)
_OBSERVED = observation_text(OBSERVATION)


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the template, given the whole conversation, would write something else than was appended.

    Attributes:
        kind: `history` if words of an earlier message change, `last action` if words of the newest one do,
            `white space` if only that differs, `tokens` if the text is the same in other tokens.
        where: The conversation that shows it, in words.
        appended: What the conversation holds.
        template: What the template writes in its place.
    """

    kind: Kind
    where: str
    appended: str
    template: str

    def __str__(self) -> str:
        if not self.template:
            change = f"drop {self.appended!r}"
        elif not self.appended:
            change = f"add {self.template!r}"
        else:
            change = f"write {self.template!r} for {self.appended!r}"
        return f"{self.where}: given all messages again, the chat template would {change}"


def find_differences(chat: "ChatFormat") -> tuple[Difference, ...]:
    """Try a chat format on conversations of one to three turns; each difference is listed once."""
    found: dict[tuple[str, str], Difference] = {}
    for difference in _all(chat):
        found.setdefault((difference.appended, difference.template), difference)
    return tuple(found.values())


def _all(chat: "ChatFormat") -> Iterator[Difference]:
    # Where the generation prompt begins the thinking, each action ends it; elsewhere one of them thinks.
    thought = _THINKING_GOES_ON if chat.template.seams.after.rstrip().endswith(_THINKING_BEGINS.strip()) else ""
    actions = {name: thought + action for name, action in _ACTIONS.items()}
    if not thought:
        actions["action with thinking"] = _THINKING_BEGINS + _THINKING_GOES_ON + ACTION
    for name, action in actions.items():
        # Inline there is one turn, so no earlier one.
        trials = [_continued(chat, name, action, turns) for turns in (() if chat.role == "inline" else _TURNS)]
        yield from [difference for difference in trials if difference is not None][:1]
        second = action.removeprefix(thought) if chat.role == "inline" else action
        ended = _finished(chat, name, [thought + ACTION, second])
        if ended is not None:
            yield ended


def _continued(chat: "ChatFormat", name: str, action: str, turns: int) -> Difference | None:
    """A conversation that goes on after some turns: its text, and if that is the template's, its tokens."""
    where = f"an earlier {name}" if turns == 1 else f"{turns} turns with an earlier {name}"
    template = chat.template
    messages = chat.conversation(QUESTION, [action] * turns, [_OBSERVED] * turns)
    theirs = template.render(messages, generate=True)
    turn = template.seams.lead + action + template.seams.close + template.reply(_OBSERVED)
    ours = template.render(chat.conversation(QUESTION), generate=True) + turn * turns
    action_ids = chat.action_ids(action)
    ids = chat.prompt_ids(QUESTION) + (action_ids + chat.observation_ids(_OBSERVED, action_ids)) * turns
    return _text_difference("history", where, ours, theirs) or _token_difference(chat, where, ids, theirs)


def _finished(chat: "ChatFormat", name: str, actions: list[str]) -> Difference | None:
    """A conversation that ended with its second action; inline, both actions are one message."""
    template, end = chat.template, chat.template.seams.end_of_turn
    *earlier, last = chat.conversation(QUESTION, actions, [_OBSERVED])
    theirs = template.render([*earlier, last], generate=False)
    # What templates write behind the last end of turn is no part of a trajectory.
    upto, found, _ = theirs[theirs.rfind(ACTION) :].partition(end)
    theirs = theirs[: theirs.rfind(ACTION)] + upto + found
    ours = template.render(earlier, generate=True) + template.seams.lead + last["content"] + template.seams.close
    return _text_difference("last action", f"the last {name}", ours, theirs)


def _text_difference(kind: Kind, where: str, ours: str, theirs: str) -> Difference | None:
    """What differs between two texts, without their common beginning and end."""
    if ours == theirs:
        return None
    start = common_length(ours, theirs)
    ours, theirs = ours[start:], theirs[start:]
    end = common_length(ours[::-1], theirs[::-1])
    ours, theirs = ours[: len(ours) - end], theirs[: len(theirs) - end]
    return Difference("white space" if ours.split() == theirs.split() else kind, where, ours, theirs)


def _token_difference(chat: "ChatFormat", where: str, ours: list[int], text: str) -> Difference | None:
    theirs: list[int] = chat.tokenizer.encode(text, add_special_tokens=False)
    if ours == theirs:
        return None
    at = common_length(ours, theirs)
    shown = [" ".join(chat.tokenizer.convert_ids_to_tokens(ids[at : at + 3])) for ids in (ours, theirs)]
    return Difference("tokens", where, *shown)


def common_length(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))
