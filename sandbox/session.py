"""One trajectory's interpreter."""

import asyncio
import codecs
import os
import secrets
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

from sandbox.errors import ChannelError, LostInterpreter, SandboxError
from sandbox.limits import Limits
from sandbox.remote import Worker
from sandbox.result import Excerpt, ExecutionResult, Status, cut, printable, timeout_text

# The clock inside the interpreter stops most code and keeps its variables; so long after it the process is killed.
GRACE_SECONDS = 0.5
# A process that breaks off its channel is mostly dead already, and how it died is news for the policy.
LAST_WORDS_SECONDS = 0.2

REQUEST_CHARS = 100_000
OUTPUT_CHUNK = 1 << 20
RESTARTED = "The interpreter was restarted; variables are lost."
WORKER_STATUSES = ("ok", "error", "timeout", "memory")

Outcome = tuple[Status, str | None]
T = TypeVar("T")


class Workers(Protocol):
    """What a session needs of its sandbox: processes to run in, and a turn on a core."""

    limits: Limits
    turns: asyncio.Semaphore

    def check(self) -> None:
        """Raise if it is not open."""
        ...

    async def start_worker(self) -> Worker:
        """A fresh interpreter's process, ready."""
        ...

    async def end_worker(self, worker: Worker) -> None:
        """End such a process."""
        ...

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; for the synchronous face."""
        ...


class Session:
    """One trajectory's interpreter: blocks run in it one after the other and share their variables.

    Made by `Sandbox.session()`; open it with `async with` (or `with`). It takes a process with its first block. Blocks
    asked for at the same time wait for each other. When a block is killed the result says so, and the next one gets a
    fresh interpreter.
    """

    def __init__(self, sandbox: Workers) -> None:
        self._sandbox = sandbox
        self._worker: Worker | None = None
        self._blocks: list[str] = []  # what made the variables of the present interpreter
        self._open = False
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._sandbox.check()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        async with self._turn:
            worker, self._worker = self._worker, None
            if worker is not None:
                await self._sandbox.end_worker(worker)

    def __enter__(self) -> Self:
        return self._sandbox.wait(self.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.wait(self.__aexit__(kind, error, trace))

    def run_sync(self, code: str) -> ExecutionResult:
        """`run` for a sandbox that was opened with `with`."""
        return self._sandbox.wait(self.run(code))

    async def run(self, code: str) -> ExecutionResult:
        """Execute one block, as a notebook would a cell.

        Args:
            code: Python source. The value of a last expression is shown unless it is None or a semicolon follows.

        Returns:
            What came of it, at most one second after the time limit.

        Raises:
            SandboxError: The sandbox is broken, or the session is not open. Never for what the code did.

        If this call is cancelled the interpreter ends, and the next block gets a fresh one.
        """
        if len(code) > REQUEST_CHARS:
            reason = f"The block was not run: it has {len(code)} characters, more than {REQUEST_CHARS}."
            return ExecutionResult("refused", "", reason, 0.0, False)
        async with self._turn:
            if not self._open:
                raise SandboxError("the session is not open: use `async with sandbox.session() as session`")
            while True:
                try:
                    return await self._run(code)
                except LostInterpreter:
                    # The block did nothing outside and would do the same again: nobody need know. A warm process that
                    # goes on dying ends this loop with an error when the next worker is asked for.
                    await self._restore()

    async def _restore(self) -> None:
        """Make the variables again that were lost with the warm process, by the blocks that had made them."""
        blocks = self._blocks
        while not await self._rerun(blocks):
            pass

    async def _rerun(self, blocks: list[str]) -> bool:
        """Whether all of `blocks` ran, one after the other, before the warm process died again."""
        self._blocks = []
        try:
            for block in blocks:
                await self._run(block)
        except LostInterpreter:
            return False
        if self._blocks != blocks:
            raise SandboxError("a session that was lost with the warm process could not be made again")
        return True

    async def _run(self, code: str) -> ExecutionResult:
        """One attempt at a block, when there is a turn for it."""
        async with self._sandbox.turns:
            began = time.perf_counter()
            worker, blocks = await self._take()
            try:
                os.ftruncate(worker.output, 0)
                status, error = await self._ask(worker, code)
                output, truncated = await _read_output(worker.output, self._sandbox.limits.output_chars)
            except LostInterpreter:
                self._blocks = blocks
                raise
            finally:
                if self._worker is None:
                    await self._sandbox.end_worker(worker)
            if self._worker is not None:
                self._blocks = [*blocks, code]
            return ExecutionResult(status, output, error, time.perf_counter() - began, truncated)

    async def _take(self) -> tuple[Worker, list[str]]:
        """The interpreter and what it ran; they are the session's no more until the block has ended well."""
        worker = self._worker or await self._sandbox.start_worker()
        blocks = self._blocks
        self._worker, self._blocks = None, []
        return worker, blocks

    async def _ask(self, worker: Worker, code: str) -> Outcome:
        """Have `worker` run the code; it stays this session's worker only if it answers as it should."""
        limits = self._sandbox.limits
        block = secrets.token_hex(8)
        try:
            async with asyncio.timeout(limits.seconds + GRACE_SECONDS):
                with worker.watched():
                    reply = await worker.ask({"id": block, "code": code})
            outcome = _parse_reply(reply, block, limits.output_chars)
        except TimeoutError:
            return "timeout", f"TimeoutError: {timeout_text(limits.seconds)}\n{RESTARTED}"
        except (ChannelError, ConnectionError) as problem:
            ending = await worker.ending(LAST_WORDS_SECONDS)
            if worker.home.problem is not None:
                raise LostInterpreter(worker.home.problem) from problem
            if worker.exceeded == "memory":
                return "memory", f"MemoryError: the code's processes took more than {limits.memory_mb} MiB\n{RESTARTED}"
            if worker.exceeded == "processes":
                return "crashed", f"The code started more than {limits.processes} processes. {RESTARTED}"
            return "crashed", f"The interpreter {ending or problem}. {RESTARTED}"
        self._worker = worker
        return outcome


def _parse_reply(reply: dict[str, object], block: str, limit: int) -> Outcome:
    """The status and error of a reply; what was cut by the worker is cut again, since the code may have forged it."""
    status, error = reply.get("status"), reply.get("error")
    if reply.get("id") != block or status not in WORKER_STATUSES or not isinstance(error, str | None):
        raise ChannelError("sent a message that answers nothing")
    return cast(Status, status), None if error is None else printable(cut(error, limit + 100))


async def _read_output(fd: int, limit: int) -> tuple[str, bool]:
    """The output that a worker left, and whether its middle is left out. Lets other tasks run between chunks."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    excerpt = Excerpt(limit)
    size = os.fstat(fd).st_size
    for offset in range(0, size, OUTPUT_CHUNK):
        data = os.pread(fd, min(OUTPUT_CHUNK, size - offset), offset)
        excerpt.add(decoder.decode(data, final=offset + OUTPUT_CHUNK >= size))
        if size > OUTPUT_CHUNK:
            await asyncio.sleep(0)
    return str(excerpt), excerpt.truncated
