"""What surrounds a session under attack, and the check that no attack had an effect on it.

An attack is a block of code. It finds in its session what a knowledgeable attacker would know (`surroundings.names`:
paths, ports, process ids) and three helpers (`HELPERS`). Where it succeeds it calls `reached()`, changes something
outside, or shows a secret; `attack` looks for all three. So that a failing sandbox takes no machine down, signals to
everyone are such as processes ignore, and what is taken is bounded by the attack itself.
"""

import os
import secrets
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sandbox import ExecutionResult, Limits, Sandbox, Session

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]

STATUSES = ("ok", "error", "timeout", "memory", "crashed", "refused")
OVERTIME = 1.0
HONEST = "print('hon' + 'est')"

# What can only be held with certain layers: what → the layers, any of which is enough to lose it when refused.
REQUIRED = {
    "number of processes": ("number of processes",),
    "size of all files": ("private root",),
    "host name": ("namespaces",),
}

HELPERS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)

def reached(*what):
    print('REACHED' + ' IT', *what)

def tried(function, *arguments):
    try:
        return function(*arguments)
    except (OSError, ValueError, AttributeError, ImportError):
        return None

def syscall(name, *arguments):
    place = ('x86_64', 'aarch64').index(os.uname().machine)
    return libc.syscall(NUMBERS[name][place] if isinstance(name, str) else name, *arguments)

libc.prctl(15, TAG.encode())
OTHERS = [pid for pid in OTHERS if pid != os.getpid()]
"""
# System calls without a function in the C library: the numbers on x86_64 and aarch64.
NUMBERS = {
    "accept": (43, 202), "acct": (163, 89), "add_key": (248, 217), "bind": (49, 200), "bpf": (321, 280),
    "clone": (56, 220), "connect": (42, 203), "delete_module": (176, 106), "execveat": (322, 281),
    "fanotify_init": (300, 262), "finit_module": (313, 273), "get_mempolicy": (239, 236), "init_module": (175, 105),
    "ioprio_set": (251, 30), "kcmp": (312, 272), "kexec_file_load": (320, 294), "kexec_load": (246, 104),
    "keyctl": (250, 219), "listen": (50, 201), "memfd_create": (319, 279), "migrate_pages": (256, 238),
    "mount": (165, 40), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241), "personality": (135, 92), "pivot_root": (155, 41), "quotactl": (179, 60),
    "reboot": (169, 142), "renameat2": (316, 276), "request_key": (249, 218), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "seccomp": (317, 277), "setns": (308, 268), "settimeofday": (164, 170),
    "socket": (41, 198), "socketpair": (53, 199), "swapoff": (168, 225), "swapon": (167, 224), "tgkill": (234, 131),
    "tkill": (200, 130), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282), "vhangup": (153, 58),
}  # fmt: skip


# ---------------------------------------------------------------- processes
def vitals(pid: int) -> dict[str, object]:
    """What others could have done to a process."""
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    return {
        "state": "stopped or dead" if status["State"][0] in "TtZX" else "running",
        "signals": (status["SigPnd"], status["ShdPnd"]),
        "name": status["Name"],
        "tracer": status["TracerPid"],
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "cores": os.sched_getaffinity(pid),
        "policy": os.sched_getscheduler(pid),
        "limits": (folder / "limits").read_text(),
        "oom": (folder / "oom_score_adj").read_text(),
    }


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        children = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return []
    return children + [below for child in children for below in descendants(child)]


def named(tag: str) -> list[int]:
    """Processes of this machine that carry `tag` in their name or command line, but for zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "comm").read_text() + (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            if tag in words and (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(int(folder.name))
        except (OSError, ValueError):  # it ended meanwhile
            continue
    return found


def soon(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true within three seconds."""
    until = time.monotonic() + 3
    while not (true := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return true


class Person:
    """A process that no attack may touch."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._before = vitals(pid)

    def check(self) -> None:
        before, self._before = self._before, vitals(self.pid)
        assert self._before == before


class Victim(Person):
    """One that no signal ends but SIGKILL: every other one stays pending, where `vitals` sees it."""

    def __init__(self) -> None:
        deaf = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        command = [sys.executable, "-c", deaf + "print(flush=True)\ntime.sleep(900)"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        super().__init__(self.process.pid)

    def close(self) -> None:
        with self.process:
            self.process.kill()

    def check(self) -> None:
        try:
            super().check()
        except (AssertionError, OSError, KeyError):
            self.close()
            self.__init__()  # type: ignore[misc]
            raise


# ---------------------------------------------------------------- files
class Yard:
    """A folder of the caller's that everyone may enter: a secret to read, a file and a folder that all may change."""

    def __init__(self, folder: Path, secret: str) -> None:
        folder.chmod(0o755)
        self.secret, self.precious, self.drop = folder / "secret", folder / "precious", folder / "drop"
        self.secret.write_text(secret)
        self._lay_out()

    def _lay_out(self) -> None:
        self.precious.write_text("precious")
        self.precious.chmod(0o666)
        self.drop.mkdir()
        self.drop.chmod(0o777)
        self._before = self._state()

    def _state(self) -> tuple[object, ...]:
        found = self.precious.stat()
        kept = (found.st_ino, found.st_mode, found.st_uid, found.st_nlink, found.st_size, found.st_mtime_ns)
        folder = stat.S_IMODE(self.drop.stat().st_mode), list(self.drop.iterdir())
        return self.precious.read_bytes(), kept, os.listxattr(self.precious), folder

    def check(self) -> None:
        try:
            assert self._state() == self._before
        except (AssertionError, OSError):
            self.drop.chmod(0o777)
            shutil.rmtree(self.drop)
            self.precious.unlink(missing_ok=True)
            self._lay_out()
            raise


def writable(folders: list[Path]) -> list[Path]:
    return [folder for folder in folders if folder.is_dir() and os.access(folder, os.W_OK)]


# ---------------------------------------------------------------- sockets
class Listeners:
    """Every kind of socket that a session could reach, each waiting for the first that does."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._sockets: list[socket.socket] = []
        self._stack = stack
        name = f"\0{folder.name}"
        self.names = {
            "PORT": self._open(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "UDP": self._open(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "UNIX": self._open(socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "stream")),
            "UNIX_DGRAM": self._open(socket.AF_UNIX, socket.SOCK_DGRAM, str(folder / "dgram")),
            "UNIX_PACKET": self._open(socket.AF_UNIX, socket.SOCK_SEQPACKET, str(folder / "packet")),
            "ABSTRACT": self._open(socket.AF_UNIX, socket.SOCK_STREAM, name),
            "ABSTRACT_DGRAM": self._open(socket.AF_UNIX, socket.SOCK_DGRAM, name + "d"),
        }
        for path in folder.iterdir():
            if path.is_socket():
                path.chmod(0o777)
        ipv6 = (
            (("PORT6", socket.SOCK_STREAM), ("UDP6", socket.SOCK_DGRAM)) if Path("/proc/net/if_inet6").exists() else ()
        )
        self.names |= {name: self._open(socket.AF_INET6, kind, ("::1", 0)) for name, kind in ipv6}

    def _open(self, family: int, kind: int, address: Any) -> Any:
        opened = self._stack.enter_context(socket.socket(family, kind))
        opened.bind(address)
        if kind != socket.SOCK_DGRAM:
            opened.listen()
        self._sockets.append(opened)
        return address if family == socket.AF_UNIX else opened.getsockname()[1]

    def check(self) -> None:
        reached, _, _ = select.select(self._sockets, [], [], 0)
        for one in reached:
            if one.type == socket.SOCK_DGRAM:
                one.recv(1)
            else:
                one.accept()[0].close()
        assert reached == []


# ---------------------------------------------------------------- all of it
class Surroundings:
    """The caller's things, and what an attacker may know of them."""

    def __init__(self, stack: ExitStack) -> None:
        self.secret = f"secret word {secrets.token_hex(6)}"  # no Python, so that its errors would show it
        parents = [Path(tempfile.gettempdir()), *writable([Path.home()])]
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix=".attacks-"))) for place in parents
        ]
        self._yards = [Yard(folder, self.secret) for folder in folders]
        self._listeners = Listeners(folders[0], stack)
        environment = [Path(sys.prefix), Path(sys.prefix).parent] if sys.prefix != sys.base_prefix else []
        hidden = [self._plant(folder, stack) for folder in writable(environment)]
        self._victim = Victim()
        stack.callback(self._victim.close)
        self._caller = Person(os.getpid())
        self._surprises: list[int] = []
        old = signal.signal(signal.SIGURG, lambda number, _frame: self._surprises.append(number))
        stack.callback(signal.signal, signal.SIGURG, old)
        usual = [Path(folder) for folder in ("/tmp", "/var/tmp", "/dev/shm", "/", "/etc", sys.prefix, *sys.path)]
        self._folders = {*usual, Path.home(), Path.cwd(), Path(__file__).parent, *(yard.drop for yard in self._yards)}
        self._names: dict[str, Any] = self._listeners.names | {
            "NUMBERS": NUMBERS, "SECRETS": [str(yard.secret) for yard in self._yards] + hidden + [__file__],
            "PRECIOUS": [str(yard.precious) for yard in self._yards], "DROPS": [str(yard.drop) for yard in self._yards],
            "FOLDERS": sorted(map(str, self._folders)), "CALLER": os.getpid(),
        }  # fmt: skip

    def names(self, tag: str) -> dict[str, Any]:
        """What an attacker knows; from now on the caller is watched."""
        self._caller = Person(os.getpid())
        return self._names | {"TAG": tag, "VICTIM": self._victim.pid, "OTHERS": descendants(os.getpid())}

    def _plant(self, folder: Path, stack: ExitStack) -> str:
        path = folder / f".env-{secrets.token_hex(4)}"
        stack.callback(path.unlink, missing_ok=True)
        path.write_text(self.secret)
        path.chmod(0o644)
        return str(path)

    def check(self, tag: str) -> None:
        """Assert that nothing outside a session has been touched and nothing of it is left; put right what has."""
        left = [path for folder in self._folders if folder.is_dir() for path in folder.glob(f"*{tag}*")]
        for path in left:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        surprises, self._surprises[:] = self._surprises[:], []
        faults = []
        for thing in (*self._yards, self._listeners, self._victim, self._caller):
            try:
                thing.check()
            except (AssertionError, OSError, KeyError) as fault:
                faults.append(fault)
        assert faults == []
        assert left == []
        assert surprises == []
        assert soon(lambda: named(tag) == [])


@pytest.fixture(scope="session")
def surroundings() -> Iterator[Surroundings]:
    with ExitStack() as stack:
        yield Surroundings(stack)


@pytest.fixture(scope="session")
def hasty() -> Iterator[Sandbox]:
    """Stands in as `sandbox` where nearly every attack uses all of its time."""
    with Sandbox(Limits(seconds=0.4, memory_mb=128, output_chars=200, file_mb=8)) as sandbox:
        yield sandbox


@pytest.fixture
def attack(sandbox: Sandbox, surroundings: Surroundings) -> Callable[..., ExecutionResult]:
    """Runs the blocks of an attack in a session of their own and checks everything that every attack must leave alone.

    `spoils` is for code that may break its own session: the next block must then still come back, with anything.
    Returns what came of the last block.
    """

    def run(*blocks: str, spoils: bool = False) -> ExecutionResult:
        tag = f"mark{secrets.token_hex(4)}"
        with sandbox.session() as bystander, sandbox.session() as session:
            bystander.run_sync("kept = 7")
            assert session.run_sync(f"globals().update({surroundings.names(tag)!r})\n{HELPERS}").text == "[no output]"
            results = [checked(session, block, sandbox.limits, surroundings) for block in blocks]
            after = checked(session, HONEST, sandbox.limits, surroundings)
            assert spoils or (after.status, after.text) == ("ok", "honest")
            assert bystander.run_sync("kept").text == "7"
        with sandbox.session() as fresh:
            assert fresh.run_sync("6 * 7").text == "42"
        surroundings.check(tag)
        return results[-1]

    return run


def checked(session: Session, block: str, limits: Limits, surroundings: Surroundings) -> ExecutionResult:
    """Run one block: it comes back in time, with a known status, and with a short clean text."""
    began = time.perf_counter()
    result = session.run_sync(block)
    assert time.perf_counter() - began < limits.seconds + OVERTIME, result
    assert result.status in STATUSES
    assert len(result.output) <= limits.output_chars + 100
    assert len(result.error or "") <= limits.output_chars + 300
    result.text.encode()
    assert "REACHED" + " IT" not in result.text
    assert surroundings.secret not in result.text
    assert "What surrounds a session under attack" not in result.text  # this file, which lies in the caller's folder
    return result


@pytest.fixture
def needs(sandbox: Sandbox) -> Callable[[str], None]:
    """Skips a test of what this machine gives no means to hold: a key of `REQUIRED`."""

    def check(what: str) -> None:
        with sandbox.session():  # what is refused is known once a session was opened
            refused = sandbox.refused
        for layer in REQUIRED[what]:
            if layer in refused:
                pytest.skip(f"the {what} cannot be held without the layer {layer!r}: {refused[layer]}")

    return check
