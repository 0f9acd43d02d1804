"""One or many OpenAI-compatible servers as an engine (vLLM first); they live and die apart from this process.

A request is at one server at a time. When that attempt fails, the server is out of use until it has answered a probe,
and the request goes on elsewhere, so a call has at most one answer. A server that was restarted is asked what it
serves, and gets the loaded checkpoint again, before another request goes to it.
"""

import asyncio
import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from mdpo.checkpoint import resolve_checkpoint
from mdpo.engines.base import Completion, SamplingParams
from mdpo.engines.endpoint import CANNOT_LOAD, Busy, Endpoint
from mdpo.engines.pool import Pool
from mdpo.engines.wire import Unavailable, completion_body
from mdpo.errors import CheckpointError, EngineError

# vLLM closes a connection that was idle for 5 s; one that it is about to close must not be taken for a request.
_KEEP_ALIVE_SECONDS = 3.0
# A request that failed this often, on servers that answer their probes, is itself what makes them fail.
_ATTEMPTS = 8
# No server restarts faster; one that was silent for longer may have the weights again that it was started on.
_SILENT_SECONDS = 5.0
# vLLM would raise a lower temperature to this without an error.
_LOWEST_TEMPERATURE = 0.01


class ServerEngine:
    """Samples from servers that somebody else started. Made by `ServerEngine.connect`; belongs to one event loop."""

    context_length: int

    def __init__(self, session: aiohttp.ClientSession, endpoints: Sequence[Endpoint], patience: float) -> None:
        self.context_length = min(endpoint.started_on.context_length for endpoint in endpoints)
        self._session = session
        self._endpoints = endpoints
        self._patience = patience
        self._pool = Pool(endpoints, patience, self._admit)
        self._in_flight = 0
        self._model = endpoints[0].started_on.name
        # The names of the weights that all servers hold: a hub id, a folder, or what requests call them.
        self._held = set.intersection(*({e.started_on.name, _absolute(e.started_on.root)} for e in endpoints))
        # How a server that was restarted gets what was loaded since, and by which name its weights are known there.
        self._restore: Callable[[Endpoint], Awaitable[None]] | None = None
        self._version: str | None = None

    @classmethod
    async def connect(
        cls,
        urls: Sequence[str],
        *,
        model: str | None = None,
        context_length: int | None = None,
        api_key: str | None = None,
        max_concurrency: int = 256,
        timeout: float = 600.0,
        patience: float = 300.0,
    ) -> "ServerEngine":
        """Ask every server what it serves, and sample one token from each.

        Args:
            urls: Such as `http://localhost:8000/v1`; all serve the same model.
            model: The servers' name for it; default: the first that `/v1/models` names.
            context_length: Largest prompt plus completion, in tokens; default and upper limit: the least of all.
            api_key: Default: the environment variable OPENAI_API_KEY, if it is set.
            max_concurrency: Largest number of requests in flight at one server; more of them wait.
            timeout: Longest time of one completion, in seconds.
            patience: How long all servers may be out of use, in seconds, before requests fail.

        Raises:
            EngineError: A server does not answer, serves another model, or lacks what an engine promises.
        """
        addresses = _addresses(urls)
        key = api_key or os.environ.get("OPENAI_API_KEY")
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        endpoints = [Endpoint(url, session, asyncio.Semaphore(max_concurrency), timeout) for url in addresses]
        try:
            versions = await asyncio.gather(*(_introduce(endpoint, model) for endpoint in endpoints))
            _require_same_model(endpoints)
        except BaseException:
            await session.close()
            raise
        engine = cls(session, endpoints, patience)
        engine.context_length = min(context_length or engine.context_length, engine.context_length)
        if any(versions):
            engine._held = set()  # Somebody has loaded other weights than these servers were started on.
        return engine

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        """Sample a continuation of `prompt_ids`; see `mdpo.engines.base.Engine`. Cancelling it frees its place.

        Raises:
            ValueError: The prompt leaves no room for a token, or the server refuses the prompt or the parameters.
            EngineError: The engine was closed, no server answered for longer than the patience, or the request failed
                again and again.
        """
        self._pool.check_open()
        if not 0 < len(prompt_ids) < self.context_length:
            raise ValueError(f"the prompt has {len(prompt_ids)} tokens, the context length is {self.context_length}")
        if 0 < params.temperature < _LOWEST_TEMPERATURE:
            raise ValueError(
                f"the temperature {params.temperature} is below {_LOWEST_TEMPERATURE}, the lowest that vLLM samples "
                "with; use 0 for greedy decoding"
            )
        params = replace(params, max_tokens=min(params.max_tokens, self.context_length - len(prompt_ids)))
        self._in_flight += 1
        try:
            return await self._persist(prompt_ids, params)
        finally:
            self._in_flight -= 1

    async def serve(self, policy: str | Path) -> None:
        """Sample from this policy: nothing to do where the servers were started on it, else it is loaded.

        Raises:
            CheckpointError, EngineError: As `load`.
        """
        if self._is_held(str(policy)):
            self._model = self._endpoints[0].started_on.name
        elif Path(policy).is_dir():
            await self.load(Path(policy))
        else:
            reason = f"the servers hold {self._holding()}, and there is no folder {policy}"
            raise EngineError(CANNOT_LOAD.format(url=self._endpoints[0].url, checkpoint=policy, reason=reason))

    async def load(self, checkpoint: Path) -> None:
        """Replace the weights by those of another checkpoint; or load a PEFT adapter, and sample from it from then on.

        No request may be in flight. The servers read the folder themselves, under the same path.

        Raises:
            CheckpointError: It is no whole checkpoint, or of another architecture, or an adapter of another model;
                the engine is unchanged.
            EngineError: A server cannot load it (the engine is unchanged), or loading the weights went wrong at one of
                them: then the engine is closed, because they do not all hold the same ones.
        """
        self._pool.check_open()
        if self._in_flight:
            raise EngineError(f"cannot load {checkpoint} while {self._in_flight} requests are in flight")
        if failures := self._pool.failures():
            raise EngineError(f"cannot load {checkpoint} while a server is out of use: {failures}")
        if not checkpoint.is_dir():
            raise CheckpointError(f"there is no folder {checkpoint} to load; check the path of the checkpoint")
        if (checkpoint / "adapter_config.json").is_file():
            await self._load_adapter(_absolute(checkpoint))
        else:
            resolve_checkpoint(str(checkpoint), checkpoint.parent)
            await self._load_weights(_absolute(checkpoint))

    async def close(self) -> None:
        """Close the connections; the servers go on. Requests in flight fail with an `EngineError`."""
        await self._pool.close()
        await self._session.close()

    async def _persist(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        """Send a request until a server has answered it."""
        body = completion_body(self._model, prompt_ids, params)
        failed, refused, started = 0, 0, time.monotonic()
        while True:
            endpoint = await self._pool.choose(prompt_ids)
            try:
                async with endpoint.slot():
                    self._pool.check_open()
                    if endpoint.error is None:
                        await self._require_loaded(endpoint)
                        return await endpoint.complete(body, params)
            except Busy as error:
                if time.monotonic() - started > self._patience:
                    raise EngineError(f"{endpoint.url} was too busy for {self._patience:g} s: {error}") from error
                await self._pool.pause(refused, at_least=error.retry_after)
                refused += 1
            except Unavailable as error:
                self._pool.take_out(endpoint, str(error))
                failed += 1
                if failed == _ATTEMPTS:
                    raise EngineError(
                        f"a request failed {failed} times at servers that answer others, the last time at "
                        f"{endpoint.url}: {error}; the server's log says why"
                    ) from error
                await self._pool.pause(failed - 1)

    async def _require_loaded(self, endpoint: Endpoint) -> None:
        """Find out a server that was restarted while nobody talked to it."""
        if self._version is None or time.monotonic() - endpoint.last_answer < _SILENT_SECONDS:
            return
        if await endpoint.weight_version() != self._version:
            raise Unavailable("it was restarted, and does not hold the checkpoint that was loaded")

    async def _admit(self, endpoint: Endpoint) -> None:
        """Make sure that a server that was out of use is what it was before."""
        before = endpoint.started_on
        now = await endpoint.served(before.name)
        if now.root != before.root or now.context_length < self.context_length:
            raise EngineError(f"it serves {now} now, instead of {before}")
        if self._restore is not None:
            await self._restore(endpoint)
        await endpoint.probe(self._model)

    async def _load_weights(self, checkpoint: str) -> None:
        for problems in await asyncio.gather(*(endpoint.compare(checkpoint) for endpoint in self._endpoints)):
            if problems:
                raise CheckpointError(f"the servers cannot load {checkpoint}: {problems[0]}; start new ones on it")
        # Unique, because a folder may be written again.
        version = f"{checkpoint} {uuid.uuid4().hex}"

        async def restore(endpoint: Endpoint) -> None:
            if await endpoint.weight_version() != version:
                await endpoint.load_weights(checkpoint, version)

        try:
            await asyncio.gather(*(restore(endpoint) for endpoint in self._endpoints))
        except BaseException:
            await self.close()
            raise
        self._model = self._endpoints[0].started_on.name
        self._held, self._version, self._restore = {checkpoint}, version, restore

    async def _load_adapter(self, folder: str) -> None:
        config: dict[str, Any] = json.loads((Path(folder) / "adapter_config.json").read_text())
        base = str(config["base_model_name_or_path"])
        if not self._is_held(base):
            raise CheckpointError(f"{folder} is an adapter of {base}, and the servers hold {self._holding()}")
        name = f"{folder} {uuid.uuid4().hex}"
        before = self._restore

        async def restore(endpoint: Endpoint) -> None:
            if before is not None:
                await before(endpoint)
            await endpoint.load_adapter(folder, name, config["r"])

        await asyncio.gather(*(restore(endpoint) for endpoint in self._endpoints))
        self._model, self._restore = name, restore

    def _is_held(self, policy: str) -> bool:
        return policy in self._held or _absolute(policy) in self._held

    def _holding(self) -> str:
        return " alias ".join(sorted(self._held)) or "weights that were loaded after their start"


async def _introduce(endpoint: Endpoint, model: str | None) -> str | None:
    """Learn what a server serves and that it can be used; the version of its weights, if others were loaded."""
    try:
        endpoint.started_on = await endpoint.served(model)
        await endpoint.probe(endpoint.started_on.name)
        return await endpoint.weight_version()
    except Unavailable as error:
        raise EngineError(
            f"{endpoint.url} does not answer: {error}; start it (`vllm serve MODEL`, see docs/server.md) and wait "
            "until it is ready, or leave it out"
        ) from error


def _require_same_model(endpoints: Sequence[Endpoint]) -> None:
    first = endpoints[0]
    for other in endpoints[1:]:
        if other.started_on.name != first.started_on.name:
            raise EngineError(
                f"{first.url} serves {first.started_on.name} and {other.url} serves {other.started_on.name}; start "
                "them on the same model, or name one that all of them serve"
            )


def _addresses(urls: Sequence[str]) -> list[str]:
    """The addresses with `/v1` at their ends, whether the user wrote it or not."""
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise EngineError(f"{url!r} is no address of a server; write it like http://localhost:8000/v1")
    addresses = [url.rstrip("/").removesuffix("/v1") + "/v1" for url in urls]
    if not addresses or len(set(addresses)) < len(addresses):
        raise EngineError(f"name at least one server, and each only once: {', '.join(urls) or 'none is named'}")
    return addresses


def _absolute(folder: str | Path) -> str:
    """The full path of a folder; anything else is a hub id or a name, and stays what it is."""
    return str(Path(folder).absolute()) if Path(folder).is_dir() else str(folder)
