"""Four ways to play the same turns: the engine alone, this rollout, in step, and as a chat client.

Prompts, seeds, programs and tool latencies are the same in all of them; only the order of waiting differs.
"""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.rollout_parts import TURN, Noting, Request, Stand
from eval import Problem, check, extract_answer
from mdpo.collect import collect
from mdpo.engines.base import Completion, Engine, SamplingParams
from mdpo.render import after_programs, last_program, observation_text, outside_programs
from mdpo.rollout import attempt, turn_seed
from mdpo.trajectory import Trajectory, TrajectoryWriter

if TYPE_CHECKING:
    import httpx  # comes with vLLM

START_SECONDS = 300.0


@dataclass(frozen=True)
class Measured:
    """What one way took for its tokens.

    Args:
        full_seconds: Until its last trajectory (or request) was started: as long, as many were in flight as may be.
        full_tokens: Those of the requests that were answered by then.
    """

    seconds: float
    tokens: int
    trajectories: int
    full_seconds: float = 0.0
    full_tokens: int = 0

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def full_rate(self) -> float:
        return self.full_tokens / self.full_seconds if self.full_seconds else self.rate


async def engine_alone(stand: Stand, load: Sequence[Request]) -> Measured:
    """The limit: every request that a rollout made, in its order and with exactly its tokens, and nothing to wait for.

    As many are in flight as the rollout has trajectories; the next starts as soon as one is done.
    """
    waiting = iter(load)
    answers: list[tuple[float, int]] = []
    began = last = time.perf_counter()

    async def work() -> None:
        nonlocal last
        for request in waiting:
            exact = replace(request.params, max_tokens=request.tokens, stop_token_ids=(), stop_strings=())
            last = time.perf_counter()
            completion = await stand.engine.generate(request.prompt_ids, exact)
            answers.append((time.perf_counter(), len(completion.token_ids)))

    await asyncio.gather(*(work() for _ in range(stand.in_flight)))
    return _measured(stand, began, last, answers)


async def ours(stand: Stand, path: Path) -> tuple[Measured, list[Request]]:
    """This rollout, and the requests that it made."""
    engine = Noting(stand.engine)
    began = time.perf_counter()
    await collect(stand.agent(engine), stand.problems, stand.plan, path, concurrency=stand.in_flight)
    # The sandbox itself does not say when its last session was opened.
    last = getattr(stand.tool, "opened", time.perf_counter())
    answers = [(request.answered, request.tokens) for request in engine.requests]
    return _measured(stand, began, last, answers), engine.requests


def _measured(stand: Stand, began: float, last: float, answers: Sequence[tuple[float, int]]) -> Measured:
    seconds = time.perf_counter() - began
    full_tokens = sum(tokens for answered, tokens in answers if answered <= last)
    return Measured(seconds, sum(tokens for _, tokens in answers), len(stand.attempts), last - began, full_tokens)


class InStep:
    """An engine whose requests wait for each other, as in a loop over the turns of a batch.

    It samples when each trajectory of the batch that still lives has asked, and answers when all are sampled.
    """

    def __init__(self, engine: Engine, live: int) -> None:
        self.context_length = engine.context_length
        self._engine = engine
        self._live = live
        self._waiting: list[tuple[list[int], SamplingParams, asyncio.Future[Completion]]] = []
        self._sampling: asyncio.Task[None] | None = None

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt_ids, params, answer))
        self._go_on()
        return await answer

    def leave(self) -> None:
        """One trajectory of the batch has ended."""
        self._live -= 1
        self._go_on()

    async def load(self, checkpoint: Path) -> None: ...

    async def close(self) -> None: ...

    def _go_on(self) -> None:
        if self._waiting and len(self._waiting) == self._live:
            self._sampling = asyncio.create_task(self._sample(self._waiting))
            self._waiting = []

    async def _sample(self, batch: list[tuple[list[int], SamplingParams, asyncio.Future[Completion]]]) -> None:
        requests = (self._engine.generate(prompt_ids, params) for prompt_ids, params, _ in batch)
        results = await asyncio.gather(*requests, return_exceptions=True)
        for result, (_, _, answer) in zip(results, batch, strict=True):
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)


async def in_step(stand: Stand, path: Path) -> Measured:
    """The batch-synchronous way, as in ToRA and in the paper's code.

    A turn begins when the slowest program of the turn before has ended, a batch when the whole batch before has. The
    turns themselves are this rollout's own, so that nothing but the waiting differs.
    """
    tokens = 0
    began = time.perf_counter()
    with TrajectoryWriter(path) as writer:
        for start in range(0, len(stand.attempts), stand.in_flight):
            for trajectory in await _batch(stand, stand.attempts[start : start + stand.in_flight]):
                writer.append(trajectory)
                tokens += sum(len(turn.action_ids) for turn in trajectory.turns)
    return Measured(time.perf_counter() - began, tokens, len(stand.attempts))


async def _batch(stand: Stand, attempts: Sequence[tuple[Problem, int]]) -> list[Trajectory]:
    engine = InStep(stand.engine, len(attempts))
    agent = stand.agent(Noting(engine))

    async def play(problem: Problem, sample: int) -> Trajectory:
        try:
            return await attempt(agent, problem, sample, stand.sampling)
        finally:
            engine.leave()

    return await asyncio.gather(*(play(problem, sample) for problem, sample in attempts))


async def chat_client(stand: Stand, client: "httpx.AsyncClient", attempts: Sequence[tuple[Problem, int]]) -> Measured:
    """One text request after another, one trajectory at a time; the server applies the template and tokenises."""
    began = time.perf_counter()
    tokens = 0
    for problem, sample in attempts:
        tokens += await _chat(stand, client, problem, sample)
    return Measured(time.perf_counter() - began, tokens, len(attempts))


async def _chat(stand: Stand, client: "httpx.AsyncClient", problem: Problem, sample: int) -> int:
    """One trajectory; the number of its sampled tokens."""
    messages = [{"role": "user", "content": problem.question}]
    tokens = 0
    async with stand.tool.session() as session:
        for turn in range(stand.sampling.horizon):
            TURN.set(turn_seed(stand.sampling.seed, problem.id, sample, turn))
            reply = await _ask(stand, client, messages)
            if reply is None:
                break
            tokens += reply["usage"]["completion_tokens"]
            choice = reply["choices"][0]
            action = choice["message"]["content"]
            code = last_program(action)
            last = turn + 1 == stand.sampling.horizon or choice["finish_reason"] == "length"
            if last or code is None or "\\boxed" in after_programs(action):
                check(extract_answer(outside_programs(action)), problem.answer)
                break
            messages.append({"role": "assistant", "content": action})
            messages.append({"role": "user", "content": observation_text((await session.run(code)).text)})
    return tokens


async def _ask(stand: Stand, client: "httpx.AsyncClient", messages: list[dict[str, str]]) -> dict[str, Any] | None:
    """The server's reply; `None` if the conversation has outgrown the context."""
    sampling = stand.sampling
    reply = await client.post(
        "/v1/chat/completions",
        json={
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_action_tokens,
            "seed": TURN.get(),
        },
    )
    if reply.status_code == HTTPStatus.BAD_REQUEST and "context length" in reply.text:
        return None
    answer: dict[str, Any] = reply.raise_for_status().json()
    return answer


@asynccontextmanager
async def serve(checkpoint: Path, context_length: int, in_flight: int) -> AsyncIterator["httpx.AsyncClient"]:
    """vLLM's OpenAI-compatible server with the settings of `VLLMEngine` on a CPU, and a client for it.

    Raises:
        RuntimeError: It does not start; the end of its log says why.
    """
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill", "--enable-prefix-caching"]
    flags += ["--generation-config", "vllm", "--logprobs-mode", "raw_logprobs", "--disable-log-stats"]
    flags += ["--kv-cache-memory-bytes", str(2**30), "--disable-uvicorn-access-log", "--host", "127.0.0.1"]
    flags += ["--max-model-len", str(context_length), "--max-num-seqs", str(in_flight), "--port", str(port)]
    environment = {
        **os.environ,
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        # The server then has a call that empties its cache.
        "VLLM_SERVER_DEV_MODE": "1",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), *flags]
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=START_SECONDS) as client:
                await _until_ready(client, process, log)
                yield client
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_ready(client: "httpx.AsyncClient", process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
    import httpx

    until = time.monotonic() + START_SECONDS
    while process.returncode is None and time.monotonic() < until:
        try:
            if (await client.get("/health")).status_code == HTTPStatus.OK:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.2)
    log.seek(0)
    raise RuntimeError(f"vLLM's server did not start; its log ends with\n{log.read().decode(errors='replace')[-2000:]}")
