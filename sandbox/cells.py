"""Executes blocks as a notebook would its cells."""

import ast
import inspect
import linecache
import os
import random
import resource
import signal
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandbox import layers
from sandbox.channel import Message
from sandbox.describe import Describer
from sandbox.limits import Limits
from sandbox.result import timeout_text
from sandbox.streams import Streams

# A stop that the code swallowed comes again after this many seconds.
STOP_AGAIN = 0.1


class BlockTimeout(BaseException):
    """Raised in the code by the clock; no Exception, so that the code's `except` rarely meets it."""


class Cells:
    """The state of a session: its variables, and the blocks so far."""

    def __init__(self, limits: Limits, output: int) -> None:
        self._limits = limits
        self._streams = Streams(output)
        self._pid = os.getpid()
        self._running = False
        self._count = 0
        self._describer = Describer(limits.output_chars)
        self._module = types.ModuleType("__main__")
        sys.modules["__main__"] = self._module
        sys.argv, sys.orig_argv = [""], [sys.executable]
        signal.signal(signal.SIGALRM, self._strike)
        signal.signal(signal.SIGPROF, self._strike)
        random.seed(0)  # Python starts it anew after each fork

    def run(self, code: str) -> Message:
        """Execute one block; returns `status` and `error`."""
        code = _dedented(code)
        self._count += 1
        name = f"<block {self._count}>"
        self._describer.add(name, code)
        lines = [line + "\n" for line in code.split("\n")]
        linecache.cache[name] = (len(code), None, lines, name)
        self._streams.open()
        status, error = self._guarded(code, name)
        return {"status": status, "error": error}

    def _guarded(self, code: str, name: str) -> tuple[str, str | None]:
        try:
            try:
                self._start_clock()
                return self._outcome(code, name)
            finally:
                self._stop_clock()
        except BlockTimeout as stop:
            self._stop_clock()  # the clock may have struck on the way to the last call
            return "timeout", f"TimeoutError: {stop}"

    def _outcome(self, code: str, name: str) -> tuple[str, str | None]:
        """Inside the clock, because the text of an error is code of the block too."""
        try:
            try:
                self._execute(code, name)
            finally:
                self._end_copy()
                self._streams.flush()
        except BlockTimeout:
            raise
        except SystemExit as stop:
            return ("ok", None) if stop.code in (None, 0) else ("error", self._describer.describe(stop, name))
        except MemoryError as error:
            return "memory", self._describer.describe(error, name)
        except BaseException as error:  # noqa: BLE001 - whatever the code raises is its result
            return "error", self._describer.describe(error, name)
        return "ok", None

    def _execute(self, code: str, name: str) -> None:
        space = self._module.__dict__
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        body = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        echoed = None
        if isinstance(last, ast.Expr):
            echoed = compile(ast.Expression(last.value), name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with _bounded_memory():
            _evaluate(body, space)
            value = _evaluate(echoed, space) if echoed is not None else None
            self._end_copy()
            if value is not None and isinstance(last, ast.Expr) and not _silenced(code, last):
                space["_"] = value
                self._describer.echoed_line = last.lineno
                print(repr(value))  # noqa: T201 - the echo

    def _end_copy(self) -> None:
        """End a process that `os.fork()` in the block made: only the original echoes and answers."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _start_clock(self) -> None:
        self._running = True
        signal.setitimer(signal.ITIMER_REAL, self._limits.seconds, STOP_AGAIN)
        if self._limits.cpu_seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, self._limits.cpu_seconds, STOP_AGAIN)

    def _stop_clock(self) -> None:
        self._running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _strike(self, number: int, _frame: types.FrameType | None) -> None:
        if not self._running:
            return
        if number == signal.SIGPROF:
            raise BlockTimeout(f"the code used more than {self._limits.cpu_seconds:g} seconds of CPU time")
        raise BlockTimeout(timeout_text(self._limits.seconds))


def prepare() -> None:
    """What all sessions have in common, done once in the warm process: each inherits it in the same state.

    Seeds the libraries' pseudo-random numbers, and takes this package from what the code can import.
    """
    warnings.formatwarning = _format_warning
    if "sympy" in sys.modules:
        sys.modules["sympy.core.random"].seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy.random"].seed(0)
        # `default_rng()` without a seed asks the system for one through this function.
        bit_generator: Any = sys.modules["numpy.random.bit_generator"]
        bit_generator.randbits = random.Random(0).getrandbits
    for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
        del sys.modules[name]


def _evaluate(code: types.CodeType, space: dict[str, Any]) -> object:
    """Run code that may await at its top level, as notebooks allow."""
    value = eval(code, space)
    if code.co_flags & inspect.CO_COROUTINE:
        import asyncio

        value = asyncio.run(value)
    return value


def _dedented(code: str) -> str:
    """`code` without a byte order mark and without the indentation of its first line, as notebooks take it."""
    code = code.removeprefix("\ufeff")
    first = next((line for line in code.split("\n") if line.strip()), "")
    indentation = first[: len(first) - len(first.lstrip())]
    return "\n".join(line.removeprefix(indentation) for line in code.split("\n")) if indentation else code


def _silenced(code: str, last: ast.Expr) -> bool:
    """Whether a semicolon ends the block, which in a notebook keeps the value from being shown."""
    lines = code.encode("utf-8", "surrogatepass").splitlines()
    end, offset = last.end_lineno or len(lines), last.end_col_offset or 0
    rest = lines[end - 1][offset:] if end <= len(lines) else b""
    return rest.lstrip().startswith(b";")


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Hold the code to its memory limit; what the worker does itself may use the headroom up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = soft if hard == resource.RLIM_INFINITY else max(0, hard - layers.HEADROOM)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    # Without the place, which in a library is a path of this machine.
    return f"{category.__name__}: {message}\n"
