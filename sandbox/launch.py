"""Starts the warm process, as a program of its own that has nothing of the caller's."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import IO

from sandbox.limits import Limits

# The package without its `__init__`: the warm process needs neither the pool nor asyncio's import before it can fork.
# What it is told comes over its control socket, its standard input: code in a session can read its command line.
BOOT = """\
import json, socket, sys, types
control = socket.socket(fileno=0)
start = json.loads(control.recv(65536, socket.MSG_PEEK))
package = types.ModuleType("sandbox")
package.__path__ = [start["package"]]
sys.modules["sandbox"] = package
from sandbox import warm, zygote
warm.hide_places()
zygote.main(control, start)
"""

# All that the warm process, and so a session and what it starts, ever has as its environment, but for the session's
# folder. One thread: arenas of more would use up the
# address space, and a process with threads cannot be forked safely.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PATH": os.defpath,
    "MALLOC_ARENA_MAX": "1",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
}


def launch(control: socket.socket, errors: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start it.

    Args:
        control: Its end of the control socket, on which `start_message` is to be sent first.
        errors: Where it writes what went wrong.
    """
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-B", "-c", BOOT],
        env=_environment(), cwd="/", start_new_session=True,
        stdin=control.fileno(), stdout=subprocess.DEVNULL, stderr=errors,
    )  # fmt: skip


def start_message(folder: str, limits: Limits) -> bytes:
    """The first message on the control socket, which says all that the warm process must know."""
    package = str(Path(__file__).parent)
    return json.dumps({"package": package, "folder": folder, "limits": asdict(limits)}).encode()


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
