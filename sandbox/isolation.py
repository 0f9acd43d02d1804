"""What separates a session from the machine: layers, each applied where the kernel and the privileges allow it.

The warm process calls `settle` once: it leaves the machine's namespaces, moves into a private root, and finds out by
trial which layers a session can have here. Each session then calls `enter`, which applies exactly those, or fails: what
held in the trial holds in every session. docs/sandbox.md says what follows from which layer.
"""

import functools
import itertools
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sandbox import filters, kernel, root
from sandbox.limits import Limits

MIB = 1 << 20

NAMESPACES = (
    kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
)  # fmt: skip

# Each session's user: above the numbers that systems and directory services give out; and the range for containers
# that know only the first 65,536 users.
FIRST_USER, USERS = 2_000_000_000, 100_000_000
FIRST_SMALL_USER, SMALL_USERS = 20_000, 40_000

# The worker may use this much more memory than the code, so that it can still answer when the code has used all of its.
HEADROOM = 32 * MIB

Refusals = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Grounds:
    """What the warm process has prepared for its sessions, and what it found.

    Args:
        folder: Where sessions that cannot have a private root get their folders.
        refused: Layer → the machine's reason, for each that cannot be had here.
        pid_namespace: A descriptor of the warm process's own, or None if sessions cannot have theirs.
        readable: What a session may read.
        landlock: The version of Landlock; 0 if there is none.
        program: The filter of system calls; empty if there is none.
        mapped: Bytes of address space with which each session begins.
    """

    folder: Path
    refused: Refusals = field(default_factory=dict)
    pid_namespace: int | None = None
    readable: tuple[str, ...] = ()
    landlock: int = 0
    program: bytes = b""
    mapped: int = 0

    def has(self, layer: str) -> bool:
        """Whether this machine grants a layer."""
        return layer not in self.refused


@dataclass(frozen=True)
class Place:
    """One session: its number, what it may use, and the folder that it works in."""

    number: int
    limits: Limits
    folder: Path


# ---------------------------------------------------------------- the warm process
def fix_addresses() -> None:
    """Start this program again with the same addresses each time, so that what prints one prints the same.

    Raises:
        OSError: The machine refuses to switch their randomisation off.
    """
    if not kernel.addresses_are_fixed():
        kernel.fix_addresses()
        os.execv(sys.executable, sys.orig_argv)


def leave_machine(refused: Refusals) -> int:
    """Leave the machine's namespaces, before anything is imported; goes on in a child, the first process of its own.

    Returns:
        0 in the process that goes on. Where there are namespaces it is a child, and this process, which gets its
        number, has only to wait for it: a process cannot itself enter a namespace of processes.
    """
    if _attempt(refused, "namespaces", _unshare_machine) is None:
        return 0
    return os.fork()


def settle(folder: Path, limits: Limits, refused: Refusals) -> Grounds:
    """Prepare the warm process, when all is imported, and find out what its sessions can have.

    Args:
        folder: An empty folder; gone afterwards if there is a private root.
        limits: For the trial.
        refused: What was refused before.

    Raises:
        OSError: A session could not work here at all.
    """
    if "namespaces" in refused:
        refused |= dict.fromkeys(("private root", "processes"), refused["namespaces"])
    # All that needs the machine's files, /proc among them, comes before these are left.
    grounds = Grounds(
        folder,
        refused,
        None if "processes" in refused else _attempt(refused, "processes", _own_pid_namespace),
        tuple(root.own_paths()),
        _attempt(refused, "Landlock", kernel.landlock_abi) or 0,
        _attempt(refused, "system calls", filters.compile_filter) or b"",
        mapped_bytes(),
    )
    if not grounds.has("processes"):
        _attempt(refused, "orphans", _adopt_orphans)
    if grounds.has("private root"):
        _attempt(refused, "private root", functools.partial(root.enter, str(folder), list(grounds.readable)))
    _attempt(refused, "own user", functools.partial(_check_user, grounds))
    _attempt(refused, "bounding set", kernel.drop_bounding_capabilities)
    _prepare_inheritance(grounds, limits)
    refused |= _trial(grounds, limits)
    return grounds


def _prepare_inheritance(grounds: Grounds, limits: Limits) -> None:
    """Apply to the warm process itself what does not hinder it: sessions have it from birth."""
    _attempt(grounds.refused, "hidden memory", functools.partial(kernel.prctl, kernel.PR_SET_DUMPABLE, 0))
    _attempt(grounds.refused, "new privileges", functools.partial(kernel.prctl, kernel.PR_SET_NO_NEW_PRIVS, 1))
    set_limit(resource.RLIMIT_CORE, 0)
    set_limit(resource.RLIMIT_FSIZE, limits.file_mb * MIB)
    if grounds.has("private root"):
        clean_environment(root.work_folder())


def _check_user(grounds: Grounds) -> None:
    """Find out whether sessions can be users of their own.

    Raises:
        OSError: Not root, or the interpreter's folders are closed to other users, so that imports would fail.
    """
    kernel.require_linux()
    if os.getuid() != 0:
        raise OSError("only root can give each session a user of its own")
    if closed := next((path for path in grounds.readable if not _others_may_read(grounds, path)), ""):
        raise OSError(f"other users cannot read {closed}: install Python where they can, for example in /opt")


def _attempt(refused: Refusals, layer: str, apply: Callable[[], T]) -> T | None:
    try:
        return apply()
    except OSError as error:
        refused[layer] = str(error)
        return None


def _own_pid_namespace() -> int:
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def _unshare_machine() -> bool:
    """New namespaces of every kind; as root directly, else below a user namespace."""
    try:
        kernel.unshare(NAMESPACES)
    except PermissionError:
        user, group = os.getuid(), os.getgid()
        kernel.unshare(kernel.CLONE_NEWUSER)
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        kernel.unshare(NAMESPACES)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.sethostname("sandbox")
    return True


def mapped_bytes() -> int:
    """The address space of this process; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0


def fork(grounds: Grounds) -> int:
    """`os.fork`, with the child the first process of a namespace of its own where there are any."""
    if grounds.pid_namespace is None:
        return os.fork()
    # Of our own children only the next one goes there: `setns` undoes what `unshare` began, and saves a second fork.
    kernel.unshare(kernel.CLONE_NEWPID)
    try:
        pid = os.fork()
    except OSError:
        kernel.setns(grounds.pid_namespace, kernel.CLONE_NEWPID)
        raise
    if pid != 0:
        kernel.setns(grounds.pid_namespace, kernel.CLONE_NEWPID)
    return pid


def _trial(grounds: Grounds, limits: Limits) -> Refusals:
    """Become a session in a child, and learn which of its layers this machine refuses."""
    reader, writer = os.pipe()
    pid = fork(grounds)
    if pid == 0:
        status = 1
        try:
            place = _arrive(grounds, limits, 0, {2, writer})
            for name, layer in LAYERS.items():
                if grounds.has(name):
                    _attempt(grounds.refused, name, functools.partial(layer, grounds, place))
            os.write(writer, json.dumps(grounds.refused).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    if not grounds.has("private root"):
        Path(grounds.folder, "0").rmdir()
    if not text:
        raise OSError("a session cannot be set up here: its folder or its limits were refused")
    return dict(json.loads(text))


# ---------------------------------------------------------------- a session
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
    place = _arrive(grounds, limits, number, keep)
    for name, layer in LAYERS.items():
        if grounds.has(name):
            layer(grounds, place)


def _arrive(grounds: Grounds, limits: Limits, number: int, keep: Iterable[int]) -> Place:
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
        clean_environment(str(folder))
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


def clean_environment(folder: str) -> None:
    """Leave in `os.environ` what programs need to run alike everywhere."""
    os.environ.clear()
    os.environ.update(HOME=folder, TMPDIR=folder, PATH=os.defpath, LANG="C.UTF-8", TZ="UTC")


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


def _adopt_orphans() -> None:
    """Become the parent of what a session leaves behind, daemons too, so that it can be found and ended."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def _others_may_read(grounds: Grounds, path: str) -> bool:
    """Whether any user may list `path`, by its mode and, but in the private root, those of the folders above it."""
    above = () if grounds.has("private root") else Path(path).resolve().parents
    return _mode_allows(path, stat.S_IROTH) and all(_mode_allows(str(folder), stat.S_IXOTH) for folder in above)


@functools.cache
def _mode_allows(path: str, bit: int) -> bool:
    return bool(Path(path).stat().st_mode & bit)


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
