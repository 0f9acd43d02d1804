"""Which protections hold on this machine, found by attacking each: `python -m sandbox.doctor`."""

import asyncio
import sys
import warnings

from sandbox.errors import SandboxError
from sandbox.guarantees import NAMES, Check, check
from sandbox.limits import Limits
from sandbox.pool import Sandbox

LIMITS = Limits(seconds=1.0, memory_mb=128, processes=32, file_mb=8)

__all__ = ["Check", "diagnose"]


def diagnose() -> list[Check]:
    """Attack every guarantee in a sandbox of its own; takes some seconds.

    Raises:
        SandboxError: No sandbox can be started here at all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks say the same, and more
        return asyncio.run(_diagnose())


async def _diagnose() -> list[Check]:
    async with Sandbox(LIMITS) as sandbox:
        checks = [result for name in NAMES for result in await check(sandbox, name)]
        refused = "; ".join(f"{layer}: {reason}" for layer, reason in sandbox.refused.items())
        library = await _library(sandbox)
    return [*checks, library, Check("all layers", not refused, refused or "the machine grants every layer")]


async def _library(sandbox: Sandbox) -> Check:
    async with sandbox.session() as session:
        text = (await session.run("import sympy\nsympy.__version__")).text
    return Check("sympy in sessions", "Error" not in text, f"importing it gives {text.splitlines()[-1]!r}")


def main() -> None:
    """Print the table; the exit status is 0 unless the sandbox cannot run at all."""
    try:
        results = diagnose()
    except SandboxError as error:
        sys.exit(f"sandbox: {error}")
    for result in results:
        sys.stdout.write(f"{'holds' if result.holds else 'FAILS'}  {result.name:<28} {result.detail}\n")


if __name__ == "__main__":
    main()
