"""Nothing outlives what it belongs to, and a broken sandbox says so."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
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
    children = children_of(pid)
    return children + [below for child in children for below in descendants(child)]


def children_of(pid):
    """Process ids right below `pid`; none if it ended since it was listed."""
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for text in lists for child in text.split()]


def alive(pids):
    """Those of `pids` that run; a zombie does not."""
    states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [pid for pid, path in states.items() if path.exists() and state(path) not in "ZX"]


def state(path):
    try:
        return path.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it ended between the two looks
        return "X"


def started_with(word):
    """The processes below this one with `word` in their command."""
    return [pid for pid in descendants(os.getpid()) if word in command(pid).split("\0")]


def command(pid):
    """The command of a process, its words apart by NUL; empty if it ended since it was listed."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def soon(condition):
    """Whether `condition` comes true within three seconds."""
    until = time.monotonic() + 3
    while not (true := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return true


def test_a_killed_caller_leaves_no_process_and_no_file():
    # Of its own, since other sandboxes of the machine come and go; sessions with users of their own must pass through.
    folder = Path(tempfile.mkdtemp(prefix="caller-"))
    folder.chmod(0o711)
    code = CALLER.format(block=DAEMON.format(seconds=61))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(folder)},
    ) as caller:  # fmt: skip
        assert caller.stdout.readline() == b"ready\n"
        below = descendants(caller.pid)
        assert len(below) >= 3  # the warm process, the session, its daemon, sessions in stock
        caller.kill()
    assert soon(lambda: not alive(below))
    assert soon(lambda: not list(folder.iterdir()))
    folder.rmdir()


def test_a_session_takes_its_daemons_with_it(sandbox):
    with sandbox.session() as session:
        session.run_sync(DAEMON.format(seconds=62))
        assert soon(lambda: started_with("62"))
        made = started_with("62")
    assert soon(lambda: not alive(made))


def test_a_thread_that_goes_on_does_not_keep_a_session_alive(sandbox):
    began = time.perf_counter()
    with sandbox.session() as session:
        block = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nprint('back')"
        assert session.run_sync(block).text == "back"
    assert time.perf_counter() - began < 2


def warm_processes():
    """The warm processes of this test's sandboxes."""
    return [pid for pid in descendants(os.getpid()) if "zygote.main" in command(pid)]


def kill_warm_processes(before):
    for pid in set(warm_processes()) - before:
        with contextlib.suppress(ProcessLookupError):  # it went with one of the others
            os.kill(pid, signal.SIGKILL)


def test_a_dead_warm_process_is_replaced_and_no_block_is_lost():
    async def test():
        before = set(warm_processes())
        async with Sandbox(Limits(seconds=5), workers=2) as sandbox, sandbox.session() as session:
            await session.run("x = 20")
            await session.run("x += 1\n1 / 0")
            blocks = [asyncio.create_task(session.run("import time\ntime.sleep(0.5)\nx * 2"))]
            async with sandbox.session() as other, sandbox.session() as third:
                blocks += [asyncio.create_task(one.run("import time\ntime.sleep(0.5)\n42")) for one in (other, third)]
                await asyncio.sleep(0.2)
                kill_warm_processes(before)
                assert [result.text for result in await asyncio.gather(*blocks)] == ["42"] * 3
            kill_warm_processes(before)
            assert (await session.run("x")).text == "21"

    asyncio.run(test())


def test_a_warm_process_that_dies_again_and_again_is_an_error_and_not_an_observation():
    async def test():
        before = set(warm_processes())
        async with Sandbox(Limits(seconds=30)) as sandbox, sandbox.session() as session:
            block = asyncio.create_task(session.run("import time\ntime.sleep(20)"))
            while not block.done():
                await asyncio.sleep(0.2)
                kill_warm_processes(before)
            with pytest.raises(SandboxError, match=r"died 5 times within a minute.*sandbox\.doctor"):
                await block

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
