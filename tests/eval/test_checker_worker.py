"""The worker processes that ask math-verify: bounded, replaced, never orphaned, honest about a broken installation."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval import CheckerError
from eval.worker import Worker, WorkerPool


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


def test_no_process_before_the_first_question(worker: Worker) -> None:
    assert worker.pid is None


def test_answers(worker: Worker) -> None:
    assert worker.ask(r"\sqrt{12}", r"2\sqrt{3}", 5)
    assert not worker.ask(r"\sqrt{12}", r"3\sqrt{3}", 5)


def test_what_takes_too_long_is_different_and_the_worker_is_replaced(worker: Worker) -> None:
    assert worker.ask("1", "1", 5)
    first = worker.pid
    assert not worker.ask(r"9^{9^{9^{9}}}+\sin(x)", "y", 0.5)
    assert worker.pid != first
    assert worker.ask("x+x", "2x", 5)


def test_a_killed_worker_is_replaced(worker: Worker) -> None:
    assert worker.ask("1", "1", 5)
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert worker.ask("x+x", "2x", 5)


def test_a_broken_grammar_is_an_error_that_says_what_to_install(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "antlr4").mkdir()
    (tmp_path / "antlr4/__init__.py").write_text("raise ImportError('wrong runtime')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CheckerError, match=r"antlr4-python3-runtime \d.*pip install 'math-verify\[antlr4_13_2\]'"):
        worker.ask("x", "y", 5)


def test_a_pool_starts_only_as_many_workers_as_are_used() -> None:
    pool = WorkerPool(3)
    assert pool.ask("x+x", "2x", 5)
    assert pool.ask("2x", "x+x", 5)
    assert len([worker for worker in pool._workers.queue if worker.pid is not None]) == 1
    pool.close()


def test_workers_end_when_their_caller_is_killed() -> None:
    code = (
        "import time; from eval.worker import SHARED\n"
        "SHARED.ask('x', 'y', 5); print(SHARED._workers.queue[-1].pid, flush=True); time.sleep(60)"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(caller.stdout.readline())
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert _gone_within(pid, seconds=10)


def test_a_child_forked_while_all_workers_are_busy_has_its_own() -> None:
    code = (
        "import os; from eval.worker import SHARED\n"
        "assert SHARED.ask('x+x', '2x', 5)\n"
        "busy = [SHARED._workers.get() for _ in range(SHARED.size)]\n"
        "child = os.fork()\n"
        "if not child: os._exit(not (SHARED.ask('y+y', '2y', 5) and not SHARED.ask('y', '2y', 5)))\n"
        "assert os.waitpid(child, 0)[1] == 0 and busy[-1].ask('z+z', '2z', 5) | busy[0].ask('z+z', '2z', 5)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=20)


def test_importing_eval_is_light() -> None:
    code = "import eval, sys; assert not {'sympy', 'mpmath', 'math_verify', 'datasets', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_stopped_worker_is_waited_for_no_longer_than_the_limit(worker: Worker) -> None:
    assert worker.ask("1", "1", 5)
    os.kill(worker.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert not worker.ask("x+x", "2x", 0.5)
    assert time.monotonic() - began < 0.5 + 1.5
    assert worker.ask("x+x", "2x", 5)
