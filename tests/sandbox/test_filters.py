"""The program for the kernel, tried in a process of its own."""

import errno
import os
import struct
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters system calls")

PIDFD_OPEN = 434  # on every architecture
ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF_0000)


def error_of_a_call_under(program):
    """The error of a harmless call in a child that is held to `program`."""
    from sandbox import kernel

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.load_filter(program)
        import ctypes

        failed = kernel.libc().syscall(PIDFD_OPEN, os.getpid(), 0) < 0
        os.write(writer, bytes([ctypes.get_errno() if failed else 0]))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        error = answer.read()[0]
    os.waitpid(pid, 0)
    return error


def test_calls_that_nobody_has_looked_at_are_not_there():
    from sandbox.filters import LAST_CALL, refuse_above

    assert error_of_a_call_under(refuse_above(PIDFD_OPEN - 1) + ALLOW_ALL) == errno.ENOSYS
    assert error_of_a_call_under(refuse_above(PIDFD_OPEN) + ALLOW_ALL) == 0
    assert LAST_CALL > PIDFD_OPEN


def test_the_program_begins_with_it():
    from sandbox.filters import LAST_CALL, compile_filter, refuse_above

    assert compile_filter().startswith(refuse_above(LAST_CALL))
