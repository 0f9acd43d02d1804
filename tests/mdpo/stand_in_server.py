"""A server that speaks vLLM's HTTP and samples with a `TransformersEngine`; it can be told to fail in many ways."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from mdpo.checkpoint import architecture, difference
from mdpo.engines.base import SamplingParams
from mdpo.engines.server import ServerEngine
from mdpo.engines.transformers import TransformersEngine
from tests.mdpo.engine_contract import CONTEXT_LENGTH

# What happens to one request instead of an answer; `None`: it is answered after all.
Trouble = Callable[[web.Request], Awaitable[web.Response | None]]


def status(code: int, **headers: str) -> Trouble:
    async def trouble(_: web.Request) -> web.Response:
        return _error(code, "trouble", headers)

    return trouble


async def drop(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(10)  # Cancelled: the connection is gone.


async def cut(request: web.Request) -> None:
    """Break off in the middle of the answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    await drop(request)


async def hang(_: web.Request) -> None:
    await asyncio.sleep(60)


def slow(seconds: float) -> Trouble:
    async def trouble(_: web.Request) -> None:
        await asyncio.sleep(seconds)

    return trouble


class StandIn:
    """One server.

    Attributes:
        troubles: What happens to the next completions, the first one first.
        requests: Every completion that was asked for, and when.
        cancelled: How many of them lost their client.
        most_in_flight: Largest number of completions that were being sampled at once.
        change: Changes each choice of an answer.
        can_load: Whether it was started in development mode with the worker extension.
        key: The API key that it asks for.
    """

    def __init__(self, folder: Path, loading: asyncio.Lock) -> None:
        self.folder, self.name, self.port = folder, str(folder), 0
        self.troubles: deque[Trouble] = deque()
        self.requests: list[tuple[float, dict[str, Any]]] = []
        self.cancelled = self.most_in_flight = self._in_flight = 0
        self.change: Callable[[dict[str, Any]], Any] = lambda _: None
        self.can_load = True
        self.key: str | None = None
        self.loads: list[str] = []
        self.version = "default"
        # transformers cannot load two models at once in one process, as several servers do.
        self._loading = loading
        self._engine = TransformersEngine(folder, context_length=CONTEXT_LENGTH)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen; on the same port as before, if there was one."""
        app = web.Application(client_max_size=1 << 26)
        app.add_routes(
            [
                web.get("/v1/models", self._models),
                web.post("/v1/completions", self._complete),
                web.get("/weight_info", self._weight_info),
                web.post("/collective_rpc", self._rpc),
                web.post("/reset_prefix_cache", self._reset),
                web.post("/update_weight_version", self._update_version),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def die(self) -> None:
        """Close the port and every connection, as a killed process does."""
        await self._runner.cleanup()

    async def restart(self) -> None:
        """Come back with the weights of the first start."""
        async with self._loading:
            await self._engine.load(self.folder)
        self.version = "default"
        await self.start()

    async def close(self) -> None:
        await self.die()
        await self._engine.close()

    async def _models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, "Unauthorized", {})
        entry = {"id": self.name, "root": str(self.folder), "parent": None, "max_model_len": CONTEXT_LENGTH}
        return web.json_response({"object": "list", "data": [entry]})

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append((time.monotonic(), body))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            refusal = await self.troubles.popleft()(request) if self.troubles else None
            return refusal or await self._answer(body)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._in_flight -= 1

    async def _answer(self, body: dict[str, Any]) -> web.Response:
        if body["model"] != self.name:
            return _error(404, f"The model {body['model']} does not exist.", {})
        if not 0 < body["top_p"] <= 1:
            return _error(400, f"top_p must be in (0, 1], got {body['top_p']}.", {})
        params = SamplingParams(
            temperature=body["temperature"],
            top_p=body["top_p"],
            max_tokens=body["max_tokens"],
            stop_token_ids=tuple(body["stop_token_ids"]),
            stop_strings=tuple(body.get("stop", ())),
            seed=body.get("seed"),
        )
        completion = await self._engine.generate(body["prompt"], params)
        choice = {
            "finish_reason": completion.finish_reason,
            "token_ids": completion.token_ids,
            "logprobs": {
                "token_logprobs": completion.logprobs,
                "top_logprobs": [{"token_id:0": logprob} for logprob in completion.logprobs],
            },
        }
        self.change(choice)
        return web.json_response({"choices": [choice]})

    async def _weight_info(self, _: web.Request) -> web.Response:
        return web.json_response({"weight_version": self.version}) if self.can_load else _error(404, "Not Found", {})

    async def _rpc(self, request: web.Request) -> web.Response:
        body = await request.json()
        if not self.can_load:
            return _error(404, "Not Found", {})
        (checkpoint,) = body["args"]
        if body["method"] == "compare_checkpoint":
            return web.json_response({"results": [difference(architecture(self.folder), architecture(checkpoint))]})
        self.loads.append(checkpoint)
        try:
            async with self._loading:
                await self._engine.load(Path(checkpoint))
        except Exception as error:  # noqa: BLE001 - vLLM answers so, whatever it was
            return _error(500, str(error), {})
        return web.json_response({"results": [None]})

    async def _reset(self, _: web.Request) -> web.Response:
        return web.json_response({"success": True})

    async def _update_version(self, request: web.Request) -> web.Response:
        self.version = (await request.json())["new_version"]
        return web.json_response({"success": True})


def _error(code: int, message: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code}}, status=code, headers=headers)


@asynccontextmanager
async def stand_ins(folder: Path, count: int = 1) -> AsyncIterator[list[StandIn]]:
    """Some servers of one checkpoint, closed when the block ends."""
    loading = asyncio.Lock()
    servers = [StandIn(folder, loading) for _ in range(count)]
    try:
        for server in servers:
            await server.start()
        yield servers
    finally:
        for server in servers:
            await server.close()


@asynccontextmanager
async def served(folder: Path, count: int = 1, **options: Any) -> AsyncIterator[tuple[ServerEngine, list[StandIn]]]:
    """An engine and its servers."""
    async with stand_ins(folder, count) as servers:
        engine = await ServerEngine.connect([server.url for server in servers], **options)
        for server in servers:
            server.requests.clear()
        try:
            yield engine, servers
        finally:
            await engine.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; fail after five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
