"""What a sandbox keeps code from, each guarantee tested by attacking it in a session of that sandbox."""

import asyncio
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandbox.errors import SandboxError
from sandbox.limits import Limits
from sandbox.session import Session


class Target(Protocol):
    """A sandbox, as far as an attack needs to know it."""

    limits: Limits

    def session(self) -> Session:
        """A new session."""
        ...


@dataclass(frozen=True)
class Check:
    """One attack: what is tried, whether the sandbox held, and what happened."""

    name: str
    holds: bool
    detail: str
    guarantee: str = ""


async def check(sandbox: Target, guarantee: str) -> list[Check]:
    """Try every attack on one guarantee, one of `NAMES`, in sessions of `sandbox`."""
    results = [await attack(sandbox) for attack in ATTACKS[guarantee]]
    return [Check(result.name, result.holds, result.detail, guarantee) for result in results]


def parse(names: str) -> list[str]:
    """The guarantees in a list with commas.

    Raises:
        ValueError: A name is not known.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in ATTACKS]:
        raise ValueError(
            f"Sandbox(require=…) does not know {', '.join(unknown)}: the guarantees are {', '.join(NAMES)}"
        )
    return wanted


async def demand(sandbox: Target, names: list[str]) -> None:
    """Attack these guarantees.

    Raises:
        SandboxError: One falls; says which, how, and what to do.
    """
    fallen = [result for name in names for result in await check(sandbox, name) if not result.holds]
    if fallen:
        reasons = "; ".join(f"{result.guarantee}: {result.name} ({result.detail})" for result in fallen)
        raise SandboxError(
            f"the sandbox cannot give what is required on this machine: {reasons}. "
            "`python -m sandbox.doctor` shows which layers are refused and why."
        )


# ---------------------------------------------------------------- the attacks
async def _says(sandbox: Target, *blocks: str) -> str:
    """What the last of `blocks` shows, in a session of its own."""
    async with sandbox.session() as session:
        results = [await session.run(block) for block in blocks]
    return results[-1].text


def _last(text: str) -> str:
    return text.splitlines()[-1]


async def _polite_time(sandbox: Target) -> Check:
    text = await _says(sandbox, "x = 7", "while True: pass", "x")
    return Check("time, in Python code", text == "7", f"after an endless loop a variable reads {text!r}")


async def _hard_time(sandbox: Target) -> Check:
    code = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"
    began = time.perf_counter()
    await _says(sandbox, code)
    seconds = time.perf_counter() - began
    return Check("time, in code that resists", seconds < sandbox.limits.seconds + 1, f"ended after {seconds:.1f} s")


async def _memory(sandbox: Target) -> Check:
    text = await _says(sandbox, f"len(bytearray({2 * sandbox.limits.memory_mb} * 2**20))")
    return Check("memory", "MemoryError" in text, f"taking twice the limit gives {_last(text)!r}")


async def _memory_together(sandbox: Target) -> Check:
    each = sandbox.limits.memory_mb // 2
    code = (
        "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n"
        f"        data = bytes({each} * 2**20)\n        time.sleep(9)\n        os._exit(0)\n"
        "time.sleep(0.5)\n'all ' + 'taken'"
    )
    text = await _says(sandbox, code)
    return Check("memory, of many processes", "all taken" not in text, f"four halves of it give {_last(text)!r}")


async def _output(sandbox: Target) -> Check:
    text = await _says(sandbox, "print('x' * 10**6)")
    return Check("output", len(text) < sandbox.limits.output_chars + 100, f"of 1,000,000 characters {len(text):,} stay")


async def _file_size(sandbox: Target) -> Check:
    code = (
        f"with open('big', 'wb') as file:\n    for _ in range({2 * sandbox.limits.file_mb}): file.write(bytes(2**20))"
    )
    text = await _says(sandbox, code)
    return Check("file size", "OSError" in text, f"writing twice the limit gives {_last(text)!r}")


async def _vanishing(sandbox: Target) -> Check:
    name = f"left-{secrets.token_hex(8)}"
    await _says(sandbox, f"open({name!r}, 'w').write('x')")
    text = await _says(sandbox, f"import os\nprint(any({name!r} in files for _, _, files in os.walk(os.getcwd())))")
    return Check("what a session wrote", text == "False", f"looking for it from the next gives {_last(text)!r}")


async def _reading(sandbox: Target) -> Check:
    with tempfile.NamedTemporaryFile("w") as file:
        Path(file.name).chmod(0o644)  # a user of its own would be kept from a private one only
        file.write(secret := secrets.token_hex(8))
        file.flush()
        text = await _says(sandbox, f"open({file.name!r}).read()")
    held = secret not in text
    detail = f"opening one that all may read gives {_last(text)!r}" if held else "it can"
    return Check("reading the caller's files", held, detail)


async def _writing(sandbox: Target) -> Check:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).chmod(0o666)
        text = await _says(sandbox, f"with open({file.name!r}, 'a') as file:\n    file.write('x')\n'done'")
        held = Path(file.name).stat().st_size == 0
    return Check("writing the caller's files", held, f"appending to one that all may write gives {_last(text)!r}")


async def _connecting(sandbox: Target) -> Check:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        text = await _says(sandbox, f"import socket\nsocket.create_connection({address}, 0.5).close()\n'connected'")
    return Check("connecting", "connected" not in text, f"connecting to this machine gives {_last(text)!r}")


async def _datagrams(sandbox: Target) -> Check:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        code = f"import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', {receiver.getsockname()})"
        text = await _says(sandbox, code)
        try:
            held = not receiver.recv(1)
        except BlockingIOError:
            held = True
    return Check("sending a datagram", held, f"to this machine gives {_last(text)!r}")


async def _abstract_sockets(sandbox: Target) -> Check:
    with socket.socket(socket.AF_UNIX) as server:
        name = f"\0{secrets.token_hex(8)}"
        server.bind(name)
        server.listen()
        text = await _says(sandbox, f"import socket\nsocket.socket(socket.AF_UNIX).connect({name!r})\n'connected'")
    return Check("a socket without a file", "connected" not in text, f"connecting gives {_last(text)!r}")


async def _environment(sandbox: Target) -> Check:
    code = f"len(open('/proc/{os.getpid()}/environ', 'rb').read())"
    text = await _says(sandbox, code)
    return Check("the caller's environment", not text.isdigit(), f"reading it gives {_last(text)!r}")


async def _other_memory(sandbox: Target) -> Check:
    code = f"open('/proc/{os.getpid()}/mem', 'rb').close()\n'opened'"
    text = await _says(sandbox, code)
    return Check("the caller's memory", "opened" not in text, f"opening it gives {_last(text)!r}")


async def _outliving(sandbox: Target) -> Check:
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


async def _processes(sandbox: Target) -> Check:
    # Where the kernel does not count them, the watch needs a moment.
    patience = min(1.0, sandbox.limits.seconds / 2)
    code = (
        f"import os, time\nfor made in range({2 * sandbox.limits.processes}):\n"
        f"    if os.fork() == 0:\n        time.sleep(9)\n        os._exit(0)\ntime.sleep({patience})\n'all ' + 'made'"
    )
    text = await _says(sandbox, code)
    return Check("number of processes", "all made" not in text, f"making twice the limit gives {_last(text)!r}")


async def _signals(sandbox: Target) -> Check:
    text = await _says(sandbox, f"import os\nos.kill({os.getpid()}, 0)\n'allowed'")
    return Check("signals to the caller", "allowed" not in text, f"sending one gives {_last(text)!r}")


# A call that the kernel grants an ordinary process answers otherwise than by these: not permitted, access denied, no
# such call. By name where the C library has it, else by a number that is the same everywhere.
KERNEL_CALLS = {
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "process_vm_readv": f"libc.process_vm_readv({os.getpid()}, None, 0, None, 0, 0)",
    "unshare": "libc.unshare(0x10000000)",
    "mount": "libc.mount(b'none', b'/', b'tmpfs', 0, None)",
    "setns": "libc.setns(-1, 0)",
    "personality": "libc.personality(0x0040000)",
    "io_uring_setup": "libc.syscall(425, 1, 0)",
    "pidfd_getfd": "libc.syscall(438, -1, -1, 0)",
    "open_tree": "libc.syscall(428, -1, 0, 0)",
    "shmget": "libc.shmget(0, 4096, 0o600)",
    "memfd_create": "libc.memfd_create(b'x', 0)",
}


async def _kernel(sandbox: Target) -> Check:
    calls = ", ".join(f"({name!r}, lambda: {call})" for name, call in KERNEL_CALLS.items())
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"' '.join(name for name, call in [{calls}] if call() >= 0 or ctypes.get_errno() not in (1, 13, 38)) or 'none'"
    )
    text = await _says(sandbox, code)
    return Check("system calls", text == "'none'", f"of {len(KERNEL_CALLS)} dangerous ones, granted: {_last(text)}")


ATTACKS: dict[str, tuple[Callable[[Target], Awaitable[Check]], ...]] = {
    "time": (_polite_time, _hard_time),
    "memory": (_memory, _memory_together),
    "output": (_output,),
    "filesystem": (_reading, _writing, _vanishing, _file_size),
    "network": (_connecting, _datagrams, _abstract_sockets),
    "environment": (_environment, _other_memory),
    "processes": (_outliving, _processes),
    "signals": (_signals,),
    "kernel": (_kernel,),
}
NAMES = tuple(ATTACKS)
