"""Run a command as an ordinary container would, where the kernel's namespaces and mounts are refused.

    python tests/sandbox/without_namespaces.py python -m pytest tests/sandbox

As container engines do by default: a filter of system calls, and, for root, no CAP_SYS_ADMIN.
"""

import ctypes
import errno
import os
import sys

import pyseccomp

NEW_NAMESPACES = (0x02000000, 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
CAP_SYS_ADMIN, PR_CAPBSET_DROP = 21, 24
CLONE3 = 435


def refuse_namespaces() -> None:
    """Have the kernel answer EPERM, for this process and its children."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for call in ("unshare", "setns", "mount", "umount2", "pivot_root"):
        rules.add_rule(pyseccomp.ERRNO(errno.EPERM), call)
    for flag in NEW_NAMESPACES:
        rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), CLONE3)
    rules.load()


def drop_admin() -> None:
    """Give CAP_SYS_ADMIN up for good, as root."""
    if os.getuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "CAP_SYS_ADMIN stays")


if __name__ == "__main__":
    drop_admin()
    refuse_namespaces()
    os.execvp(sys.argv[1], sys.argv[1:])
