"""A sandbox that must give a guarantee is attacked first, and does not open if it falls."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from sandbox import Limits, Sandbox, SandboxError
from sandbox.guarantees import NAMES

HERE = Path(__file__).parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there are only limits outside Linux")


def open_without(what, code):
    """What a fresh Python prints that runs `code` where the machine refuses `what`."""
    command = [sys.executable, str(HERE / "without.py"), what, sys.executable, "-W", "always", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], timeout=60, check=False)
    return done.stdout + done.stderr


def test_limits_hold_everywhere():
    with Sandbox(Limits(seconds=0.5, memory_mb=128), require="time, memory,output") as sandbox:
        assert sandbox.session() is not None


@LINUX
def test_an_ordinary_container_gives_all_guarantees():
    names = ",".join(name for name in NAMES if name != "time")
    code = f"from sandbox import *\nwith Sandbox(Limits(seconds=2, memory_mb=128), require={names!r}): print('open')"
    assert open_without("namespaces", code).endswith("open\n")


@LINUX
@pytest.mark.parametrize(
    ("guarantee", "what"),
    [
        ("filesystem", "filesystem: reading the caller's files (it can)"),
        ("network", "network: connecting (connecting to this machine gives \"'connected'\")"),
    ],
)
def test_a_machine_that_cannot_give_a_guarantee_is_refused_with_the_attack_that_worked(guarantee, what):
    code = f"from sandbox import *\nSandbox(require={guarantee!r}).__enter__()"
    text = open_without("namespaces,landlock,seccomp", code)
    assert "SandboxError: the sandbox cannot give what is required on this machine: " in text
    assert what in text
    assert "sandbox.doctor" in text


@LINUX
def test_where_there_are_only_limits_it_works_and_says_so_once():
    code = (
        "from sandbox import *\nfor _ in range(2):\n    with Sandbox() as sandbox, sandbox.session() as session:\n"
        "        print(session.run_sync('6 * 7').text)"
    )
    text = open_without("namespaces,landlock,seccomp", code)
    assert text.count("42\n") == 2
    assert "on this machine code in the sandbox can read and write your files" in text
    assert "on this machine code in the sandbox can use the network" in text


@LINUX
def test_a_protected_sandbox_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Sandbox() as sandbox:
            assert not {"Landlock", "system calls"} & sandbox.refused.keys()


def test_an_unknown_guarantee_names_those_that_there_are():
    with pytest.raises(ValueError, match="does not know disk: the guarantees are time, memory, output, filesystem"):
        Sandbox(require="network,disk")


def test_a_fallen_guarantee_closes_what_was_opened(monkeypatch):
    from sandbox import guarantees

    async def fall(sandbox):
        return guarantees.Check("an attack", False, "it worked")

    monkeypatch.setitem(guarantees.ATTACKS, "signals", (fall,))
    with pytest.raises(SandboxError, match=r"signals: an attack \(it worked\)"):
        Sandbox(require="signals").__enter__()
