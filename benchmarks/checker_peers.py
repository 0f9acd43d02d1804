"""The graders and extractors that `checker.py` measures, each in a process of its own.

    python benchmarks/checker_peers.py NAME [--extract]

answers questions on its standard input, one JSON list of calls a line: `[[prediction, answer], …]`, or `[[text], …]`.
The reply is one line, `[results, seconds, files]`: what the function returned for each call (null if it raised), the
seconds that all of them took, and the names of files that appeared, because an answer was run as code.
"""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The folder of this file has files with the names of packages; the packages are beside the folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

START_SECONDS = 120.0


def ours() -> Callable[[str, str], bool]:
    from eval import check

    return check


def math_verify() -> Callable[[str, str], bool]:
    """As its documentation recommends: both sides between dollars, the gold first; its own limits of 5 s."""
    from math_verify import parse, verify

    return lambda prediction, answer: bool(verify(parse(f"${answer}$"), parse(f"${prediction}$")))


def tora() -> Callable[[str, str], bool]:
    from eval.paper import check_paper

    return check_paper


def hendrycks() -> Callable[[str, str], bool]:
    return lambda prediction, answer: hendrycks_normal(prediction) == hendrycks_normal(answer)


def our_extractor() -> Callable[[str], str | None]:
    from eval import extract_answer

    return extract_answer


def math_verify_extractor() -> Callable[[str], str | None]:
    """The text that it parsed: its second return value."""
    from math_verify import parse

    return lambda text: str(found[-1]) if (found := parse(text)) else None


GRADERS = {"ours": ours, "math-verify": math_verify, "ToRA-style": tora, "Hendrycks": hendrycks}
EXTRACTORS = {"ours": our_extractor, "math-verify": math_verify_extractor}

DELETED = re.compile(r"\n|\\!|\\left|\\right|\^\{\\circ\}|\^\\circ|\\\$|\\text\{ .*$|\\%|%")
STYLES = (
    (re.compile("[td]frac"), "frac"),
    (re.compile(r"(^|[ {])\."), r"\g<1>0."),
    (re.compile(r"^[^=]{1,2}=([^=]*)$"), r"\1"),
    (re.compile(r"\\sqrt\s*([^{\s])"), r"\\sqrt{\1}"),
    (re.compile(r"\s"), ""),
    (re.compile(r"\\frac([^{])([^{])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac([^{])\{"), r"\\frac{\1}{"),
    (re.compile(r"^0\.5$"), r"\\frac{1}{2}"),
    (re.compile(r"^(-?[0-9]+)/(-?[0-9]+)$"), r"\\frac{\1}{\2}"),
)


def hendrycks_normal(text: str) -> str:
    """The rules of the MATH data set's own grader (Hendrycks et al. 2021), which compares strings and no values."""
    text = DELETED.sub("", text)
    for pattern, new in STYLES:
        text = pattern.sub(new, text)
    return text


class Hung(Exception):  # noqa: N818 (an event, not a fault of the caller)
    """A call took longer than it may; its process was killed."""


class Process:
    """One grader or extractor in a process of its own, which is started when needed and again after a hang."""

    def __init__(self, name: str, extract: bool = False) -> None:
        self.command = [sys.executable, str(Path(__file__).resolve()), name, *(["--extract"] if extract else [])]
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until its libraries are loaded and its own workers run."""
        self.folder = tempfile.TemporaryDirectory()  # a case that is run as code makes a file here
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self.read(START_SECONDS) != "ready":
            raise SystemExit(f"{' '.join(self.command)} does not start; run it to see why")

    def call(self, calls: list[list[str]], limit: float) -> tuple[list[Any], float, list[str]]:
        """The results of some calls, the seconds they took together, and files that they made.

        Raises:
            Hung: They took more than `limit` seconds, or the process died.
        """
        if self.process is None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(calls), file=self.process.stdin, flush=True)
        reply = self.read(limit)
        if reply is None:
            self.stop()
            raise Hung
        results, seconds, files = reply
        return results, seconds, files

    def read(self, seconds: float) -> Any:
        assert self.process is not None and self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.folder.cleanup()
            self.process = None


def serve(function: Callable[..., Any], warm_up: list[str]) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    function(*warm_up)
    print('"ready"', file=replies, flush=True)
    for line in sys.stdin:
        calls = json.loads(line)
        began = time.perf_counter()
        results = [guarded(function, call) for call in calls]
        seconds = time.perf_counter() - began
        print(json.dumps([results, seconds, os.listdir()]), file=replies, flush=True)  # noqa: PTH208


def guarded(function: Callable[..., Any], call: list[str]) -> Any:
    """What the function returns; None where it raises, which is counted as a wrong answer."""
    try:
        return function(*call)
    except Exception as error:  # noqa: BLE001 (peers raise anything on odd texts)
        print(f"{type(error).__name__}: {error} on {call!r:.80}", file=sys.stderr)
        return None


if __name__ == "__main__":
    if "--extract" in sys.argv:
        serve(EXTRACTORS[sys.argv[1]](), [r"\boxed{5}"])
    else:
        serve(GRADERS[sys.argv[1]](), [r"x+\frac{1}{3}", r"\frac{1}{5}+x"])
