"""A warm interpreter, and the sessions that are forked from it."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from sandbox.errors import SandboxError
from sandbox.limits import Limits
from sandbox.remote import WarmProcess, Worker
from sandbox.session import Session

T = TypeVar("T")


class Sandbox:
    """Where untrusted Python runs: one warm process, any number of sessions at once.

    Open it with `async with` on the event loop that will use it, or with `with` in a script; sessions follow suit. It
    never blocks the loop.

    Args:
        limits: What each session may use; `Limits()` by default.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._warm: WarmProcess | None = None
        self._thread: _LoopThread | None = None

    def session(self) -> Session:
        """A new interpreter with nothing in it; open it with `async with` (or `with`)."""
        return Session(self)

    async def __aenter__(self) -> Self:
        self._warm = await WarmProcess.start(self.limits)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._warm is not None:
            await self._warm.close()
            self._warm = None

    def __enter__(self) -> Self:
        self._thread = _LoopThread()
        try:
            return self.wait(self.__aenter__())
        except BaseException:
            self._thread.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait(self.__aexit__(kind, error, trace))
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    @property
    def refused(self) -> dict[str, str]:
        """Layer of protection → why this machine refuses it; known once the sandbox was opened."""
        return self._opened().refused

    def check(self) -> None:
        """Raise if the sandbox cannot work any more.

        Raises:
            SandboxError: It is not open, or its warm process is gone.
        """
        self._opened().check()

    async def start_worker(self) -> Worker:
        """A fresh interpreter's process, ready; for sessions."""
        return await self._opened().start_worker()

    async def end_worker(self, worker: Worker) -> None:
        """End such a process; for sessions."""
        if self._warm is None:
            worker.close()
        else:
            await self._warm.end_worker(worker)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the sandbox's own loop and return what it returns; for the synchronous face.

        Raises:
            SandboxError: The sandbox was not opened with `with`.
        """
        if self._thread is None:
            work.close()
            raise SandboxError("the sandbox has no thread of its own: open it with `with Sandbox(…)`, or await `run`")
        return self._thread.wait(work)

    def _opened(self) -> WarmProcess:
        if self._warm is None:
            raise SandboxError("the sandbox is not open: use `async with Sandbox(…) as sandbox`")
        return self._warm


class _LoopThread:
    """An event loop in a thread, so that synchronous code, notebooks included, can use what is asynchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
