"""Run graders other than the strict one in processes of their own, under a hard limit."""

import atexit
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from eval.errors import CheckerError

_LOG = logging.getLogger(__name__)
_CHILD = Path(__file__).with_name("grader_child.py")
_START_SECONDS = 120.0  # importing sympy from a cold disk under load
_END_SECONDS = 0.5
_WALL_FACTOR = 3.0  # processor time decides, wall time only ends a stall


class GraderProcess:
    """One process for one grader of `grader_child.py`; started when first needed, shared by all threads in turn."""

    def __init__(self, grader: str) -> None:
        self._grader = grader
        self.forget()

    def forget(self) -> None:
        """Start over; in a forked child, where the process belongs to the parent."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, prediction: str, gold: str, seconds: float) -> bool:
        """The grader's verdict; False if it needs more than `seconds` of processor time, or too much memory.

        Raises:
            CheckerError: if the grader does not work on this machine.
        """
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            reply: object = None
            try:
                process.stdin.write(json.dumps([prediction, gold, seconds]).encode() + b"\n")
                process.stdin.flush()
                reply = self._read(process, seconds * _WALL_FACTOR)
            except BrokenPipeError:
                _LOG.debug("the process of %s was gone before its question", self._grader)
            finally:
                if not isinstance(reply, bool):  # a late reply must not answer the next question
                    self._kill()
            if not isinstance(reply, bool):
                _LOG.warning("%s: stopped on %.80r and %.80r: different", self._grader, prediction, gold)
            return reply is True

    def close(self) -> None:
        """Kill the process, if there is one; the next question starts another."""
        with self._lock:
            self._kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        # -P keeps this folder, whose file names are those of other modules, off the child's path.
        command = [sys.executable, "-P", str(_CHILD), self._grader]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        report = self._read(self._process, _START_SECONDS)
        if not isinstance(report, dict) or report["problem"]:
            self._kill()
            cause = report["problem"] if isinstance(report, dict) else "its process gave no sign; see its message above"
            raise CheckerError(
                f"the grader {self._grader!r} does not work here ({cause}). "
                "Install the grammar's own runtime: pip install 'math-verify[antlr4_13_2]'"
            )
        return self._process

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> object:
        assert process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                line = process.stdout.readline()
                reply: object = json.loads(line) if line.endswith(b"\n") else None
                return reply
        return None

    def _kill(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:  # the kernel may take long to free its memory; `subprocess` reaps it later
            _LOG.debug("the process of %s was killed and has not ended yet", self._grader)
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                _LOG.debug("the process of %s was gone before its last question was sent", self._grader)


PAPER, MATH_VERIFY = GraderProcess("paper"), GraderProcess("math-verify")
for _one in (PAPER, MATH_VERIFY):
    os.register_at_fork(after_in_child=_one.forget)
    atexit.register(_one.close)
