"""The one protocol that every engine speaks: token ids in, token ids out, with the log-probabilities of the sampler."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one action is sampled.

    Attributes:
        temperature: 0 is greedy decoding; otherwise the logits are divided by it.
        top_p: Nucleus mass in (0, 1]; 1 keeps the whole vocabulary.
        max_tokens: Largest number of sampled tokens, the stop token included.
        stop_token_ids: Sampling any of these ends the action; the id is part of the action.
        stop_strings: The action also ends with the token that completes any of these in its decoded text; all sampled
            ids are part of the action, and none comes after it. Needs a checkpoint with a tokenizer.
        seed: Makes this one request repeatable where the engine allows it; `None` leaves it to the engine.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if "" in self.stop_strings:
            raise ValueError("a stop string is empty; every action would end with its first token")


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine sampled for one request.

    Attributes:
        token_ids: The sampled ids in order, the stop token included when one was sampled.
        logprobs: log-probability (nats) of each sampled id under the distribution before temperature and top-p, one
            for each of `token_ids`. It is what the trainer's forward pass gives for the same ids.
        finish_reason: `stop` when the last id is one of the stop ids or completes a stop string, `length` when a token
            limit ended it.
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


class Engine(Protocol):
    """Samples the next action. Many calls of `generate` may be in flight; the engine batches what is ready."""

    context_length: int
    """Largest number of tokens that a prompt and its completion may have together."""

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        """Sample a continuation of `prompt_ids`."""
        ...

    async def load(self, checkpoint: Path) -> None:
        """Replace the weights by those of another checkpoint of the same architecture. No request may be in flight."""
        ...

    async def close(self) -> None:
        """Free the model. The engine cannot be used afterwards; calling it twice is harmless."""
        ...
