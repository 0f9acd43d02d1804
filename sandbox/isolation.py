"""What the warm process does so that its sessions can be separate from the machine.

It calls `leave_machine` first and `settle` when all is imported: it leaves the machine's namespaces, moves into a root
of its own, and finds out by a trial which layers a session can have here. `layers.enter` then applies exactly those in
each session, or fails: what held in the trial holds in every session. docs/sandbox.md says what follows from which.
"""

import functools
import json
import os
import resource
import stat
import sys
from pathlib import Path

from sandbox import filters, kernel, root
from sandbox.grounds import MIB, Grounds, Refusals, attempt
from sandbox.layers import LAYERS, arrive, name_folder, set_limit
from sandbox.limits import Limits

NAMESPACES = (
    kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
)  # fmt: skip


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
    if attempt(refused, "namespaces", _unshare_machine) is None:
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
        None if "processes" in refused else attempt(refused, "processes", _own_pid_namespace),
        tuple(root.own_paths()),
        attempt(refused, "Landlock", kernel.landlock_abi) or 0,
        attempt(refused, "system calls", filters.compile_filter) or b"",
        mapped_bytes(),
    )
    if not grounds.has("processes"):
        attempt(refused, "orphans", _adopt_orphans)
    if grounds.has("private root"):
        attempt(refused, "private root", functools.partial(root.enter, str(folder), list(grounds.readable)))
    attempt(refused, "own user", functools.partial(_check_user, grounds))
    attempt(refused, "bounding set", kernel.drop_bounding_capabilities)
    _prepare_inheritance(grounds, limits)
    refused |= _trial(grounds, limits)
    return grounds


def _prepare_inheritance(grounds: Grounds, limits: Limits) -> None:
    """Apply to the warm process itself what does not hinder it: sessions have it from birth."""
    attempt(grounds.refused, "hidden memory", functools.partial(kernel.prctl, kernel.PR_SET_DUMPABLE, 0))
    attempt(grounds.refused, "new privileges", functools.partial(kernel.prctl, kernel.PR_SET_NO_NEW_PRIVS, 1))
    set_limit(resource.RLIMIT_CORE, 0)
    set_limit(resource.RLIMIT_FSIZE, limits.file_mb * MIB)
    if grounds.has("private root"):
        name_folder(root.work_folder())


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
            place = arrive(grounds, limits, 0, {2, writer})
            for name, layer in LAYERS.items():
                if grounds.has(name):
                    attempt(grounds.refused, name, functools.partial(layer, grounds, place))
            os.write(writer, json.dumps(grounds.refused).encode())
            status = 0
        except OSError as error:
            os.write(2, f"a session's folder or limits are refused: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    if not grounds.has("private root"):
        Path(grounds.folder, "0").rmdir()
    if not text:
        raise OSError("a session cannot be set up here; its reason stands above")
    return dict(json.loads(text))


def _adopt_orphans() -> None:
    """Become the parent of what a session leaves behind, daemons too, so that it can be found and ended."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


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


def _others_may_read(grounds: Grounds, path: str) -> bool:
    """Whether any user may list `path`, by its mode and, but in the private root, those of the folders above it."""
    above = () if grounds.has("private root") else Path(path).resolve().parents
    return _mode_allows(path, stat.S_IROTH) and all(_mode_allows(str(folder), stat.S_IXOTH) for folder in above)


@functools.cache
def _mode_allows(path: str, bit: int) -> bool:
    return bool(Path(path).stat().st_mode & bit)
