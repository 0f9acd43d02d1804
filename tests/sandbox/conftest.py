"""A sandbox that the tests share; each test has a session of its own."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from sandbox import Limits, Sandbox, Session

LIMITS = Limits(seconds=0.6, memory_mb=128, output_chars=200, file_mb=8)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as sandbox:
        yield sandbox


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[Session]:
    with sandbox.session() as session:
        yield session


@pytest.fixture
def shown(session: Session) -> Callable[..., str]:
    """Runs blocks one after the other and returns what the policy is shown of the last."""

    def run(*blocks: str) -> str:
        return [session.run_sync(block).text for block in blocks][-1]

    return run


@pytest.fixture
def in_async_sandbox() -> Callable[[Callable[[Sandbox], Coroutine[Any, Any, None]]], None]:
    """Runs a test's coroutine on an event loop, with a sandbox opened there."""

    async def opened(test: Callable[[Sandbox], Coroutine[Any, Any, None]]) -> None:
        async with Sandbox(LIMITS) as sandbox:
            await test(sandbox)

    return lambda test: asyncio.run(opened(test))
