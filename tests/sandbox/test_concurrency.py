"""Many sessions at once on one event loop, none waiting for another."""

import asyncio
import contextlib
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

from sandbox import Limits, Sandbox


def test_a_slow_session_does_not_delay_another(in_async_sandbox):
    async def test(sandbox):
        async with sandbox.session() as slow, sandbox.session() as quick:
            waiting = asyncio.create_task(slow.run("import time\ntime.sleep(0.5)"))
            began = time.perf_counter()
            for _ in range(5):
                assert (await quick.run("1 + 1")).text == "2"
            assert time.perf_counter() - began < 0.4
            assert not waiting.done()
            assert (await waiting).status == "ok"

    in_async_sandbox(test)


def test_many_sessions_keep_their_own_variables():
    async def one(sandbox, number):
        async with sandbox.session() as session:
            await session.run(f"x = {number}")
            return (await session.run("x")).text

    async def test():
        async with Sandbox(Limits(seconds=20)) as sandbox:
            return await asyncio.gather(*(one(sandbox, number) for number in range(64)))

    assert asyncio.run(test()) == [str(number) for number in range(64)]


def test_the_event_loop_is_never_blocked(in_async_sandbox):
    async def test(sandbox):
        longest, last, stop = 0.0, time.perf_counter(), asyncio.Event()

        async def watch():
            nonlocal longest, last
            while not stop.is_set():
                await asyncio.sleep(0.001)
                longest, last = max(longest, time.perf_counter() - last), time.perf_counter()

        watcher = asyncio.create_task(watch())
        async with sandbox.session() as session:
            await session.run("while True: pass")
            await session.run("print('x' * 8_000_000)")
        stop.set()
        await watcher
        assert longest < 0.2

    in_async_sandbox(test)


def test_blocks_of_one_session_wait_for_each_other(in_async_sandbox):
    async def test(sandbox):
        async with sandbox.session() as session:
            results = await asyncio.gather(session.run("x = 1"), session.run("x += 1"), session.run("x"))
            assert results[-1].text == "2"

    in_async_sandbox(test)


def test_a_cancelled_block_leaves_a_session_that_works(in_async_sandbox):
    async def test(sandbox):
        async with sandbox.session() as session:
            block = asyncio.create_task(session.run("import time\ntime.sleep(0.5)"))
            await asyncio.sleep(0.1)
            block.cancel()
            await asyncio.wait([block])
            assert block.cancelled()
            assert (await session.run("6 * 7")).text == "42"

    in_async_sandbox(test)


def test_sessions_take_no_process_before_their_first_block():
    async def test():
        async with Sandbox(Limits(seconds=20), workers=2) as sandbox, AsyncExitStack() as stack:
            before = processes_below(os.getpid())
            sessions = [await stack.enter_async_context(sandbox.session()) for _ in range(300)]
            assert processes_below(os.getpid()) == before
            results = await asyncio.gather(*(session.run(f"{n} * 2") for n, session in enumerate(sessions[:100])))
            assert [result.text for result in results] == [str(2 * n) for n in range(100)]

    asyncio.run(test())


def test_as_many_blocks_run_at_once_as_there_are_workers():
    async def one(sandbox):
        async with sandbox.session() as session:
            return (await session.run("import time\nbegan = time.time()\ntime.sleep(0.1)\nbegan, time.time()")).text

    async def test():
        async with Sandbox(Limits(seconds=20), workers=3) as sandbox:
            return await asyncio.gather(*(one(sandbox) for _ in range(9)))

    spans = [tuple(map(float, text.strip("()").split(","))) for text in asyncio.run(test())]
    running = [sum(began <= moment < ended for began, ended in spans) for moment, _ in spans]
    assert max(running) == 3


def processes_below(pid):
    """How many processes descend from `pid`."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it ended between the two looks
            children += map(int, task.read_text().split())
    return len(children) + sum(map(processes_below, children))
