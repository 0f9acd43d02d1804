"""Starts the warm process, as a program of its own that has nothing of the caller's."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import IO

from sandbox.limits import Limits

# The package without its `__init__`: the warm process needs neither the pool nor asyncio's import before it can fork.
BOOT = """\
import sys, types
package = types.ModuleType("sandbox")
package.__path__ = [sys.argv[1]]
sys.modules["sandbox"] = package
from sandbox.zygote import main
main(int(sys.argv[2]), *sys.argv[3:])
"""

# All that the warm process, and so a session, ever has as its environment. One thread: arenas of more would use up the
# address space, and a process with threads cannot be forked safely.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PATH": os.defpath,
    "MALLOC_ARENA_MAX": "1",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
}


def launch(control: int, folder: str, errors: IO[bytes], limits: Limits) -> "subprocess.Popen[bytes]":
    """Start it.

    Args:
        control: The descriptor of its end of the control socket.
        folder: An empty folder, for those of the sessions.
        errors: Where it writes what went wrong.
        limits: Of every session.
    """
    arguments = [str(Path(__file__).parent), str(control), folder, json.dumps(asdict(limits))]
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-B", "-c", BOOT, *arguments],
        env=_environment(), cwd="/", pass_fds=[control], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """`ENVIRONMENT`, and where the loader finds the libraries of an interpreter that needs to be told."""
    return ENVIRONMENT | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def open_output() -> int:
    """A file in memory where there is one, to which every writer appends; the caller reads it even after a kill."""
    if sys.platform == "linux":
        fd = os.memfd_create("output")
    else:
        fd, name = tempfile.mkstemp()
        Path(name).unlink()
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd
