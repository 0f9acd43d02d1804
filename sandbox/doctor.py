"""Which protections hold on this machine, found by trying each: `python -m sandbox.doctor`."""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sandbox.limits import Limits
from sandbox.pool import Sandbox

LIMITS = Limits(seconds=1.0, memory_mb=128, processes=32, file_mb=8)


@dataclass(frozen=True)
class Check:
    """One protection: what is tried, whether the sandbox held, and what happened."""

    name: str
    holds: bool
    detail: str


def diagnose() -> list[Check]:
    """Try every protection in sandboxes of its own; takes some seconds.

    Raises:
        SandboxError: No sandbox can be started here at all.
    """
    return asyncio.run(_diagnose())


async def _diagnose() -> list[Check]:
    tries: tuple[Callable[[Sandbox], Awaitable[Check]], ...] = (
        _polite_time, _hard_time, _memory, _output, _file_size, _environment, _other_memory, _reading, _writing,
        _network, _outliving, _processes, _signals,
    )  # fmt: skip
    async with Sandbox(LIMITS) as sandbox:
        checks = [await attempt(sandbox) for attempt in tries]
        refused = "; ".join(f"{layer}: {reason}" for layer, reason in sandbox.refused.items())
    return [*checks, Check("all layers", not refused, refused or "the kernel grants every layer")]


async def _says(sandbox: Sandbox, *blocks: str) -> str:
    """What the last of `blocks` shows, in a session of its own."""
    async with sandbox.session() as session:
        results = [await session.run(block) for block in blocks]
    return results[-1].text


async def _polite_time(sandbox: Sandbox) -> Check:
    text = await _says(sandbox, "x = 7", "while True: pass", "x")
    return Check("time, in Python code", text == "7", f"after an endless loop a variable reads {text!r}")


async def _hard_time(sandbox: Sandbox) -> Check:
    code = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"
    began = time.perf_counter()
    await _says(sandbox, code)
    seconds = time.perf_counter() - began
    return Check("time, in code that resists", seconds < LIMITS.seconds + 1, f"ended after {seconds:.1f} s")


async def _memory(sandbox: Sandbox) -> Check:
    text = await _says(sandbox, f"len(bytearray({2 * LIMITS.memory_mb} * 2**20))")
    return Check("memory", "MemoryError" in text, f"taking twice the limit gives {_last(text)!r}")


async def _output(sandbox: Sandbox) -> Check:
    text = await _says(sandbox, "print('x' * 10**6)")
    return Check("output", len(text) < LIMITS.output_chars + 100, f"of 1,000,000 characters {len(text):,} are kept")


async def _file_size(sandbox: Sandbox) -> Check:
    code = f"with open('big', 'wb') as file:\n    file.write(bytes({2 * LIMITS.file_mb} * 2**20))"
    text = await _says(sandbox, code)
    return Check("file size", "OSError" in text, f"writing twice the limit gives {_last(text)!r}")


async def _environment(sandbox: Sandbox) -> Check:
    code = f"len(open('/proc/{os.getpid()}/environ', 'rb').read())"
    text = await _says(sandbox, code)
    return Check("the caller's environment", not text.isdigit(), f"reading it gives {_last(text)!r}")


async def _other_memory(sandbox: Sandbox) -> Check:
    code = f"open('/proc/{os.getpid()}/mem', 'rb').close()\n'opened'"
    text = await _says(sandbox, code)
    return Check("the caller's memory", "opened" not in text, f"opening it gives {_last(text)!r}")


async def _reading(sandbox: Sandbox) -> Check:
    with tempfile.NamedTemporaryFile("w", dir=_own_folder()) as file:
        file.write(secret := secrets.token_hex(8))
        file.flush()
        text = await _says(sandbox, f"open({file.name!r}).read()")
    held = secret not in text
    return Check(
        "reading the caller's files", held, f"opening a private one gives {_last(text)!r}" if held else "it can"
    )


async def _writing(sandbox: Sandbox) -> Check:
    with tempfile.NamedTemporaryFile(dir=_own_folder()) as file:
        text = await _says(sandbox, f"with open({file.name!r}, 'a') as file:\n    file.write('x')\n'done'")
        held = Path(file.name).stat().st_size == 0
    return Check("writing the caller's files", held, f"appending to a private one gives {_last(text)!r}")


def _own_folder() -> Path:
    """A folder of the caller's that is no common temporary one."""
    return next(folder for folder in (Path.home(), Path.cwd(), Path("/tmp")) if os.access(folder, os.W_OK))


async def _network(sandbox: Sandbox) -> Check:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        text = await _says(sandbox, f"import socket\nsocket.create_connection({address}, 0.5).close()\n'connected'")
    return Check("network", "connected" not in text, f"connecting to this machine gives {_last(text)!r}")


async def _outliving(sandbox: Sandbox) -> Check:
    mark = f"1{secrets.randbelow(10**9):09}.5"
    await _says(sandbox, f"import subprocess\nsubprocess.Popen(['sleep', '{mark}'], start_new_session=True)")
    for _ in range(20):
        if not (left := _running_with(mark)):
            break
        await asyncio.sleep(0.05)
    return Check("outliving the session", not left, "a daemon lives on" if left else "a daemon ended with its session")


def _running_with(argument: str) -> list[Path]:
    """The folders in /proc of processes that were started with `argument`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if argument.encode() in words:
            found.append(path.parent)
    return found


async def _processes(sandbox: Sandbox) -> Check:
    code = (
        f"import os, time\nfor made in range({2 * LIMITS.processes}):\n"
        "    if os.fork() == 0:\n        time.sleep(9)\n        os._exit(0)\n'all made'"
    )
    text = await _says(sandbox, code)
    return Check("number of processes", "all made" not in text, f"making twice the limit gives {_last(text)!r}")


async def _signals(sandbox: Sandbox) -> Check:
    text = await _says(sandbox, f"import os\nos.kill({os.getpid()}, 0)\n'allowed'")
    return Check("signals to the caller", "allowed" not in text, f"sending one gives {_last(text)!r}")


def _last(text: str) -> str:
    return text.splitlines()[-1]


def main() -> None:
    """Print the table; the exit status is 0 unless the sandbox cannot run at all."""
    for check in diagnose():
        sys.stdout.write(f"{'holds' if check.holds else 'FAILS'}  {check.name:<28} {check.detail}\n")


if __name__ == "__main__":
    main()
