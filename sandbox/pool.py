"""A sandbox: any number of sessions, and the queue in which their blocks wait for a core."""

import asyncio
import os
import sys
import threading
import warnings
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from sandbox import guarantees
from sandbox.errors import SandboxError
from sandbox.limits import Limits
from sandbox.remote import Worker
from sandbox.session import Session
from sandbox.supply import Supply

T = TypeVar("T")

# Of each set any one layer is enough.
FILE_LAYERS = {"private root", "Landlock"}
NETWORK_LAYERS = {"namespaces", "system calls"}


class Sandbox:
    """Where untrusted Python runs: one warm process, any number of sessions at once.

    Open it with `async with` on the event loop that will use it, or with `with` in a script; sessions follow suit. It
    never blocks the loop.

    Args:
        limits: What each session may use; `Limits()` by default.
        require: Guarantees that must hold on this machine, such as `"network,filesystem"`: each is attacked when the
            sandbox opens, and it does not open if one falls. `guarantees.NAMES` lists them.
        workers: How many blocks may run at the same time; more wait, and their clocks with them. The number of this
            process's cores by default, at least two: with more the clock would run out for code that only waits for
            a core.

    Raises:
        SandboxError: On opening, if it cannot work here or a required guarantee does not hold.
    """

    def __init__(self, limits: Limits | None = None, *, require: str = "", workers: int | None = None) -> None:
        self.limits = limits or Limits()
        self._required = guarantees.parse(require)
        self._workers = workers or max(2, _cores())
        self._supply: Supply | None = None
        self._thread: _LoopThread | None = None
        self.turns = asyncio.Semaphore(self._workers)

    def session(self) -> Session:
        """A new interpreter with nothing in it; open it with `async with` (or `with`)."""
        return Session(self)

    async def __aenter__(self) -> Self:
        self.turns = asyncio.Semaphore(self._workers)  # a new one: each belongs to the loop that waits on it
        self._supply = await Supply.open(self.limits, self._workers)
        try:
            self._warn()
            await guarantees.demand(self, self._required)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        supply, self._supply = self._supply, None
        if supply is not None:
            await supply.close()

    def _warn(self) -> None:
        """Say where there is nothing but limits."""
        for layers, what in ((FILE_LAYERS, "read and write your files"), (NETWORK_LAYERS, "use the network")):
            if layers <= self.refused.keys():
                reasons = "; ".join(f"{layer}: {self.refused[layer]}" for layer in sorted(layers))
                warnings.warn(f"on this machine code in the sandbox can {what} ({reasons})", stacklevel=4)

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
        """Raise if it is not open.

        Raises:
            SandboxError: It is not.
        """
        self._opened()

    async def start_worker(self) -> Worker:
        """A fresh interpreter's process, ready; for sessions."""
        return await self._opened().start_worker()

    async def end_worker(self, worker: Worker) -> None:
        """End such a process; for sessions."""
        if self._supply is None:
            worker.close()
        else:
            await self._supply.end_worker(worker)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the sandbox's own loop and return what it returns; for the synchronous face.

        Raises:
            SandboxError: The sandbox was not opened with `with`.
        """
        if self._thread is None:
            work.close()
            raise SandboxError("the sandbox has no thread of its own: open it with `with Sandbox(…)`, or await `run`")
        return self._thread.wait(work)

    def _opened(self) -> Supply:
        if self._supply is None:
            raise SandboxError("the sandbox is not open: use `async with Sandbox(…) as sandbox`")
        return self._supply


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


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
