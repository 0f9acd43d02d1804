"""What a session may see of the file system: the interpreter's own files, the system's programs, and a private folder.

With the right to mount, the warm process moves into a root that holds nothing else (`enter`), and each session mounts a
folder in memory there (`mount_work_folder`). Everywhere, Landlock allows the same paths and no others (`restrict`).
"""

import functools
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from sandbox import kernel
from sandbox.limits import Limits

# What programs are made of. Data of others may lie elsewhere in /usr.
SYSTEM_PATHS = (
    "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share/zoneinfo", "/bin",
    "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives",
)  # fmt: skip
PREFIX_PARTS = ("bin", "lib", "lib64", "pyvenv.cfg", "share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

# Folders that programs expect to be able to write to; in the private root they are one.
COMMON_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
# Where a session may have its private folder: the first that hides nothing the interpreter needs. The path is part of
# what programs print, so it must be the same in every session.
WORK_FOLDERS = ("/tmp", "/var/tmp", "/mnt", "/media", "/srv", "/work-folder")

# A file system in memory takes kernel memory for each file, however small.
FILES = 10_000

# From linux/landlock.h. Making devices is never allowed, nor are controls of them.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
MAKE_CHAR, MAKE_SOCK, MAKE_BLOCK, REFER = 1 << 6, 1 << 9, 1 << 11, 1 << 13
READING = EXECUTE | READ_FILE | READ_DIR
SINGLE_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
TCP, ABSTRACT_SOCKETS_AND_SIGNALS = 0b11, 0b11
# ABI → the accesses to files that it knows.
FILE_ACCESSES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NETWORK_ABI, SCOPE_ABI = 4, 6


def own_paths() -> list[str]:
    """The paths that the interpreter is made of, none below another: to be asked when all is imported."""
    found = {f"{prefix}/{part}" for prefix in _prefixes() for part in PREFIX_PARTS}
    found |= {*own_modules(), *SYSTEM_PATHS, *_libraries()}
    present = sorted(path for path in found if Path(path).exists())
    return [path for path in present if not _is_below(str(Path(path).parent), present)]


def own_modules() -> list[str]:
    """Where modules are imported from, without what an editable install adds: a user's folder may hold anything."""
    return [path for path in sys.path if _is_below(path, (*_prefixes(), *SYSTEM_PATHS))]


def _prefixes() -> set[str]:
    return {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}


def _libraries() -> set[str]:
    """The folders of the shared libraries in use, wherever a distribution puts them."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    files = (line.split(maxsplit=5)[5] for line in lines if line.count(" /") and ".so" in line)
    return {str(Path(file).parent) for file in files}


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


@functools.cache
def work_folder() -> str:
    """The first of `WORK_FOLDERS` below which nothing of the interpreter lies."""
    return next(folder for folder in WORK_FOLDERS if not needed_below(folder))


def needed_below(folder: str) -> bool:
    """Whether the interpreter or a module lies where a private `folder` would hide it."""
    return any(_is_below(path, [folder]) for path in (*sys.path, sys.prefix, sys.base_prefix, sys.executable))


# ---------------------------------------------------------------- the private root
def enter(folder: str, paths: list[str]) -> None:
    """Move this process, in a mount namespace of its own, into a root that holds `paths` only, all read-only.

    Args:
        folder: An empty folder to build it on; removed, since afterwards it cannot be reached.
        paths: Absolute paths; each keeps its name.
    """
    kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID, "size=1m,mode=755")
    for path in (*paths, *DEVICES):
        _show(path, folder)
    _add_common_folders(folder)
    Path(folder, "etc").mkdir(exist_ok=True)
    Path(folder, "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    old = Path(folder, "old")
    old.mkdir()
    kernel.pivot_root(folder, str(old))
    os.chdir("/")
    Path(f"/old{folder}").rmdir()
    kernel.umount("/old")
    Path("/old").rmdir()
    kernel.set_mount_attributes("/", kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID)


def _show(path: str, root: str) -> None:
    """Make `path` appear below `root`: a link as the link it is, all else as a mount."""
    source, target = Path(path), Path(root + path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() and _is_below(str(source.resolve()), SYSTEM_PATHS):
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    kernel.mount(path, str(target), None, kernel.MS_BIND | kernel.MS_REC)


def _add_common_folders(root: str) -> None:
    work = Path(root + work_folder())
    work.mkdir(parents=True, exist_ok=True)
    for folder in map(Path, COMMON_FOLDERS):
        link = Path(root + str(folder))
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(work_folder())


def mount_work_folder(limits: Limits) -> None:
    """Mount a bounded file system in memory on the session's folder; it vanishes with the session."""
    options = f"size={limits.file_mb}m,nr_inodes={FILES},mode=1777"
    kernel.mount("tmpfs", work_folder(), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)


# ---------------------------------------------------------------- Landlock
def restrict(abi: int, readable: Iterable[str], devices: Iterable[str], writable: str) -> None:
    """Allow this process and its children to read `readable`, to write below `writable`, and nothing else, for good.

    They may write to the files `devices`, too. There must be such files, or folders of nothing else.

    Where the kernel's Landlock knows how, TCP, abstract sockets of others and signals to others are forbidden too.
    """
    known = FILE_ACCESSES[max(version for version in FILE_ACCESSES if version <= abi)]
    network = TCP if abi >= NETWORK_ABI else 0
    scopes = ABSTRACT_SOCKETS_AND_SIGNALS if abi >= SCOPE_ABI else 0
    rules = kernel.landlock_create_ruleset(known, network, scopes)
    try:
        for path in readable:
            _allow(rules, path, READING)
        for path in filter(os.path.exists, devices):
            _allow(rules, path, known & (READ_FILE | WRITE_FILE | TRUNCATE))
        _allow(rules, writable, known & ~(MAKE_CHAR | MAKE_BLOCK | MAKE_SOCK | IOCTL_DEV))
        kernel.landlock_restrict_self(rules)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, accesses: int) -> None:
    kernel.landlock_allow(rules, path, accesses if Path(path).is_dir() else accesses & SINGLE_FILE)
