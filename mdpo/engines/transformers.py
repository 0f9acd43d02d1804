"""Continuous batching on a plain transformers model, for machines without vLLM and for tiny models.

One thread owns the model. Each of its steps samples one token for every running row; finished rows leave the batch at
once, and waiting requests are prefilled together and join it.
"""

import asyncio
import queue
import random
import threading
import time
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mdpo.adapter import load_policy
from mdpo.engines.base import Completion, SamplingParams
from mdpo.engines.batching import Batch, Row
from mdpo.engines.sampling import sample
from mdpo.engines.stopping import StopStrings, tokenizer_for_stop_strings
from mdpo.errors import EngineError

# A lone first request waits this long for company: one batch of many is cheaper than many batches of one.
_GATHER_SECONDS = 0.002
# Waiting requests join when they are this share of the running rows, or after this many steps, whichever is first.
_JOIN_SHARE, _JOIN_STEPS = 1 / 8, 8


class TransformersEngine:
    """Samples from a Hugging Face checkpoint with transformers.

    Args:
        checkpoint: A local folder or a hub id. The folder may hold a PEFT adapter, which is merged into its base model.
        dtype: The type of the weights in memory.
        device: A torch device; default: CUDA where there is one, else the CPU.
        context_length: Largest prompt plus completion; default: what the model was built for.
        max_rows: Largest number of requests that are sampled together.
        max_prefill_tokens: Largest padded batch, in tokens, that is prefilled in one forward pass.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        context_length: int | None = None,
        max_rows: int = 256,
        max_prefill_tokens: int = 16384,
    ) -> None:
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = dtype
        self._max_rows = max_rows
        self._max_prefill_tokens = max_prefill_tokens
        self._model = self._load(checkpoint)
        self._checkpoint = checkpoint
        self._tokenizer: PreTrainedTokenizerBase | None = None
        limit = int(self._model.config.max_position_embeddings)
        self.context_length = min(context_length or limit, limit)
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._unanswered: set[Row] = set()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="mdpo-transformers-engine", daemon=True)
        self._thread.start()

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        """Sample a continuation of `prompt_ids`; see `mdpo.engines.base.Engine`.

        Raises:
            ValueError: The prompt leaves no room for a token, or a stop string is empty.
            CheckpointError: The request names stop strings, and the checkpoint has no tokenizer.
            EngineError: The engine was closed or a forward pass failed.
        """
        if len(prompt_ids) >= self.context_length:
            raise ValueError(f"the prompt has {len(prompt_ids)} tokens, the context length is {self.context_length}")
        self._check_alive()
        loop = asyncio.get_running_loop()
        room = min(params.max_tokens, self.context_length - len(prompt_ids))
        stops = StopStrings(self._tokenizer_of_checkpoint(), params.stop_strings) if params.stop_strings else None
        row = Row(prompt_ids, params, stops, loop, loop.create_future(), random.Random(params.seed), room)
        with self._lock:
            self._unanswered.add(row)
        try:
            self._waiting.put(row)
            # The thread sets its error before it refuses what waits: either it refuses this row, or this check does.
            self._check_alive()
            return await row.future
        finally:
            with self._lock:
                self._unanswered.discard(row)

    async def load(self, checkpoint: Path) -> None:
        """Replace the model by another checkpoint's, or by an adapter's. No request may be in flight."""
        if self._unanswered:
            raise EngineError(f"cannot load {checkpoint} while {len(self._unanswered)} requests are in flight")
        self._model = await asyncio.to_thread(self._load, checkpoint)
        self._checkpoint, self._tokenizer = checkpoint, None

    async def close(self) -> None:
        """Stop the thread and free the model."""
        if self._thread.is_alive():
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join)
        if hasattr(self, "_model"):
            del self._model

    def _load(self, checkpoint: str | Path) -> PreTrainedModel:
        model = load_policy(checkpoint, self._dtype)
        return model.to(self._device).eval()

    def _tokenizer_of_checkpoint(self) -> PreTrainedTokenizerBase:
        """Loaded when the first request needs it."""
        if self._tokenizer is None:
            self._tokenizer = tokenizer_for_stop_strings(self._checkpoint)
        return self._tokenizer

    def _check_alive(self) -> None:
        if self._error is not None:
            raise EngineError(f"the engine stopped: {self._error}") from self._error

    def _serve(self) -> None:
        """The thread: prefill what waits, step what runs, until `None` comes."""
        batch: Batch | None = None
        waiting: list[Row] = []
        try:
            while True:
                if not self._receive(waiting, block=batch is None):
                    break
                batch = self._run(batch, waiting)
        except BaseException as error:  # noqa: BLE001 - whatever it was, everyone who waits must hear of it
            self._error = error
        self._error = self._error or EngineError("it was closed")
        with self._lock:
            for row in self._unanswered:
                row.fail(EngineError(f"the engine stopped: {self._error}"))

    def _receive(self, waiting: list[Row], *, block: bool) -> bool:
        """Move requests from the queue to `waiting`; `False` when the engine is to stop."""
        if block and not waiting:
            row = self._waiting.get()
            if row is None:
                return False
            waiting.append(row)
            time.sleep(_GATHER_SECONDS)
        while not self._waiting.empty():
            row = self._waiting.get()
            if row is None:
                return False
            waiting.append(row)
        return True

    @torch.inference_mode()
    def _run(self, batch: Batch | None, waiting: list[Row]) -> Batch | None:
        """Let waiting rows join, then step the batch until the next ones should join or all rows are finished."""
        while waiting and (batch is None or len(batch.rows) < self._max_rows):
            fresh = self._prefill(self._next_group(waiting, self._max_rows - (len(batch.rows) if batch else 0)))
            if fresh is None:
                continue
            if batch is None:
                batch = fresh
            else:
                batch.join(fresh)
        for _ in range(_JOIN_STEPS):
            if batch is None or self._waiting.qsize() > len(batch.rows) * _JOIN_SHARE:
                break
            batch = self._step(batch)
        return batch

    def _next_group(self, waiting: list[Row], limit: int) -> list[Row]:
        """Take the rows off `waiting` that are prefilled together: at most `limit`, and few enough padded tokens."""
        count, longest = 0, 0
        for row in waiting[:limit]:
            longest = max(longest, len(row.prompt_ids))
            if count and longest * (count + 1) > self._max_prefill_tokens:
                break
            count += 1
        group = waiting[:count]
        del waiting[:count]
        return group

    def _prefill(self, rows: list[Row]) -> Batch | None:
        """Run the prompts and sample the first token of each; `None` if that finished them all."""
        length = max(len(row.prompt_ids) for row in rows)
        padding = [length - len(row.prompt_ids) for row in rows]
        ids = torch.tensor([[0] * pad + row.prompt_ids for pad, row in zip(padding, rows, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (length - pad) for pad in padding]).to(self._device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        batch = Batch(rows, mask, positions[:, -1:])
        return self._advance(batch, ids.to(self._device), positions)

    def _step(self, batch: Batch) -> Batch | None:
        """Sample one more token for every row; `None` if that finished them all."""
        ids = torch.tensor([[row.token_ids[-1]] for row in batch.rows], device=self._device)
        batch.mask = F.pad(batch.mask, [0, 1], value=1)
        return self._advance(batch, ids, batch.positions)

    def _advance(self, batch: Batch, ids: torch.Tensor, positions: torch.Tensor) -> Batch | None:
        """One forward pass over `ids` (rows, tokens), one sampled token a row, finished rows dropped."""
        output = self._model(
            input_ids=ids,
            attention_mask=batch.mask,
            position_ids=positions,
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        batch.positions = batch.positions + 1
        uniforms = [row.random.random() for row in batch.rows]
        tokens, logprobs = sample(output.logits[:, -1], [row.params for row in batch.rows], uniforms)
        rows = zip(batch.rows, tokens, logprobs, strict=True)
        finished = [i for i, (row, token, logprob) in enumerate(rows) if row.add(token, logprob)]
        if len(finished) == len(batch.rows):
            return None
        if finished:
            batch.drop(finished)
        return batch
