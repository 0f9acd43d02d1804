"""How messages become tokens, for any chat template, without asking for a model's name.

The tokens between an action and the next one (the rest of the end of turn, the observation message, the next generation
prompt) are cut out of a small conversation that the tokenizer's own template renders:

    <user> Q </user> <assistant> A </assistant> <user> O </user> <assistant>
    └──── prompt ─────────────┘ └┘└──────────── observation ids ───────────┘
                              action

Only the piece after `A` is ever tokenised again; the history stays the ids that were consumed and sampled.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from mdpo.errors import ChatTemplateError

ObservationRole = Literal["user", "tool"]

# Plain words that no template trims, rewrites or treats as markup.
_QUESTION, _ACTION, _OBSERVATION = "mdpoquestion", "mdpoaction", "mdpoobservation"


class ChatFormat:
    """The chat format of one tokenizer.

    Args:
        tokenizer: A tokenizer with a chat template.
        role: The role that the observation is given: `user` (the paper) or `tool`.
        system: An optional system prompt.

    Raises:
        ChatTemplateError: There is no template, or it cannot be cut; the message says which message broke it.

    Attributes:
        end_of_turn_id: The token with which the template ends an assistant's message.
        stop_ids: Every token that ends an action: `end_of_turn_id` and the tokenizer's end of sequence.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, role: ObservationRole = "user", system: str | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.role = role
        self.system = system
        if not tokenizer.chat_template:
            raise ChatTemplateError(
                "the tokenizer has no chat template; take the instruct version of the model, or set "
                "`tokenizer.chat_template` and save the tokenizer with it"
            )
        before, after = self._cut()
        self._before_observation, self._after_observation = before, after
        self.end_of_turn_id = self._find_end_of_turn(before)
        stops = [self.end_of_turn_id] + ([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(stops))
        # Added tokens of white space (runs of blanks or line breaks) are ordinary text.
        added = (token.content for token in tokenizer.added_tokens_decoder.values())
        self._markup = tuple(token for token in added if len(token.strip()) > 1)

    def prompt_ids(self, question: str) -> list[int]:
        """The ids of the first prompt; they equal `apply_chat_template(…, add_generation_prompt=True)`."""
        return self._encode(self._render([{"role": "user", "content": question}], generate=True))

    def observation_ids(self, text: str, action_ids: Sequence[int]) -> list[int]:
        """The ids that follow an action when the sandbox answered `text`.

        Args:
            text: The observation as the policy is to see it.
            action_ids: The action that it answers. Its end-of-turn token is not repeated; an action that was cut
                before it gets the template's.

        Returns:
            Ids that end with the generation prompt of the next action.
        """
        rendered = self._before_observation + self._defuse(text) + self._after_observation
        ids = self._encode(rendered)
        return ids[1:] if action_ids and action_ids[-1] in self.stop_ids else ids

    def action_text(self, action_ids: Sequence[int]) -> str:
        """The text of an action without the token that ended it."""
        ids = list(action_ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def action_ids(self, text: str) -> list[int]:
        """The ids of a written (not sampled) action, its end-of-turn token included. For demonstrations only."""
        return [*self._encode(text), self.end_of_turn_id]

    def _cut(self) -> tuple[str, str]:
        """The template's text between an action and an observation, and between that one and the next action."""
        conversation = [
            {"role": "user", "content": _QUESTION},
            {"role": "assistant", "content": _ACTION},
            {"role": self.role, "content": _OBSERVATION},
        ]
        rendered = self._render(conversation, generate=True)
        for message in conversation:
            if rendered.count(message["content"]) != 1:
                raise ChatTemplateError(
                    f"the chat template does not render the {message['role']} message of a tool conversation exactly "
                    f"once; set `policy.observation_role` to another role, or mend the template"
                )
        _, _, rest = rendered.partition(_ACTION)
        before, _, after = rest.partition(_OBSERVATION)
        return before, after

    def _find_end_of_turn(self, suffix: str) -> int:
        """The first token after an action, which must be a single token that no ordinary text contains."""
        ids = self._encode(suffix)
        special = self.tokenizer.added_tokens_decoder
        if not ids or ids[0] not in special:
            raise ChatTemplateError(
                f"the chat template ends an assistant message with {suffix[:20]!r}, which is no special token, so the "
                f"end of an action cannot be told from text; take a template whose assistant messages end with one"
            )
        return int(ids[0])

    def _render(self, messages: list[dict[str, str]], generate: bool) -> str:
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]
        try:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=False)
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ChatTemplateError(
                f"the chat template does not accept the messages [{roles}]: {error}; change "
                f"`policy.observation_role` or `policy.system`, or mend the template"
            ) from error
        return str(text)

    def _encode(self, text: str) -> list[int]:
        # The template writes its own special tokens, the beginning of sequence among them.
        encoded: Mapping[str, Any] = self.tokenizer(text, add_special_tokens=False)
        return [int(token) for token in encoded["input_ids"]]

    def _defuse(self, text: str) -> str:
        """Break special tokens that a program printed, so that an observation cannot end a turn or open another."""
        for token in self._markup:
            if token in text:
                text = text.replace(token, token[0] + " " + token[1:])
        return text
