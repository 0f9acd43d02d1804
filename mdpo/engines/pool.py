"""Which of several servers are in use, which of them gets a request, and how one that failed is taken back."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count, takewhile

from mdpo.engines.endpoint import Endpoint
from mdpo.engines.wire import Unavailable
from mdpo.errors import EngineError

_LOG = logging.getLogger(__name__)
# The pause before an attempt or a probe: the first one, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
# How many tokens after the common beginning of all prompts say which trajectory a prompt belongs to.
_OWN_TOKENS = 32


class Pool:
    """The servers of an engine.

    Args:
        endpoints: One or more.
        patience: How long all of them may be out of use, in seconds.
        admit: Raises `Unavailable` or `EngineError` unless the server may be taken back; called until it does not.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], patience: float, admit: Callable[[Endpoint], Awaitable[None]]
    ) -> None:
        self._endpoints = endpoints
        self._patience = patience
        self._admit = admit
        self._common: list[int] | None = None
        self._all_out_since = 0.0
        self._someone_answers = asyncio.Event()
        self._someone_answers.set()
        self._closed = asyncio.Event()
        self._revivals: set[asyncio.Task[None]] = set()

    async def choose(self, prompt_ids: list[int]) -> Endpoint:
        """The server that has the beginning of this prompt in its prefix cache, unless it is much busier than another.

        All turns of a trajectory, and all attempts at its problem, begin alike: what follows the common beginning of
        all prompts names a server by rendezvous hashing, which moves nothing else when a server comes or goes.

        Raises:
            EngineError: All servers have been out of use for longer than the patience, or the pool was closed.
        """
        await self._wait_for_a_server()
        key = self._own_tokens(prompt_ids)
        alive = [(hash((i, *key)), endpoint) for i, endpoint in enumerate(self._endpoints) if endpoint.error is None]
        home = max(alive, key=lambda pair: pair[0])[1]
        least = min((endpoint for _, endpoint in alive), key=lambda endpoint: endpoint.in_flight)
        return home if home.in_flight <= least.in_flight + max(4, least.in_flight // 4) else least

    def take_out(self, endpoint: Endpoint, reason: str) -> None:
        """Send nothing more to a server until it is admitted again; the first try is at once."""
        self.check_open()
        if endpoint.error is not None:
            return
        endpoint.error = reason
        _LOG.warning("%s is out of use: %s", endpoint.url, reason)
        if all(other.error for other in self._endpoints):
            self._all_out_since = time.monotonic()
            self._someone_answers.clear()
        task = asyncio.create_task(self._revive(endpoint))
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)

    async def pause(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before the next attempt: twice as long as the last time, with jitter against all coming back at once.

        Raises:
            EngineError: The pool was closed meanwhile.
        """
        seconds = random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempt, 20))
        await _wait(self._closed, max(at_least, seconds))
        self.check_open()

    def check_open(self) -> None:
        """Raise an EngineError if the pool was closed."""
        if self._closed.is_set():
            raise EngineError("the engine was closed; connect to the servers again")

    def failures(self) -> str:
        """The servers that are out of use, each with its last error; empty if all are in use."""
        return "; ".join(f"{endpoint.url}: {endpoint.error}" for endpoint in self._endpoints if endpoint.error)

    async def close(self) -> None:
        """Stop the probes and wake whoever waits."""
        self._closed.set()
        self._someone_answers.set()
        for task in self._revivals:
            task.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)

    async def _wait_for_a_server(self) -> None:
        while True:
            self.check_open()
            if any(endpoint.error is None for endpoint in self._endpoints):
                return
            left = self._all_out_since + self._patience - time.monotonic()
            if left <= 0:
                raise EngineError(
                    f"no server has answered for {self._patience:g} s: {self.failures()}; start one of them again and "
                    "run the same command: finished trajectories are kept"
                )
            await _wait(self._someone_answers, left)

    def _own_tokens(self, prompt_ids: list[int]) -> list[int]:
        """The first tokens after those that all prompts so far have in common."""
        if self._common is None:
            self._common = list(prompt_ids)
        if prompt_ids[: len(self._common)] != self._common:
            pairs = takewhile(lambda pair: pair[0] == pair[1], zip(self._common, prompt_ids, strict=False))
            self._common = [token for token, _ in pairs]
        start = len(self._common)
        return prompt_ids[start : start + _OWN_TOKENS]

    async def _revive(self, endpoint: Endpoint) -> None:
        """Try a server until it is admitted, and take it back."""
        for attempt in count():
            try:
                await self._admit(endpoint)
                break
            except (Unavailable, EngineError) as error:
                endpoint.error = str(error)
            await self.pause(attempt)
        endpoint.error, endpoint.last_answer = None, time.monotonic()
        self._someone_answers.set()
        _LOG.warning("%s answers again", endpoint.url)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
