"""What sessions leave behind: memory while they are idle, and processes, descriptors and files when they are over."""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from sandbox import Sandbox

IN_FLIGHT = 16
PATIENCE = 10.0  # seconds that the system gets to take away what just ended
PLACES = ("/tmp", "/var/tmp", "/dev/shm")
PREFIX = "sandbox-"
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Held:
    """How much of each the caller has: processes under it, descriptors of its own, the sandbox's files and folders."""

    processes: int
    descriptors: int
    files: int

    @classmethod
    def now(cls, folders: set[Path]) -> "Held":
        contents = sum(1 + sum(1 for _ in folder.rglob("*")) for folder in folders)
        children = psutil.Process().children(recursive=True)
        return cls(len(children), len(os.listdir("/proc/self/fd")), contents)  # noqa: PTH208 - it lists, opening one

    def beyond(self, before: "Held") -> "Held":
        return Held(
            max(0, self.processes - before.processes),
            max(0, self.descriptors - before.descriptors),
            max(0, self.files - before.files),
        )


@dataclass(frozen=True)
class Soak:
    """Sessions after sessions in one sandbox.

    Args:
        sessions: How many.
        first_rate: Sessions per second in the first tenth.
        last_rate: In the last tenth.
        open: What the open sandbox held more after the soak than before it.
        closed: What there was more after the sandbox was closed than before it was opened.
        left_behind: The folders among them, by name.
        growth_mb: How much the processes of the open sandbox grew, caller not included (PSS, 10^6 bytes).
    """

    sessions: int
    first_rate: float
    last_rate: float
    open: Held
    closed: Held
    left_behind: tuple[str, ...]
    growth_mb: float | None


async def soak(sessions: int, say: Callable[[str], None]) -> Soak:
    """Run sessions of two blocks each, `IN_FLIGHT` at a time, and see what they leave.

    Start no other sandbox on the machine meanwhile: its folder would count as left behind.
    """
    adopt_orphans()
    foreign = sandbox_folders()
    outside = Held.now(set())
    async with Sandbox() as sandbox:
        await run_sessions(sandbox, 2 * IN_FLIGHT, say)
        await asyncio.sleep(1)
        own = sandbox_folders() - foreign
        fresh, fresh_mb = Held.now(own), descendants_mb()
        ended = await run_sessions(sandbox, sessions, say)
        left_open = await settled(lambda: Held.now({folder for folder in own if folder.exists()}).beyond(fresh))
        used_mb = descendants_mb()
    left = await settled(lambda: Held.now(sandbox_folders() - foreign).beyond(outside))
    tenth = sessions // 10
    # Neither the start, before any can be over, nor the end, when fewer and fewer are in flight, tells the rate.
    first, last = rate(ended[IN_FLIGHT:][: tenth + 1]), rate(ended[:-IN_FLIGHT][-tenth - 1 :])
    growth = None if used_mb is None or fresh_mb is None else used_mb - fresh_mb
    names = tuple(sorted(map(str, sandbox_folders() - foreign)))
    return Soak(sessions, first, last, left_open, left, names, growth)


async def run_sessions(sandbox: Sandbox, sessions: int, say: Callable[[str], None]) -> list[float]:
    """The time at which all began, then when each session was over."""
    ended = [time.perf_counter()]
    numbers = iter(range(1, sessions + 1))
    told = max(1000, sessions // 20)

    async def work() -> None:
        for number in numbers:
            async with sandbox.session() as session:
                await session.run("x = 6")
                result = await session.run("x * 7")
            if result.text != "42":
                raise RuntimeError(f"session {number} of the soak answered {result.status}: {result.text}")
            ended.append(time.perf_counter())
            if number % told == 0:
                say(f"soak: {number} of {sessions} sessions after {ended[-1] - ended[0]:.0f} s")

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return ended


def rate(ended: list[float]) -> float:
    """Sessions per second between the first and the last of these times."""
    return (len(ended) - 1) / (ended[-1] - ended[0])


async def settled(excess: Callable[[], Held]) -> Held:
    """What is left once nothing is, or after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while (left := excess()) != Held(0, 0, 0) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return left


def sandbox_folders() -> set[Path]:
    return {path for place in PLACES for path in Path(place).glob(f"{PREFIX}*")}


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none of them is overlooked.

    Raises:
        OSError: The system refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot become a subreaper: processes could leak unseen")


def descendants_mb() -> float | None:
    """Proportional set size of all descendants in 10^6 bytes; None where the system does not let us read it."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return None
    return total / 1e6


async def session_mb(sandbox: Sandbox, sessions: int, code: str = "None") -> float | None:
    """What one more session that waits for a block costs, after it has run `code`: PSS in 10^6 bytes."""
    await asyncio.sleep(1)
    before = descendants_mb()
    async with AsyncExitStack() as stack:
        for _ in range(sessions):
            session = await stack.enter_async_context(sandbox.session())
            await session.run(code)
        await asyncio.sleep(1)
        after = descendants_mb()
    return None if before is None or after is None else (after - before) / sessions
