"""What separates a session from the machine: one small function a layer, each applied where the kernel allows it.

What is covered, on Linux:
* Time, memory, file size, open files, core dumps: for every user (time and file size on other systems too).
* The session dies with its parents, and what it started dies with it, daemons included.
* The environment and the open files of the caller: the warm process is a fresh program that never had them.
* New privileges: set-user-id programs gain nothing, capabilities are given up.
* With the right to make namespaces (root, or a kernel that lets users): no network, no System V shared
  memory or message queues of others; all files are read-only, but for a private, bounded, vanishing `/tmp`, `/var/tmp`
  and `/dev/shm`.
* As root, if others may read the interpreter's folders: a user of its own for each session, so that it can neither
  signal, read nor change what belongs to others, and the number of its processes is bounded.

What is not covered:
* Reading files: whatever the session's user may read; without a user of its own, all that the caller may.
* Without those rights: writing files wherever the session's user may.
* Without a user of its own: signals to other processes of the caller, `/proc/PID/environ` of those that hold no
  capabilities, the number of processes. The warm process can be killed; the caller sees that as a `SandboxError`.
* Abstract Unix sockets between sessions of one sandbox.
* Faults of the kernel: the session may make any system call.

It is a seat belt against what a model writes by mistake and a fence against the curious, not a wall against a
determined attacker: run it in a virtual machine or a container if the code may come from one.
"""

import ctypes
import functools
import itertools
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from sandbox.limits import Limits

MIB = 1 << 20

# From linux/prctl.h, linux/sched.h, linux/mount.h, linux/capability.h.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
CAPABILITY_VERSION_3 = 0x20080522

# Each session's user: above the numbers that systems, containers and directory services give out.
FIRST_USER = 2_000_000_000

# The worker may use this much more memory than the code, so that it can still answer when the code has used all of its.
HEADROOM = 32 * MIB

# Numbers that are the same on every architecture: the call is younger than their common table.
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1

PRIVATE_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
# Where a session may have its private folder: the first that hides nothing the interpreter needs. The path is part of
# what programs print, so it must be the same in every session.
WORK_FOLDERS = ("/tmp", "/var/tmp", "/mnt", "/media", "/srv")

Refusals = dict[str, str]


def prepare() -> Refusals:
    """Apply the layers that the warm process shares with its sessions.

    Returns:
        Layer → the kernel's reason, for each that this machine refuses.
    """
    layers: dict[str, Callable[[], None]] = {
        "orphans": adopt_orphans,
        "parent": functools.partial(die_with_parent, signal.SIGTERM),
        "machine": leave_machine,
    }
    return _refusals(layers)


def look_around() -> None:
    """Find out, in the warm process when it is warm, what every session would otherwise find out for itself."""
    closed_folder()
    work_folder()
    mapped_bytes()


def enter(limits: Limits, keep: Iterable[int], spare: Path) -> Refusals:
    """Apply the layers of one session, in its own process, before any of its code runs.

    Args:
        limits: What it may use.
        keep: The descriptors it needs; all others are closed.
        spare: Where to make a folder of its own to work in, for where none can be private.

    Returns:
        Layer → the kernel's reason, for each that this machine refuses.
    """
    close_descriptors(keep)
    os.setsid()
    spare.mkdir(mode=0o700)
    folder = Path(work_folder() or spare)
    refused = _refusals({"mounts": functools.partial(private_namespaces, CLONE_NEWNS | CLONE_NEWIPC)})
    if not refused:
        files: dict[str, Callable[[], None]] = {
            "read-only files": read_only_files,
            "private files": functools.partial(private_files, limits, folder),
        }
        refused |= _refusals(files)
    if not refused.keys().isdisjoint({"mounts", "private files"}):
        folder = spare
    clean_environment(folder)
    limit_resources(limits)
    layers: dict[str, Callable[[], None]] = {
        "user": functools.partial(drop_user, limits, folder),
        "capabilities": drop_capabilities,
        "new privileges": no_new_privileges,
        # Last but the folder: a change of user clears it.
        "parent": functools.partial(die_with_parent, signal.SIGKILL),
    }
    refused |= _refusals(layers)
    os.chdir(folder)
    return refused


def _refusals(layers: dict[str, Callable[[], None]]) -> Refusals:
    refused = {}
    for name, apply in layers.items():
        try:
            apply()
        except OSError as error:
            refused[name] = str(error)
    return refused


# ---------------------------------------------------------------- layers of the warm process
def adopt_orphans() -> None:
    """Become the parent of what a session leaves behind, daemons too, so that it can be found and ended."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def leave_machine() -> None:
    """Leave the machine's network, System V objects and mounts; as root directly, else in a user namespace."""
    wanted = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS
    try:
        private_namespaces(wanted)
    except PermissionError:
        user, group = os.getuid(), os.getgid()
        _unshare(CLONE_NEWUSER)
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        private_namespaces(wanted)


def private_namespaces(kinds: int) -> None:
    """Leave the namespaces of these `kinds`, mounts among them; what is mounted later stays in here."""
    _unshare(kinds)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)


@functools.cache
def closed_folder() -> str:
    """A folder of modules that other users cannot read, or empty."""
    folders = (path for path in sys.path if Path(path).exists())
    return next((path for path in folders if not others_may_read(Path(path))), "")


def others_may_read(path: Path) -> bool:
    """Whether any user may list `path`, by the mode bits of it and of the folders above it."""
    path = path.resolve()
    above = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    return above and bool(path.stat().st_mode & stat.S_IROTH)


@functools.cache
def work_folder() -> str | None:
    """The first of `WORK_FOLDERS` that can be private here, `None` if the interpreter needs them all."""
    return next((folder for folder in WORK_FOLDERS if Path(folder).is_dir() and not needed_below(folder)), None)


@functools.cache
def needed_below(folder: str) -> bool:
    """Whether the interpreter or a module lies where a private `folder` would hide it."""
    return any(path.is_relative_to(folder) for path in map(Path, (*sys.path, sys.executable)))


@functools.cache
def mapped_bytes() -> int:
    """The address space of the warm process, with which each session begins; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0


# ---------------------------------------------------------------- layers of a session
def close_descriptors(keep: Iterable[int]) -> None:
    """Close every descriptor but `keep`."""
    bounds = [-1, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for low, high in itertools.pairwise(bounds):
        if high > low + 1:  # `os.closerange(0, 0)` would close them all
            os.closerange(low + 1, high)


def read_only_files() -> None:
    """Make every file system read-only, in mounts of the session's own. Needs Linux 5.12."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    size = ctypes.sizeof(attributes)
    _checked(_libc().syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, ctypes.c_size_t(size)))


def private_files(limits: Limits, folder: Path) -> None:
    """Mount a bounded file system in memory on `folder`, gone when the session ends, and on what else is for all."""
    _mount("tmpfs", str(folder), "tmpfs", MS_NOSUID | MS_NODEV, f"size={limits.file_mb}m,mode=1777")
    for other in filter(os.path.isdir, PRIVATE_FOLDERS):
        if other != str(folder) and not needed_below(other):
            _mount(str(folder), other, None, MS_BIND)


def clean_environment(folder: Path) -> None:
    """Leave in `os.environ` what programs need to run alike everywhere."""
    os.environ.clear()
    os.environ.update(HOME=str(folder), TMPDIR=str(folder), PATH=os.defpath, LANG="C.UTF-8", TZ="UTC")


def limit_resources(limits: Limits) -> None:
    """Set the kernel's limits; memory counts from what the warm process had mapped already."""
    if mapped := mapped_bytes():
        set_limit(resource.RLIMIT_AS, mapped + limits.memory_mb * MIB + HEADROOM)
    set_limit(resource.RLIMIT_CORE, 0)
    set_limit(resource.RLIMIT_FSIZE, limits.file_mb * MIB)
    set_limit(resource.RLIMIT_NOFILE, limits.open_files)


def set_limit(which: int, value: int) -> None:
    """Set a resource limit for good, never above the one that is in force."""
    present = resource.getrlimit(which)[1]
    value = value if present == resource.RLIM_INFINITY else min(value, present)
    resource.setrlimit(which, (value, value))


def drop_user(limits: Limits, folder: Path) -> None:
    """As root, become a user that owns nothing else; its processes can then be counted and bounded.

    Raises:
        OSError: Not root, or the interpreter's folders are closed to other users, so that imports would fail.
    """
    _require_linux()
    if os.getuid() != 0:
        raise OSError("only root can give each session a user of its own")
    if closed := closed_folder():
        raise OSError(f"other users cannot read {closed}: install Python where they can, for example in /opt")
    user = FIRST_USER + os.getpid()
    if not folder.is_mount():
        os.chown(folder, user, user)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _prctl(PR_SET_DUMPABLE, 1)
    set_limit(resource.RLIMIT_NPROC, limits.processes)


def drop_capabilities() -> None:
    """Give up every capability, and those that root would regain by starting a program."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    # Without the capability to do so the set is left as it is; `no_new_privileges` then stands in for it.
    for capability in range(last + 1) if _effective_capabilities() else ():
        _prctl(PR_CAPBSET_DROP, capability)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    _checked(_libc().capset(header, (ctypes.c_uint32 * 6)()))


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("CapEff:")[1].split()[0], 16)


def no_new_privileges() -> None:
    """No program that the session starts may have more rights than it."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(ending: signal.Signals) -> None:
    """Have the kernel send `ending` to this process when its parent ends."""
    _prctl(PR_SET_PDEATHSIG, ending)


# ---------------------------------------------------------------- the C library
@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _prctl(option: int, value: int) -> None:
    _require_linux()
    _checked(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _unshare(flags: int) -> None:
    _require_linux()
    _checked(_libc().unshare(flags))


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [text if text is None else text.encode() for text in (source, target, kind)]
    _checked(_libc().mount(*words, ctypes.c_ulong(flags), options if options is None else options.encode()))


def _require_linux() -> None:
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no such protection")
