"""Interpreters for sessions: a warm process that is replaced if it dies, and a few workers forked ahead of demand."""

import asyncio
import contextlib
import time
from collections import deque
from typing import Self

from sandbox.errors import LostInterpreter, SandboxError
from sandbox.limits import Limits
from sandbox.remote import WarmProcess, Worker

# A warm process that dies more often than this within a minute is a fault of the machine.
DEATHS = 5
MINUTE = 60.0


class Supply:
    """Starts and ends the workers of one sandbox. Belongs to one event loop.

    Args:
        warm: The running warm process.
        limits: Of every session.
        ahead: How many workers to keep ready.
    """

    def __init__(self, warm: WarmProcess, limits: Limits, ahead: int) -> None:
        self._warm = warm
        self._limits = limits
        self._ahead = ahead
        self._stock: deque[Worker] = deque()
        self._refilling: asyncio.Task[None] | None = None
        self._replacing = asyncio.Lock()
        self._deaths: deque[float] = deque(maxlen=DEATHS)

    @classmethod
    async def open(cls, limits: Limits, ahead: int) -> Self:
        """Start the warm process.

        Raises:
            SandboxError: It did not come up.
        """
        return cls(await WarmProcess.start(limits), limits, ahead)

    @property
    def refused(self) -> dict[str, str]:
        """Layer of protection → why this machine refuses it."""
        return self._warm.refused

    async def start_worker(self) -> Worker:
        """A fresh interpreter's process, ready.

        Raises:
            SandboxError: The machine does not give one, or the warm process dies again and again.
        """
        try:
            while self._stock:
                worker = self._stock.popleft()
                if not worker.ended.done():
                    return worker
                worker.close()
            return await self._fork()
        finally:
            if self._refilling is None or self._refilling.done():
                self._refilling = asyncio.create_task(self._refill())

    async def end_worker(self, worker: Worker) -> None:
        """Kill a worker and wait until it is gone."""
        await worker.home.end_worker(worker)

    async def close(self) -> None:
        """End all workers and the warm process."""
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.wait([self._refilling])
        for worker in self._stock:
            worker.close()
        await self._warm.close()

    async def _fork(self) -> Worker:
        while True:
            warm = await self._living()
            with contextlib.suppress(LostInterpreter):
                return await warm.start_worker()

    async def _refill(self) -> None:
        # What goes wrong here goes wrong again for whoever asks next, who can be told.
        with contextlib.suppress(SandboxError):
            while len(self._stock) < self._ahead:
                self._stock.append(await self._fork())

    async def _living(self) -> WarmProcess:
        """The warm process, a new one if it died."""
        async with self._replacing:
            while self._warm.problem is not None:
                self._count_death(self._warm.problem)
                await self._warm.close()
                try:
                    self._warm = await WarmProcess.start(self._limits)
                except SandboxError as error:
                    self._warm.problem = str(error)
            return self._warm

    def _count_death(self, how: str) -> None:
        self._deaths.append(time.monotonic())
        if len(self._deaths) == DEATHS and self._deaths[-1] - self._deaths[0] < MINUTE:
            raise SandboxError(
                f"the sandbox's warm process died {DEATHS} times within a minute; last it {how}. "
                "`python -m sandbox.doctor` shows what works on this machine."
            )
