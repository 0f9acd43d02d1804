"""Each limit ends the block with its status, in time, and the session can be used again."""

import time

import pytest

from sandbox import Limits, Sandbox

RESTARTED = "The interpreter was restarted; variables are lost."
DEAF = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"


@pytest.fixture(scope="module")
def roomy():
    """Little memory and much time, so that only memory ends a block, however busy the machine is."""
    with Sandbox(Limits(seconds=20, memory_mb=128)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    "block",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "class R:\n    def __repr__(self):\n        while True: pass\nR()",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    ],
)
def test_a_polite_stop_keeps_the_variables(session, block):
    session.run_sync("kept = 7")
    result = session.run_sync("print('started')\n" + block)
    assert (result.status, result.output) == ("timeout", "started\n")
    assert result.text == "started\nTimeoutError: the code ran longer than 0.6 seconds"
    assert session.run_sync("kept").text == "7"


@pytest.mark.parametrize(
    "block",
    [
        DEAF + "while True: pass",
        DEAF + "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
        "sum(range(10**12))",
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass",
    ],
)
def test_what_resists_is_killed_within_a_second_and_told(session, block):
    began = time.perf_counter()
    result = session.run_sync("kept = 7\nprint('started')\n" + block)
    assert time.perf_counter() - began < 0.6 + 1
    assert result.status == "timeout"
    assert result.text == f"started\nTimeoutError: the code ran longer than 0.6 seconds\n{RESTARTED}"
    assert session.run_sync("'kept' in dir()").text == "False"


@pytest.mark.parametrize(
    "block",
    [
        "data = bytearray(10**9)",
        "parts = []\nwhile True: parts.append(bytearray(10**6))",
        "import numpy\nnumpy.ones(10**9)",
        "parts = []\nwhile True: parts.append([None] * 10**4)",
    ],
)
def test_too_much_memory(roomy, block):
    with roomy.session() as session:
        session.run_sync("kept = 7")
        result = session.run_sync(block)
        assert result.status == "memory"
        assert result.error.splitlines()[-1].startswith(("MemoryError", "numpy._core._exceptions._ArrayMemoryError"))
        assert session.run_sync("kept").text == "7"


def test_memory_can_be_freed_again(roomy):
    with roomy.session() as session:
        session.run_sync("parts = []\nwhile True: parts.append([None] * 10**4)")
        assert session.run_sync("del parts").status == "ok"
        assert session.run_sync("len(bytearray(10**8))").text == "100000000"


@pytest.mark.parametrize(
    ("block", "how"),
    [
        ("import os\nos._exit(3)", "exited with status 3"),
        ("import ctypes\nctypes.string_at(0)", "died of SIGSEGV"),
        ("import os\nos.execv('/bin/sleep', ['sleep', '60'])", "broke off its channel"),
    ],
)
def test_a_dead_interpreter_is_replaced_and_told(session, block, how):
    result = session.run_sync("print('started')\n" + block)
    assert result.status == "crashed"
    assert result.text == f"started\nThe interpreter {how}. {RESTARTED}"
    assert session.run_sync("6 * 7").text == "42"


@pytest.mark.parametrize("block", ["os.abort()", "os.killpg(0, 9)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_signal_to_oneself_ends_the_block_or_does_nothing(session, block):
    # The first process of a namespace is not hit by its own signals.
    assert session.run_sync("import os, signal\n" + block).status in ("ok", "crashed", "timeout")
    assert session.run_sync("6 * 7").text == "42"


def test_long_output_is_cut_in_the_middle(session):
    result = session.run_sync("print('A' * 5000 + 'Z' * 5000)")
    assert result.truncated
    assert result.output == "A" * 100 + "\n[... 9801 characters left out ...]\n" + "Z" * 99 + "\n"


def test_output_that_fills_the_disk_ends_and_does_not_leak_into_the_next_block(session):
    result = session.run_sync("while True: print('x' * 1000)")
    assert result.status in ("error", "timeout")
    assert len(result.output) < 300
    assert session.run_sync("print('next')").text == "next"


def test_a_large_file(shown):
    assert shown("open('big', 'wb').truncate(10**9)").endswith("OSError: [Errno 27] File too large")


def test_cpu_time_is_limited_on_its_own():
    with Sandbox(Limits(seconds=20, cpu_seconds=0.2)) as sandbox, sandbox.session() as session:
        assert session.run_sync("import time\ntime.sleep(0.4)").status == "ok"
        result = session.run_sync("while True: pass")
    assert (result.status, result.error) == (
        "timeout",
        "TimeoutError: the code used more than 0.2 seconds of CPU time",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", 0),
        ("seconds", float("nan")),
        ("seconds", "5"),
        ("memory_mb", 1),
        ("memory_mb", 1.5),
        ("processes", True),
    ],
)
def test_an_impossible_limit_says_what_to_give(name, value):
    with pytest.raises(ValueError, match=rf"Limits\.{name} is .*: give a (positive|whole) number"):
        Limits(**{name: value})
