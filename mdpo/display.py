"""What a person at the terminal sees: one line for each stage, with progress while it works.

On a terminal a spinner and a bar move; anywhere else (a log file, CI) a plain line is written every few seconds, so
that nothing is silent for long.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_HEARTBEAT_SECONDS = 5.0


class Task:
    """A piece of work that is shown while it goes on."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.note = ""
        self.started = time.monotonic()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more units are done; `note` is shown behind the bar."""
        self.set(self.done + count, note=note)

    def set(self, done: int, total: int | None = None, note: str | None = None) -> None:
        """`done` of `total` units are done."""
        self.done = done
        self.total = total if total is not None else self.total
        self.note = note if note is not None else self.note

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self.started

    def __str__(self) -> str:
        amount = f" {self.done:,}/{self.total:,}" if self.total else ""
        return f"{self.title}{amount} · {self.seconds:.0f} s{' · ' + self.note if self.note else ''}"


class Display:
    """Shows tasks and prints lines.

    Args:
        console: Where to; default: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()

    def say(self, text: str = "") -> None:
        """Print a line (rich markup)."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Show a task while the block runs, and nothing of it afterwards: say the result yourself."""
        task = Task(title, total)
        with _Bar(self.console, task) if self.console.is_terminal else _Lines(self.console, task):
            yield task


class _Bar:
    """A moving bar, refreshed by a thread from the task's own numbers."""

    def __init__(self, console: Console, task: Task) -> None:
        self._task = task
        counted = [BarColumn(), MofNCompleteColumn()] if task.total else []
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *counted,
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            get_time=time.monotonic,
        )
        self._id = self._progress.add_task(task.title, total=task.total, note="")
        self._ticker = _Ticker(0.1, self._refresh)

    def _refresh(self) -> None:
        task = self._task
        self._progress.update(self._id, completed=task.done, total=task.total, note=task.note)

    def __enter__(self) -> Self:
        self._progress.start()
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()
        self._progress.stop()


class _Lines:
    """A plain line at the start and every few seconds."""

    def __init__(self, console: Console, task: Task) -> None:
        self._console, self._task = console, task
        self._ticker = _Ticker(_HEARTBEAT_SECONDS, self._print)

    def _print(self) -> None:
        self._console.print(f"… {self._task}", highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._print()
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()


class _Ticker:
    """Calls a function at equal intervals from a thread, until it is stopped."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._seconds, self._call = seconds, call
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._call()
