"""Run untrusted Python: fast, stateful, isolated.

    async with Sandbox(Limits(seconds=2)) as sandbox:
        async with sandbox.session() as session:
            await session.run("x = 6")
            result = await session.run("x * 7")  # result.status == "ok", result.text == "42"

In a script without an event loop, `with` and `run_sync` do the same. docs/sandbox.md says what is protected and what is
not; `python -m sandbox.doctor` tries it on this machine.
"""

from sandbox.errors import SandboxError
from sandbox.limits import Limits
from sandbox.pool import Sandbox
from sandbox.result import ExecutionResult, Status
from sandbox.session import Session

__all__ = ["ExecutionResult", "Limits", "Sandbox", "SandboxError", "Session", "Status"]
