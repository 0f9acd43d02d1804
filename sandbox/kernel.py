"""The system calls that no library offers, by their names in Linux's manual. Each raises `OSError` when refused.

`python-prctl` needs a compiler, `os.unshare` and `os.setns` Python 3.12, and the `landlock` package lacks the newer
rights; seccomp is left to libseccomp (`filters.py`). Numbers of calls above 423 are the same on every architecture.
"""

import ctypes
import errno
import functools
import os
import sys

# From linux/prctl.h, linux/sched.h, linux/mount.h, linux/capability.h, linux/personality.h, linux/landlock.h.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
SECCOMP_MODE_FILTER = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x04000000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
CAPABILITY_VERSION_3, MOST_CAPABILITIES = 0x20080522, 64
ADDR_NO_RANDOMIZE, ASK_PERSONALITY = 0x0040000, 0xFFFFFFFF
CAPABILITY_HEADER, NO_CAPABILITIES = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
MADV_COLLAPSE, HUGE_PAGE = 25, 1 << 21
SYS_MOUNT_SETATTR, SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 442, 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH = 1, 1


def require_linux() -> None:
    """Raise where there is no Linux."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no such protection")


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library of this process."""
    require_linux()
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int) -> None:
    """Change a property of this process."""
    _checked(libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` name, for new ones."""
    _checked(libc().unshare(flags))


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace of this `kind` that a file in `/proc/PID/ns` stands for."""
    _checked(libc().setns(descriptor, kind))


def sethostname(name: str) -> None:
    """Name this machine, in the present UTS namespace."""
    _checked(libc().sethostname(name.encode(), ctypes.c_size_t(len(name))))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount a file system, or change how a mount spreads."""
    words = [text if text is None else text.encode() for text in (source, target, kind)]
    _checked(libc().mount(*words, ctypes.c_ulong(flags), options if options is None else options.encode()))


def umount(target: str) -> None:
    """Take a mount and all below it away; what is in use goes with its last user."""
    _checked(libc().umount2(target.encode(), MNT_DETACH))


def set_mount_attributes(path: str, attributes: int) -> None:
    """Add MOUNT_ATTR flags to the mount at `path` and to all below it. Needs Linux 5.12."""
    given = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(given))
    _checked(libc().syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), AT_RECURSIVE, given, size))


def pivot_root(root: str, old: str) -> None:
    """Make the mount at `root` the root of this mount namespace, and put the former one at `old`."""
    # Not in the C library, and older than the common numbers.
    number = {"x86_64": 155, "aarch64": 41}.get(os.uname().machine)
    if number is None:
        raise OSError(f"the number of pivot_root is not known for {os.uname().machine}")
    _checked(libc().syscall(number, root.encode(), old.encode()))


def drop_bounding_capabilities() -> None:
    """Keep every program that is started from here from gaining any capability."""
    for capability in range(MOST_CAPABILITIES):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # this kernel has no more
                return
            raise


def drop_capabilities() -> None:
    """Give up every capability that this process has."""
    _checked(libc().capset(CAPABILITY_HEADER, NO_CAPABILITIES))


def collapse_heap() -> None:
    """Put this process's heap into huge pages as far as it fills them: a fork then copies far fewer entries.

    Raises:
        OSError: The kernel, before Linux 6.1, cannot, or its administrator forbids huge pages.
    """
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - of this very process
        lines = [line.split() for line in maps]
    anonymous = [words for words in lines if words[1] == "rw-p" and (len(words) == 5 or words[5] == "[heap]")]
    for words in anonymous:
        first, last = (int(address, 16) for address in words[0].split("-"))
        start, end = -(-first // HUGE_PAGE) * HUGE_PAGE, last // HUGE_PAGE * HUGE_PAGE
        if end > start and libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_COLLAPSE) != 0:
            number = ctypes.get_errno()
            if number != errno.EINVAL:  # a part that was reserved and never used
                raise OSError(number, os.strerror(number))


def addresses_are_fixed() -> bool:
    """Whether programs started from here get the same addresses each time."""
    return bool(_checked(libc().personality(ctypes.c_ulong(ASK_PERSONALITY))) & ADDR_NO_RANDOMIZE)


def fix_addresses() -> None:
    """Have the programs started from here get the same addresses each time."""
    _checked(libc().personality(ctypes.c_ulong(ADDR_NO_RANDOMIZE)))


def load_filter(program: bytes) -> None:
    """Have each system call of this process and its children pass a BPF program; for good."""

    class Program(ctypes.Structure):
        _fields_ = (("instructions", ctypes.c_ushort), ("code", ctypes.c_char_p))

    loaded = Program(len(program) // 8, program)
    _checked(libc().prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0))


def landlock_abi() -> int:
    """The version of Landlock, from 1 on."""
    return _checked(
        libc().syscall(SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION)
    )


def landlock_create_ruleset(files: int, network: int, scopes: int) -> int:
    """A descriptor of a set of rules that forbids these accesses but where a rule allows them."""
    wanted = (files, network, scopes)
    # Older kernels know a shorter structure and refuse what they do not know.
    known = wanted[: max((i + 1 for i, value in enumerate(wanted) if value), default=1)]
    attributes = (ctypes.c_uint64 * len(known))(*known)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    return _checked(libc().syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, size, 0))


def landlock_allow(ruleset: int, path: str, accesses: int) -> None:
    """Allow these accesses to the file `path`, or to all below it."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = accesses.to_bytes(8, sys.byteorder) + descriptor.to_bytes(4, sys.byteorder)
        _checked(libc().syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def landlock_restrict_self(ruleset: int) -> None:
    """Hold this process and its children to the rules; for good."""
    _checked(libc().syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0))
