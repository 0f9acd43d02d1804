"""A session that has more than one process: no resource limit counts their memory together, nor always their number."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox.limits import Limits

# A block that is over sooner is not looked at.
INTERVAL_SECONDS = 0.1


class FamilyWatch:
    """Looks at a session's processes now and then, from outside, and acts when there are too many or take too much.

    Each counts with what it has beyond the warm process, from which it may be forked; a smaller one, which must be
    another program, with all its memory.

    Args:
        pid: The session's first process.
        mapped: The address space, in bytes, with which a session begins.
        limits: What the session may use.
    """

    def __init__(self, pid: int, mapped: int, limits: Limits) -> None:
        self._pid = pid
        self._mapped = mapped
        self._private = _sizes(pid)[1]
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self.exceeded = ""

    def start(self, act: Callable[[], None]) -> None:
        """Look until `stop`; call `act`, and look no more, if there are too many or they take too much."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._look, act)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop_if_alone(self) -> None:
        """Look no more, unless the code left processes that go on."""
        if not any(_children(self._pid)):
            self.stop()

    def _look(self, act: Callable[[], None]) -> None:
        self.exceeded = self._excess()
        if self.exceeded:
            act()
        else:
            self.start(act)

    def _excess(self) -> str:
        """Which limit the processes pass together; empty if none, or if there is only one, which has its own limits."""
        family = list(_family(self._pid))
        if len(family) == 1:
            return ""
        if len(family) > self._limits.processes:
            return "processes"
        return "memory" if sum(map(self._taken, family)) > self._limits.memory_mb << 20 else ""

    def _taken(self, pid: int) -> int:
        """Bytes that a process takes by itself."""
        space, private = _sizes(pid)
        if space < self._mapped:
            return private
        return max(space - self._mapped, private - self._private)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _children(pid: int) -> Iterator[int]:
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - runs often
            yield from map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except OSError:  # it ended, or there is no /proc
        return


def _sizes(pid: int) -> tuple[int, int]:
    """The address space of a process and its memory without files, in bytes; 0 if it ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.strip()}
    return int(fields.get("VmSize", 0)) << 10, int(fields.get("RssAnon", 0)) << 10
