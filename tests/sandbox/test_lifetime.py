"""Nothing outlives what it belongs to, and a broken sandbox says so."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox import Limits, Sandbox, SandboxError

CALLER = """
import time
from sandbox import Sandbox
with Sandbox() as sandbox, sandbox.session() as session:
    session.run_sync({block!r})
    print("ready", flush=True)
    time.sleep(60)
"""
DAEMON = "import subprocess\nsubprocess.Popen(['sleep', '{seconds}'], start_new_session=True)"


def descendants(pid):
    """Process ids below `pid`."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def alive(pids):
    """Those of `pids` that run; a zombie does not."""
    states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [pid for pid, path in states.items() if path.exists() and state(path) not in "ZX"]


def state(path):
    try:
        return path.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it ended between the two looks
        return "X"


def soon(condition):
    """Whether `condition` comes true within three seconds."""
    until = time.monotonic() + 3
    while not (true := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return true


def test_a_killed_caller_leaves_no_process_and_no_file():
    folders = set(Path("/tmp").glob("sandbox-*"))
    code = CALLER.format(block=DAEMON.format(seconds=61))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as caller:
        assert caller.stdout.readline() == b"ready\n"
        below = descendants(caller.pid)
        assert len(below) == 3  # the warm process, the session, its daemon
        caller.kill()
    assert soon(lambda: not alive(below))
    assert soon(lambda: set(Path("/tmp").glob("sandbox-*")) <= folders)


def test_a_session_takes_its_daemons_with_it(sandbox):
    before = set(descendants(os.getpid()))
    with sandbox.session() as session:
        session.run_sync(DAEMON.format(seconds=62))
        made = set(descendants(os.getpid())) - before
        assert len(made) == 2
    assert soon(lambda: not alive(made))


def test_a_thread_that_goes_on_does_not_keep_a_session_alive(sandbox):
    began = time.perf_counter()
    with sandbox.session() as session:
        block = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nprint('back')"
        assert session.run_sync(block).text == "back"
    assert time.perf_counter() - began < 2


def test_a_dead_warm_process_is_an_error_and_not_an_observation():
    async def test():
        async with Sandbox(Limits(seconds=5)) as sandbox, sandbox.session() as session:
            (warm,) = [pid for pid in descendants(os.getpid()) if os.getpgid(pid) == pid and descendants(pid)]
            block = asyncio.create_task(session.run("import time\ntime.sleep(4)"))
            await asyncio.sleep(0.1)
            os.kill(warm, signal.SIGKILL)
            with pytest.raises(SandboxError, match="warm process ended"):
                await block
            with pytest.raises(SandboxError, match="warm process ended"):
                await session.run("1")
            with pytest.raises(SandboxError, match="warm process ended"):
                await sandbox.session().__aenter__()

    asyncio.run(test())


def test_what_is_not_open_says_how_to_open_it(sandbox):
    with pytest.raises(SandboxError, match="async with"):
        asyncio.run(Sandbox().session().run("1"))
    with pytest.raises(SandboxError, match="with Sandbox"):
        Sandbox().session().run_sync("1")


def test_the_synchronous_face_works_beside_a_running_loop():
    async def test():
        with Sandbox() as sandbox, sandbox.session() as session:
            return session.run_sync("6 * 7").text

    assert asyncio.run(test()) == "42"


def test_the_caller_is_not_imported_into_the_session(shown):
    assert (
        shown("import sys\n[m for m in sys.modules if m.partition('.')[0] in ('sandbox', 'torch', 'pytest')]") == "[]"
    )
