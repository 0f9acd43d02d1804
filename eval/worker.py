"""Ask a grader in processes of its own, each question under a hard limit.

sympy and math-verify are slow, can run for ever, and bound themselves with signals, which only the main thread may use.
What a worker runs is a script: `worker_child.py` for the strict checker, `grader_child.py` for others. A worker is a
fresh interpreter (no fork of a caller that holds a GPU), is started when first needed, answers many questions, is
killed when one takes too long, and ends by itself when its caller is gone, however that ended.
"""

import atexit
import json
import logging
import os
import queue
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eval.errors import CheckerError

_LOG = logging.getLogger(__name__)
_START_SECONDS = 120.0  # importing sympy from a cold disk under load
_END_SECONDS = 0.5
_MAX_WORKERS = 8


@dataclass(frozen=True)
class Grader:
    """What a worker runs.

    Args:
        name: For people.
        script: The file beside this one that is the process, with the arguments that it takes.
        patience: Wall time that a question may take, in multiples of its processor time, which the process bounds
            itself: above 1 where a stall of the machine must not change a verdict.
    """

    name: str
    script: tuple[str, ...]
    patience: float = 1.0


STRICT = Grader("math-verify", ("worker_child.py",))


class Worker:
    """One worker process. Not for use by two threads at once: `WorkerPool` lends it out."""

    def __init__(self, grader: Grader = STRICT) -> None:
        self._grader = grader
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._ready = False

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        return self._process.pid if self._process else None

    def ask(self, prediction: str, gold: str, seconds: float) -> bool:
        """Whether the grader finds two texts equal; False if it needs more than `seconds`.

        A new process needs a second or two to be ready; then at least half of the time is left for the question.

        Raises:
            CheckerError: if the grader does not work on this machine.
        """
        start = time.monotonic()
        process = self._started()
        seconds = max(seconds / 2, seconds - (time.monotonic() - start))
        assert process.stdin is not None
        reply = None
        try:
            process.stdin.write(json.dumps([prediction, gold, seconds]).encode() + b"\n")
            process.stdin.flush()
            reply = self._read(seconds * self._grader.patience)
        except BrokenPipeError:  # it was killed from outside between two questions
            _LOG.debug("worker %d was gone before its question", process.pid)
        finally:
            # Also after an interrupt: a reply that comes late must not answer the next question.
            if not isinstance(reply, bool):
                self.close()
        if not isinstance(reply, bool):
            _LOG.warning(
                "%s: stopped comparing %.80r with %.80r after %s s: counted as different",
                self._grader.name, prediction, gold, seconds,
            )  # fmt: skip
            self._start()  # ready again by the time of the next question
            return False
        return reply

    def close(self) -> None:
        """Kill the process, if there is one; the next question starts another."""
        if self._process is None:
            return
        self._process.kill()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:  # the kernel may take long to free its memory; `subprocess` reaps it later
            _LOG.debug("worker %d was killed and has not ended yet", self._process.pid)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                _close(stream)
        self._process, self._errors, self._ready = None, None, False

    def _started(self) -> subprocess.Popen[bytes]:
        """The process, after its own proof that the grader works."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        process = self._process or self._start()
        if not self._ready:
            report = self._read(_START_SECONDS)
            problem = report["problem"] if isinstance(report, dict) else self._last_words()
            if problem is not None:
                self.close()
                raise CheckerError(
                    f"{self._grader.name} does not work here, so answers cannot be compared ({problem}). "
                    "Install the grammar's own runtime: pip install 'math-verify[antlr4_13_2]'"
                )
            self._ready = True
        return process

    def _start(self) -> subprocess.Popen[bytes]:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        # -P keeps this folder, whose file names are those of other modules, off the worker's path.
        script, *arguments = self._grader.script
        command = [sys.executable, "-P", str(Path(__file__).with_name(script)), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        return self._process

    def _read(self, seconds: float) -> Any:
        """The next reply; None if there is none in time or the process ended. Replies are one short line each."""
        assert self._process is not None and self._process.stdout is not None
        poll = select.poll()  # select() refuses descriptors above 1023
        poll.register(self._process.stdout, select.POLLIN)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                line = self._process.stdout.readline()
                return json.loads(line) if line.endswith(b"\n") else None
        return None

    def _last_words(self) -> str:
        assert self._process is not None and self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        code = self._process.poll()
        ended = f"ended with code {code}" if code is not None else f"was not ready after {_START_SECONDS:.0f} s"
        return f"its process {ended}: {lines[-1] if lines else 'no message'}"


class WorkerPool:
    """Up to `size` workers, lent to any thread; a caller waits while all are busy. Each is started when needed."""

    def __init__(self, size: int | None = None, grader: Grader = STRICT) -> None:
        self.size = size or min(_MAX_WORKERS, os.cpu_count() or 1)
        self._grader = grader
        self.forget()

    def forget(self) -> None:
        """Start over with new workers; in a forked child, where the old ones belong to the parent."""
        # Last in, first out: as few processes as the load needs.
        self._workers: queue.LifoQueue[Worker] = queue.LifoQueue()
        for _ in range(self.size):
            self._workers.put(Worker(self._grader))

    def ask(self, prediction: str, gold: str, seconds: float) -> bool:
        """`Worker.ask` on a free worker."""
        worker = self._workers.get()
        try:
            return worker.ask(prediction, gold, seconds)
        finally:
            self._workers.put(worker)

    def close(self) -> None:
        """Kill the idle workers; a busy one ends with its caller."""
        idle = [self._workers.get_nowait() for _ in range(self._workers.qsize())]
        for worker in idle:
            worker.close()
            self._workers.put(worker)


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:  # an unsent question to a process that is gone
        _LOG.debug("a worker was gone before its last question was sent")


def shared_pool(size: int | None = None, grader: Grader = STRICT) -> WorkerPool:
    """A pool for the whole process, until its end: workers are dear to start."""
    pool = WorkerPool(size, grader)
    os.register_at_fork(after_in_child=pool.forget)
    atexit.register(pool.close)
    return pool


SHARED = shared_pool()
