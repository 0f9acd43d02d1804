"""The system calls that sessions are refused, compiled by libseccomp into a program for the kernel.

libseccomp (through `pyseccomp`) knows the numbers of each architecture and refuses foreign entries (32-bit, x32). What
is refused: all that enters the kernel where a session has no business (its own policy, modules, keys, tracing, other
processes' memory, mounts, namespaces, clocks), sockets but connected pairs, memory that no limit counts, and io_uring,
which does what it is asked past any filter.
"""

import errno
import os
import struct
from typing import Any

# By number where it is the same everywhere, so that an older libseccomp need not know the name.
REFUSED: tuple[str | int, ...] = (
    # tracing and other processes' memory, descriptors and scheduling
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "move_pages", "migrate_pages", "setpriority",
    "ioprio_set", "sched_setscheduler", "sched_setparam", "sched_setattr", "perf_event_open",
    438, 440, 448,  # pidfd_getfd, process_madvise, process_mrelease
    # namespaces and mounts
    "unshare", "setns", "mount", "umount2", "pivot_root", "chroot",
    428, 429, 430, 431, 432, 433, 442,  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
    457, 458, 467,  # statmount, listmount, open_tree_attr
    "open_by_handle_at", "name_to_handle_at", "fanotify_init", "quotactl", 443,  # quotactl_fd
    # the kernel itself
    "bpf", "userfaultfd", "keyctl", "add_key", "request_key", "kexec_load", "kexec_file_load", "init_module",
    "finit_module", "delete_module", "reboot", "swapon", "swapoff", "acct", "syslog", "personality", "vhangup",
    "lookup_dcookie", "nfsservctl", "sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime",
    "adjtimex", "iopl", "ioperm", "modify_ldt",
    425, 426, 427,  # io_uring_setup, io_uring_enter, io_uring_register
    # sockets: pairs are connected from birth
    "socket", "connect", "bind", "listen", "accept", "accept4",
    # memory that no limit counts, and what sessions could meet in
    "shmget", "shmat", "shmctl", "semget", "semop", "semctl", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open",
    "mq_unlink", "memfd_create", 447,  # memfd_secret
)  # fmt: skip

# What Landlock leaves to the owner of a file, wherever it lies.
METADATA: tuple[str | int, ...] = (
    "chmod", "fchmod", "fchmodat", 452,  # fchmodat2
    "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat", "utimensat",
    "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr",
    463, 466, 469,  # setxattrat, removexattrat, file_setattr
)  # fmt: skip
SIGNALS: tuple[str, ...] = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")

CLONE3, PIDFD_SEND_SIGNAL = 435, 424
CLONE_PARENT, NEW_NAMESPACES = 0x8000, (0x02000000, 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
AF_UNIX, SOCK_TYPE, SOCK_DGRAM, SOCK_RAW = 1, 0xF, 2, 3
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_PTRACER = 1, 4, 0x59616D61
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
LAST_CALL = 469  # that was looked at: file_setattr, Linux 6.17
CTL_OPTIMIZE, BINARY_TREE = 8, 2  # from seccomp.h, since libseccomp 2.5; the kernel takes it in half the time
INTEGER = 0xFFFFFFFF  # the kernel reads 32 bits of such an argument


def compile_filter(*, keep_metadata: bool = False, only_signals_to: int | None = None) -> bytes:
    """The program that refuses them with EPERM.

    Args:
        keep_metadata: Refuse changes of modes, owners and times too, where nothing else keeps a session from changing
            those of files outside.
        only_signals_to: A process id, where nothing else keeps a session from signalling others: signals may then go
            to it alone.

    Raises:
        OSError: libseccomp is not installed.
    """
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        raise OSError(f"libseccomp cannot be loaded ({error}): install pyseccomp and libseccomp2") from error
    rules = _Rules(pyseccomp)
    for call in REFUSED:
        rules.refuse(call)
    _refuse_by_argument(rules)
    for call in METADATA if keep_metadata else ():
        rules.refuse(call)
    if only_signals_to is not None:
        for call in SIGNALS:
            rules.refuse(call, (0, pyseccomp.NE, only_signals_to))
        rules.refuse(PIDFD_SEND_SIGNAL)
    return rules.program()


def refuse_above(last: int) -> bytes:
    """The beginning of a program: there are no calls with a greater number, whatever a newer kernel offers."""
    # Load the call's number; if it is greater, answer "no such call". Each: code, two jumps, operand.
    instructions = ((0x20, 0, 0, 0), (0x25, 0, 1, last), (0x06, 0, 0, 0x0005_0000 | errno.ENOSYS))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _refuse_by_argument(rules: "_Rules") -> None:
    library = rules.library
    # The flags of clone3 lie in memory, where a filter cannot look; "no such call" makes the C library take clone.
    rules.refuse(CLONE3, number=errno.ENOSYS)
    for flag in (*NEW_NAMESPACES, CLONE_PARENT):
        rules.refuse("clone", (0, library.MASKED_EQ, flag, flag))
    rules.refuse("socketpair", (0, library.NE, AF_UNIX))
    # A datagram names its receiver, connected or not.
    for kind in (SOCK_DGRAM, SOCK_RAW):
        rules.refuse("socketpair", (1, library.MASKED_EQ, SOCK_TYPE, kind))
    for option in (PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_PTRACER):
        rules.refuse("prctl", (0, library.MASKED_EQ, INTEGER, option))
    for command in (F_SETOWN, F_SETSIG, F_SETOWN_EX):
        rules.refuse("fcntl", (1, library.MASKED_EQ, INTEGER, command))
    for request in (TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP):
        rules.refuse("ioctl", (1, library.MASKED_EQ, INTEGER, request))
    for call in ("prlimit64", "sched_setaffinity"):
        rules.refuse(call, (0, library.NE, 0))


class _Rules:
    def __init__(self, library: Any) -> None:
        self.library = library
        self._filter = library.SyscallFilter(library.ALLOW)
        self._filter.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)
        self._filter.set_attr(CTL_OPTIMIZE, BINARY_TREE)

    def refuse(self, call: str | int, *conditions: tuple[int, ...], number: int = errno.EPERM) -> None:
        """Answer `call` with an error, if all conditions on its arguments hold."""
        arguments = [self.library.Arg(*condition) for condition in conditions]
        known: int = call if isinstance(call, int) else self._number(call)
        if known >= 0:  # else this architecture has no such call
            self._filter.add_rule(self.library.ERRNO(number), known, *arguments)

    def _number(self, name: str) -> int:
        return int(self.library.resolve_syscall(self.library.system_arch(), name))

    def program(self) -> bytes:
        with os.fdopen(os.memfd_create("program"), "w+b") as file:
            self._filter.export_bpf(file)
            file.seek(0)
            return refuse_above(LAST_CALL) + file.read()
