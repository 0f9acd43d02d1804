"""How messages become tokens, for any chat template, without asking for a model's name.

The tokens between an action and the next one (the rest of the end of turn, the observation message, the next generation
prompt) are cut out of a small conversation that the tokenizer's own template renders:

    <user> Q </user> <assistant> A </assistant> <user> O </user> <assistant>
    └──── prompt ─────────────┘ └┘└──────────── observation ids ───────────┘
                              action

Only the piece after `A` is ever tokenised again; the history stays the ids that were consumed and sampled. A template
that would write an earlier turn anew (without its thinking, say) is therefore continued as if it did not; `differences`
lists where that is so, found by trial.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from mdpo.chat_template import Message, MessageRole, Template, any_of
from mdpo.chat_trial import Difference, find_differences
from mdpo.demonstration import Demonstration
from mdpo.errors import ChatTemplateError, DataError
from mdpo.render import OUTPUT_FENCE, inline_observation, observation_text

ObservationRole = Literal["user", "tool", "ipython", "inline"]
History = Literal["append", "refuse"]

_TAIL = 32  # so many last tokens of an action hold the opening of an observation, if it was sampled
_SIGN = re.compile(r"[^\w\s`]")


class ChatFormat:
    """The chat format of one tokenizer.

    Args:
        tokenizer: A tokenizer with a chat template.
        role: What an observation is: a message of the role `user` (the paper), `tool` or `ipython`, or a part of the
            assistant's own turn (`inline`).
        system: An optional system prompt.
        examples: Solved problems that stand before the question as earlier turns (few-shot).
        history: What happens with a template that would change the words of an earlier turn: `append` goes on behind
            the tokens that were consumed and sampled, `refuse` raises.
        template_args: More arguments for the template, such as `{"enable_thinking": False}`.

    Raises:
        ChatTemplateError: There is no template, it cannot be cut, or it is refused; the message says which message of
            a conversation broke it, and which roles work.

    Attributes:
        end_of_turn_id: The token with which the template ends an assistant's message.
        stop_ids: Every token that ends an action: `end_of_turn_id` and the tokenizer's end of sequence.
        stop_strings: What else ends an action: the opening of an observation. Inline, the environment goes on from
            there; in the other roles it keeps a policy from making up the output itself.
        differences: Where a whole conversation, given to the template, would differ from what is appended. Empty for
            most templates.
    """

    stop_strings: tuple[str, ...] = (OUTPUT_FENCE,)

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        role: ObservationRole = "user",
        system: str | None = None,
        *,
        examples: Sequence[Demonstration] = (),
        history: History = "append",
        template_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer, self.role, self.system = tokenizer, role, system
        self.examples, self.template_args = tuple(examples), dict(template_args or {})
        self.template = self._cut()
        self.end_of_turn_id = self._single(self.template.seams.end_of_turn)
        stops = [self.end_of_turn_id] + ([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(stops))
        self._defuse = _defuser(tokenizer, self.template.markup)
        self._walls = self._find_walls()
        # An action stands behind the generation prompt, from its last special token on.
        prompt = self.template.last_special(self.template.seams.end_of_turn + self.template.seams.after)
        self._action_walls = self._with_ids([prompt]) + self._walls
        self._close_ids = self._encode_behind(self._walls, self.template.seams.close)
        self._opening: list[Message] = []
        self._opening = self._first_messages()
        self._check_system()
        self._last_prompt: tuple[str | None, list[int]] = None, []
        self.differences = find_differences(self)
        if history == "refuse" and self.rewrites:
            raise ChatTemplateError(self._refusal())

    @property
    def rewrites(self) -> tuple[Difference, ...]:
        """The differences in which the template would change words of an earlier turn."""
        return tuple(difference for difference in self.differences if difference.kind == "history")

    def conversation(
        self, question: str, actions: Sequence[str] = (), observations: Sequence[str] = ()
    ) -> list[Message]:
        """A whole conversation as messages for `apply_chat_template`, system prompt and examples included.

        Args:
            question: The question.
            actions: a₁ … a_H.
            observations: o₁ …, as the policy is to see them; as many as the actions, or one less.
        """
        messages = [*self._opening, {"role": "user", "content": question}]
        content = ""
        for action, observation in zip_longest(actions, observations):
            content += action
            if self.role == "inline":
                content += "" if observation is None else inline_observation(action, self._defuse(observation))
                continue
            messages.append({"role": "assistant", "content": action})
            if observation is not None:
                messages.append({"role": self.role, "content": self._defuse(observation)})
        if self.role == "inline" and actions:
            messages.append({"role": "assistant", "content": content})
        return messages

    def prompt_ids(self, question: str) -> list[int]:
        """The ids of the first prompt; they equal `apply_chat_template(…, add_generation_prompt=True)`."""
        # All attempts at a problem follow each other.
        asked, ids = self._last_prompt
        if asked != question:
            ids = self._encode(self.template.render(self.conversation(question), generate=True))
            self._last_prompt = question, ids
        return list(ids)

    def observation_ids(self, text: str, action_ids: Sequence[int]) -> list[int]:
        """The ids that follow an action when the sandbox answered `text`.

        Inline, they continue the turn, without what the policy has already sampled of the observation's opening. A
        policy that ended its turn there (it sampled a stop id) is answered by a `user` message, because nothing else
        can follow the end of a turn.

        Args:
            text: The observation as the policy is to see it.
            action_ids: The action that it answers. Its end-of-turn token is not repeated; an action that was cut
                before it gets the template's.

        Returns:
            Ids behind which the policy samples its next action.
        """
        ended = bool(action_ids) and action_ids[-1] in self.stop_ids
        text = self._defuse(text)
        if self.role == "inline" and not ended:
            action = self._decode(action_ids[-_TAIL:])
            return self._encode_behind(self._walls, inline_observation(action, text))
        # Behind the end of turn, because some tokenizers put a blank in front of a text that stands alone.
        ids = self._encode(self.template.seams.end_of_turn + self.template.reply(text))
        return ids[1:] if ended else self._close_ids + ids[1:]

    def action_text(self, action_ids: Sequence[int]) -> str:
        """The text of an action without the token that ended it."""
        return self._decode(action_ids[:-1] if action_ids and action_ids[-1] in self.stop_ids else action_ids)

    def action_ids(self, text: str, *, first: bool = True, last: bool = True) -> list[int]:
        """The ids of a written (not sampled) action, as the policy should sample it. For demonstrations.

        They begin with the blank that some templates have in front of an action, and end with the end of turn; inline,
        with the opening of the observation unless the action is the last one.

        Args:
            text: The action.
            first: Whether it is the first action of its trajectory (only inline asks).
            last: Whether it is the last one (only inline asks).

        Raises:
            DataError: The text holds a token that ends an action.
        """
        lead, close = self.template.seams.lead, self.template.seams.close
        walls = self._action_walls
        if self.role == "inline":
            lead, walls = (lead, walls) if first else ("", self._walls)
            close = close if last else ("" if text.endswith("\n") else "\n") + OUTPUT_FENCE
        ids = self._encode_behind(walls, lead + text + close)
        if any(token in self.stop_ids for token in ids[: -1 if close == self.template.seams.close else None]):
            raise DataError(f"an action holds a token that ends a turn, so nothing can follow it; remove it: {text!r}")
        return ids

    def _cut(self) -> Template:
        # Inline, a turn that the policy ended is answered by a user message.
        role: MessageRole = "user" if self.role == "inline" else self.role
        try:
            return Template(self.tokenizer, role, self.template_args)
        except ChatTemplateError as error:
            working = [other for other in get_args(MessageRole) if self._works(other)]
            if not working:
                raise
            working += ["inline"] if "user" in working else []
            raise ChatTemplateError(
                f"{error}; set `policy.observation_role` to what works with this tokenizer: {', '.join(working)}"
            ) from error

    def _works(self, role: MessageRole) -> bool:
        try:
            Template(self.tokenizer, role, self.template_args)
        except ChatTemplateError:
            return False
        return True

    def _find_walls(self) -> list[tuple[str, list[int]]]:
        """Texts, with their ids, behind which another text is encoded as if it went on from there.

        A tokenizer may put a blank in front of a text that stands alone or behind a special token, or drop its white
        space there; then it is encoded behind an ordinary character. Which of them serve is tried out.
        """
        end = self.template.seams.end_of_turn
        walls = self._with_ids([end, *[end + sign for sign in ("\n", "x", ".")]])
        serving = [(wall, ids) for wall, ids in walls if self._goes_on_behind(wall, self._decode(ids))]
        return serving or walls[:1]

    def _goes_on_behind(self, wall: str, decoded: str) -> bool:
        return all(self._decode(self._encode(wall + text)) == decoded + text for text in ("x", "\nx", " x"))

    def _first_messages(self) -> list[Message]:
        solved = [
            message
            for example in self.examples
            for message in self.conversation(
                example.question, example.actions, [observation_text(output) for output in example.observations]
            )
        ]
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, *solved]

    def _check_system(self) -> None:
        if self.system and self.system.strip() not in self.template.render(self.conversation("?"), generate=True):
            raise ChatTemplateError(
                "the chat template leaves the system prompt out; leave `policy.system` out, or write its text into the "
                "questions"
            )

    def _refusal(self) -> str:
        listed = ". ".join(map(str, self.rewrites))
        keeping = [role for role in get_args(ObservationRole) if self._keeps_history(role)]
        roles = f"set `policy.observation_role` to one that it keeps ({', '.join(keeping)}), " if keeping else ""
        return (
            "the chat template rewrites earlier turns, which `policy.history: refuse` does not allow. "
            f"{listed}. What helps: {roles}set `policy.history: append` to go on behind what was sampled, or take "
            "another template"
        )

    def _keeps_history(self, role: ObservationRole) -> bool:
        try:
            return not ChatFormat(
                self.tokenizer, role, self.system, examples=self.examples, template_args=self.template_args
            ).rewrites
        except ChatTemplateError:
            return False

    def _single(self, token: str) -> int:
        ids = self._encode(token)
        if len(ids) != 1:
            raise ChatTemplateError(f"the tokenizer makes {len(ids)} tokens of its own {token!r}; mend the tokenizer")
        return ids[0]

    def _encode(self, text: str) -> list[int]:
        # The template writes its own special tokens, the beginning of sequence among them.
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _encode_behind(self, walls: Sequence[tuple[str, list[int]]], text: str) -> list[int]:
        """The ids of a text that goes on behind one of the walls: the first whose own ids it leaves as they are."""
        for wall, wall_ids in walls:
            ids = self._encode(wall + text)
            if ids[: len(wall_ids)] == wall_ids:
                return ids[len(wall_ids) :]
        # Nothing merges with a special token.
        return self._encode(self.template.seams.end_of_turn + text)[1:]

    def _with_ids(self, walls: Sequence[str]) -> list[tuple[str, list[int]]]:
        return [(wall, self._encode(wall)) for wall in walls]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _defuser(tokenizer: PreTrainedTokenizerBase, markup: Sequence[str]) -> Callable[[str], str]:
    """What breaks special tokens that a program printed, so that an observation cannot end a turn or open another."""
    fixed = observation_text("")
    # Some tokenizers look for some of their tokens only after they have normalised the text.
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    normal: Callable[[str], str] | None = normalizer.normalize_str if normalizer is not None else None
    if not any(token.normalized for token in tokenizer.added_tokens_decoder.values()):
        normal = None
    words = {token for token in markup if token not in fixed}
    pattern = any_of(words if normal is None else words | {normal(token) for token in words})

    def defuse(text: str) -> str:
        safe = pattern.sub(lambda found: found[0][0] + " " + found[0][1:], text)
        if normal is not None and pattern.search(normal(safe)):
            return _SIGN.sub(r"\g<0> ", text)
        return safe

    return defuse
