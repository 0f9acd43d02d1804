"""One OpenAI-compatible server over HTTP: completions in token ids, what it serves, and how new weights get into it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from mdpo.engines.base import Completion, SamplingParams
from mdpo.engines.wire import LACKS, Unavailable, completion_body, get, read_completion, require_raw
from mdpo.errors import EngineError

# Questions that a server answers at once, and loading a checkpoint into it.
_ASK_SECONDS, _LOAD_SECONDS = 60.0, 1800.0
CANNOT_LOAD = (
    "{url} cannot load {checkpoint} ({reason}). Where mdpo is installed beside vLLM, a server that can is started with "
    "`VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --worker-extension-cls mdpo.engines.vllm_worker.WorkerExtension`; or "
    "stop it and start it on the checkpoint: `vllm serve {checkpoint}`; or, if it serves the same weights under "
    "another name, start it with `--served-model-name {checkpoint}`"
)
_CANNOT_ADAPT = (
    "{url} cannot load the adapter {checkpoint} ({reason}). A server that can is started with "
    "`VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --enable-lora --max-lora-rank {rank}`"
)


class Busy(Unavailable):
    """The server asks for a pause (429), `retry_after` seconds at least."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(Exception):  # noqa: N818 - the caller says what it means
    """The server understood the request and refuses it (4xx)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{reason} (status {status})")
        self.status = status


@dataclass(frozen=True, slots=True)
class Served:
    """What a server samples from.

    Attributes:
        name: The name that requests use.
        root: The folder or hub id that it was started on.
        context_length: Largest prompt plus completion, in tokens.
    """

    name: str
    root: str
    context_length: int


@dataclass(slots=True, eq=False)
class Endpoint:
    """One server.

    Attributes:
        url: With `/v1`, as the user wrote it or nearly so.
        session: Shared by all endpoints of an engine.
        slots: One for each request that may be in flight here.
        timeout: Longest time of one completion, in seconds.
        started_on: What it serves, as it said at first.
        error: Why it is out of use; `None` while it is in use.
        in_flight: Requests that were sent here or wait for a slot here.
        last_answer: When it last answered a request, by the monotonic clock.
    """

    url: str
    session: aiohttp.ClientSession
    slots: asyncio.Semaphore
    timeout: float
    started_on: Served = field(init=False)
    error: str | None = field(default=None, init=False)
    in_flight: int = field(default=0, init=False)
    last_answer: float = field(default_factory=time.monotonic, init=False)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A place among the requests in flight; counted from now on, waited for if all are taken."""
        self.in_flight += 1
        try:
            async with self.slots:
                yield
        finally:
            self.in_flight -= 1

    async def complete(self, body: dict[str, Any], params: SamplingParams) -> Completion:
        """One attempt at a completion.

        Raises:
            Unavailable: The attempt failed; nothing of it remains.
            ValueError: The server refuses the request.
            EngineError: The server does not let us in, or its answer breaks what an engine promises.
        """
        try:
            answer = await self._call("POST", "/v1/completions", body, self.timeout)
        except Refused as error:
            # A server that does not know the model was restarted on another one, or without the adapter.
            if error.status == 404:
                raise Unavailable(str(error)) from error
            if error.status in (401, 403):
                raise EngineError(f"{self.url} does not let us in: {error}; set OPENAI_API_KEY to its key") from error
            raise ValueError(f"{self.url} refuses the request: {error}") from error
        self.last_answer = time.monotonic()
        return read_completion(self.url, answer, params)

    async def served(self, model: str | None) -> Served:
        """What it serves under this name; `None`: the first model that is no adapter.

        Raises:
            Unavailable: It does not answer.
            EngineError: It serves no such model.
        """
        models = await self._models()
        name = model or next((name for name, entry in models.items() if entry.get("parent") is None), None)
        if name not in models:
            raise EngineError(f"{self.url} serves no model {name!r}; its models: {', '.join(models) or 'none'}")
        # An adapter has no limit of its own.
        limits = [entry["max_model_len"] for entry in (models[name], *models.values()) if entry.get("max_model_len")]
        if not limits:
            raise EngineError(LACKS.format(url=self.url, what="its /v1/models has no max_model_len"))
        return Served(name, models[name].get("root") or name, limits[0])

    async def probe(self, model: str) -> None:
        """Sample one token, and refuse a server whose answer lacks what an engine promises.

        Raises:
            Unavailable: It does not answer.
            EngineError: It answers without token ids or log-probabilities, or with those after top-p.
        """
        params = SamplingParams(top_p=1e-6, max_tokens=1)
        body = completion_body(model, [0], params) | {"logprobs": 2}
        try:
            answer = await self._call("POST", "/v1/completions", body, _ASK_SECONDS)
        except Refused as error:
            raise EngineError(f"{self.url} refuses a request of one token: {error}; see docs/server.md") from error
        read_completion(self.url, answer, params)
        require_raw(self.url, answer)

    async def weight_version(self) -> str | None:
        """The name of the weights that were loaded last; `None` for those that the server was started on."""
        try:
            answer = await self._call("GET", "/weight_info", None, _ASK_SECONDS)
        except Refused:
            return None  # A server without vLLM's development mode cannot load any.
        version = get(self.url, answer, "weight_version")
        return None if version == "default" else str(version)

    async def compare(self, checkpoint: str) -> list[str]:
        """What speaks against loading a checkpoint, as the server's workers see it; changes nothing.

        Raises:
            EngineError: The server cannot load checkpoints.
        """
        return [problem for problem in await self._rpc("compare_checkpoint", checkpoint) if problem]

    async def load_weights(self, checkpoint: str, version: str) -> None:
        """Replace the weights, forget the keys and values of the old ones, and name the new ones.

        Raises:
            EngineError: It failed; the server holds neither the old weights nor the new ones for certain.
        """
        await self._rpc("load_checkpoint", checkpoint)
        try:
            answer = await self._call("POST", "/reset_prefix_cache", None, _ASK_SECONDS)
            if not get(self.url, answer, "success"):
                raise EngineError(f"{self.url} kept the cache of the old weights after it loaded {checkpoint}")
            await self._call("POST", "/update_weight_version", {"new_version": version}, _ASK_SECONDS)
        except (Refused, Unavailable) as error:
            raise EngineError(f"{self.url} failed after it loaded {checkpoint}: {error}") from error

    async def load_adapter(self, folder: str, name: str, rank: int) -> None:
        """Load a PEFT adapter beside the model, under a name of its own; nothing to do if it has that name already.

        Raises:
            EngineError: The server cannot load adapters, or not this one.
        """
        if name in await self._models():
            return
        body = {"lora_name": name, "lora_path": folder}
        try:
            await self._call("POST", "/v1/load_lora_adapter", body, _LOAD_SECONDS)
        except (Refused, Unavailable) as error:
            raise EngineError(_CANNOT_ADAPT.format(url=self.url, checkpoint=folder, reason=error, rank=rank)) from error

    async def _rpc(self, method: str, checkpoint: str) -> list[Any]:
        """Call a method of every worker of the server."""
        body = {"method": method, "args": [checkpoint]}
        try:
            answer = await self._call("POST", "/collective_rpc", body, _LOAD_SECONDS)
        except (Refused, Unavailable) as error:
            raise EngineError(CANNOT_LOAD.format(url=self.url, checkpoint=checkpoint, reason=error)) from error
        return list(get(self.url, answer, "results"))

    async def _models(self) -> dict[str, dict[str, Any]]:
        """The models and adapters that it serves, by name."""
        try:
            answer = await self._call("GET", "/v1/models", None, _ASK_SECONDS)
        except Refused as error:
            raise EngineError(
                f"{self.url} does not say what it serves: {error}; check the address and OPENAI_API_KEY"
            ) from error
        return {get(self.url, entry, "id"): entry for entry in get(self.url, answer, "data")}

    async def _call(self, method: str, path: str, body: dict[str, Any] | None, seconds: float) -> Any:
        """One request and its whole answer. Cancelling it closes the connection, and the server stops sampling."""
        address = self.url.removesuffix("/v1") + path
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=10.0)
        try:
            async with self.session.request(method, address, json=body, timeout=limit) as response:
                content, status, headers = await response.read(), response.status, response.headers
        except TimeoutError as error:
            raise Unavailable(f"no answer within {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(str(error) or type(error).__name__) from error
        if status != 200:
            raise _failure(status, content, headers)
        return _parse(content)


def _failure(status: int, content: bytes, headers: Mapping[str, str]) -> Exception:
    """What a status other than 200 means."""
    reason = _reason(content)
    if status == 429:
        wait = headers.get("Retry-After", "")
        return Busy(f"{reason} (status 429)", float(wait) if wait.replace(".", "", 1).isdigit() else 0.0)
    if status == 408 or status >= 500:
        return Unavailable(f"{reason} (status {status})")
    return Refused(status, reason)


def _reason(content: bytes) -> str:
    """The server's own words for a failure, on one line and not too long."""
    text = content.decode(errors="replace")
    try:
        error = json.loads(text)["error"]
        text = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        pass  # Not in the form of an OpenAI error: the text itself is what it says.
    return " ".join(text.split())[:500] or "no reason given"


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content) if content.startswith((b"{", b"[")) else None
    except ValueError as error:
        raise Unavailable(f"its answer is no JSON: {error}") from error
