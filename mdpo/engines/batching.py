"""What the transformers engine samples together: requests, and the batch of those that run.

Rows are aligned on the right: a row that is shorter than the longest one is padded on the left, and the attention mask
covers the padding.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from transformers import DynamicCache

from mdpo.engines.base import Completion, SamplingParams
from mdpo.engines.stopping import StopStrings


@dataclass(slots=True, eq=False)
class Row:
    """One request in flight and what was sampled for it so far."""

    prompt_ids: list[int]
    params: SamplingParams
    stop_strings: StopStrings | None
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Completion]"
    random: random.Random
    room: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def add(self, token: int, logprob: float) -> bool:
        """Record a sampled token; whether it was the last one."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        if token in self.params.stop_token_ids or (
            self.stop_strings is not None and self.stop_strings.completed_by(self.token_ids)
        ):
            self._finish(Completion(self.token_ids, self.logprobs, "stop"))
            return True
        if len(self.token_ids) >= self.room:
            self._finish(Completion(self.token_ids, self.logprobs, "length"))
            return True
        return self.future.cancelled()

    def fail(self, error: BaseException) -> None:
        """Answer the request with an error."""
        self._answer(lambda: None if self.future.done() else self.future.set_exception(error))

    def _finish(self, completion: Completion) -> None:
        self._answer(lambda: None if self.future.done() else self.future.set_result(completion))

    def _answer(self, callback: Callable[[], None]) -> None:
        # The caller's loop is gone when its program was interrupted; then nobody waits for the answer.
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(callback)


@dataclass(slots=True)
class Batch:
    """The running rows: key-value cache, attention mask (rows, length) and the position of the next token (rows, 1)."""

    rows: list[Row]
    mask: torch.Tensor
    positions: torch.Tensor
    cache: DynamicCache = field(default_factory=DynamicCache)

    def drop(self, finished: list[int]) -> None:
        """Remove rows (never all), and the columns that only they needed. The last rows take their places."""
        count = len(self.rows) - len(finished)
        holes = [i for i in finished if i < count]
        movers = sorted(set(range(count, len(self.rows))) - set(finished))
        for hole, mover in zip(holes, movers, strict=True):
            self.rows[hole] = self.rows[mover]
        del self.rows[count:]
        into, out_of = (torch.tensor(places, device=self.mask.device) for places in (holes, movers))
        self.mask, self.positions = (_move(tensor, into, out_of, count) for tensor in (self.mask, self.positions))
        start = int(self.mask.argmax(dim=1).min())
        self.mask = self.mask[:, start:]
        for layer in self.cache.layers:
            layer.keys = _move(layer.keys, into, out_of, count)[:, :, start:]
            layer.values = _move(layer.values, into, out_of, count)[:, :, start:]

    def join(self, other: "Batch") -> None:
        """Add the rows of another batch; the shorter one is padded on the left."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        self.rows += other.rows
        self.mask = torch.cat([_pad_left(batch.mask, 1, length) for batch in (self, other)])
        self.positions = torch.cat([self.positions, other.positions])
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([_pad_left(layer.keys, 2, length) for layer in (mine, theirs)])
            mine.values = torch.cat([_pad_left(layer.values, 2, length) for layer in (mine, theirs)])


def _move(tensor: torch.Tensor, into: torch.Tensor, out_of: torch.Tensor, count: int) -> torch.Tensor:
    """Copy some of the rows over others, in place, and keep the first `count`."""
    if len(into):
        tensor[into] = tensor[out_of]
    return tensor[:count]


def _pad_left(tensor: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """Zeros before the first element of `dim`, up to `length`."""
    missing = length - tensor.shape[dim]
    if missing == 0:
        return tensor
    padding = [0, 0] * (tensor.dim() - dim - 1) + [missing, 0]
    return F.pad(tensor, padding)
