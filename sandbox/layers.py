"""The layers between a session and the machine, applied in the session's own process before any of its code runs."""

import itertools
import os
import resource
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox import filters, kernel, root
from sandbox.grounds import MIB, Grounds
from sandbox.limits import Limits

# Each session's user: above the numbers that systems and directory services give out; and the range for containers
# that know only the first 65,536 users.
FIRST_USER, USERS = 2_000_000_000, 100_000_000
FIRST_SMALL_USER, SMALL_USERS = 20_000, 40_000

# The worker may use this much more memory than the code, so that it can still answer when the code has used all of its.
HEADROOM = 32 * MIB


@dataclass(frozen=True)
class Place:
    """One session: its number, what it may use, and the folder that it works in."""

    number: int
    limits: Limits
    folder: Path


def enter(grounds: Grounds, limits: Limits, number: int, keep: Iterable[int]) -> None:
    """Become a session: apply what is granted, in the session's own process, before any of its code runs.

    Args:
        grounds: From `settle`.
        limits: What it may use.
        number: Which session this is; no other has it.
        keep: The descriptors it needs; all others are closed.

    Raises:
        OSError: A layer that held in the trial does not hold now.
    """
    place = arrive(grounds, limits, number, keep)
    for name, layer in LAYERS.items():
        if grounds.has(name):
            layer(grounds, place)


def arrive(grounds: Grounds, limits: Limits, number: int, keep: Iterable[int]) -> Place:
    """Close what is not needed, make the folder to work in, and take the limits that are not inherited."""
    close_descriptors(keep)
    os.setsid()
    if grounds.has("private root"):
        kernel.unshare(kernel.CLONE_NEWNS | (0 if grounds.program else kernel.CLONE_NEWIPC | kernel.CLONE_NEWNET))
        root.mount_work_folder(limits)
        folder = Path(root.work_folder())
    else:
        folder = grounds.folder / str(number)
        folder.mkdir(mode=0o700)
        name_folder(str(folder))
    os.chdir(folder)
    if grounds.mapped:
        set_limit(resource.RLIMIT_AS, grounds.mapped + limits.memory_mb * MIB + HEADROOM)
    set_limit(resource.RLIMIT_NOFILE, limits.open_files)
    return Place(number, limits, folder)


def close_descriptors(keep: Iterable[int]) -> None:
    """Close every descriptor but `keep`."""
    bounds = [-1, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for low, high in itertools.pairwise(bounds):
        if high > low + 1:  # `os.closerange(0, 0)` would close them all
            os.closerange(low + 1, high)


def name_folder(folder: str) -> None:
    """Add the folder to the environment, in which `launch.py` has put all else that a session gets."""
    os.environ.update(HOME=folder, TMPDIR=folder)


def set_limit(which: int, value: int) -> None:
    """Set a resource limit for good, never above the one that is in force."""
    present = resource.getrlimit(which)[1]
    value = value if present == resource.RLIM_INFINITY else min(value, present)
    resource.setrlimit(which, (value, value))


def _own_user(grounds: Grounds, place: Place) -> None:
    """Become a user that nobody else is and that owns nothing."""
    choices = (FIRST_USER + place.number % USERS, FIRST_SMALL_USER + place.number % SMALL_USERS)
    os.setgroups([])
    for user in choices:
        try:
            if not grounds.has("private root"):
                os.chown(place.folder, user, user)
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        except OSError:
            # A container that does not know so large a number.
            if user == choices[-1]:
                raise
        else:
            return


def _count_processes(grounds: Grounds, place: Place) -> None:
    """Bound the session's processes: by its own user, or by a user namespace, which counts on its own."""
    kernel.require_linux()
    if not grounds.has("own user"):
        kernel.unshare(kernel.CLONE_NEWUSER)
    set_limit(resource.RLIMIT_NPROC, place.limits.processes)


def _die_with_parent(grounds: Grounds, place: Place) -> None:
    # After the change of user, which would undo it. In a process namespace the kernel sees to it.
    if not grounds.has("processes"):
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def _drop_capabilities(grounds: Grounds, place: Place) -> None:
    kernel.drop_capabilities()


def _restrict_files(grounds: Grounds, place: Place) -> None:
    if grounds.landlock:
        private = grounds.has("private root")
        readable, devices = (("/",), ("/dev",)) if private else (grounds.readable, root.DEVICES)
        root.restrict(grounds.landlock, readable, devices, str(place.folder))


def _refuse_calls(grounds: Grounds, place: Place) -> None:
    if not grounds.program:
        return
    program = grounds.program
    own_user = grounds.has("own user")
    keep_metadata = not grounds.has("private root")
    signals_bounded = own_user or grounds.has("processes") or grounds.landlock >= root.SCOPE_ABI
    if keep_metadata or not signals_bounded:
        pid = None if signals_bounded else os.getpid()
        program = filters.compile_filter(keep_metadata=keep_metadata, only_signals_to=pid)
    kernel.load_filter(program)


# In the order in which they can be applied: each may take away what an earlier one needs.
LAYERS: dict[str, Callable[[Grounds, Place], None]] = {
    "own user": _own_user,
    "number of processes": _count_processes,
    "capabilities": _drop_capabilities,
    "parent": _die_with_parent,
    "Landlock": _restrict_files,
    "system calls": _refuse_calls,
}
