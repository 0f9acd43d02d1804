"""Run a command as on a machine that refuses some of what the sandbox uses.

    python tests/sandbox/without.py namespaces python -m pytest tests/sandbox
    python tests/sandbox/without.py namespaces,landlock,seccomp python -m sandbox.doctor

Without `namespaces` is what container engines make of a machine by default: a filter of system calls and, for root, no
CAP_SYS_ADMIN. Without `landlock` as well is such a container on a kernel before 5.13.
"""

import ctypes
import errno
import os
import sys

import pyseccomp

NEW_NAMESPACES = (0x02000000, 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
CAP_SYS_ADMIN, PR_CAPBSET_DROP, PR_SET_SECCOMP = 21, 24, 22
CLONE3, LANDLOCK_CREATE_RULESET = 435, 444


def refuse(what: list[str]) -> None:
    """Have the kernel refuse `what` to this process and its children."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    if "namespaces" in what:
        _drop_admin()
        for call in ("unshare", "setns", "mount", "umount2", "pivot_root"):
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), call)
        for flag in NEW_NAMESPACES:
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), CLONE3)
    if "landlock" in what:
        rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), LANDLOCK_CREATE_RULESET)
    if "seccomp" in what:
        rules.add_rule(pyseccomp.ERRNO(errno.EINVAL), "prctl", pyseccomp.Arg(0, pyseccomp.EQ, PR_SET_SECCOMP))
    rules.load()


def _drop_admin() -> None:
    if os.getuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "CAP_SYS_ADMIN stays")


if __name__ == "__main__":
    refuse(sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
