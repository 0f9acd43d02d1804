"""The warm process: a small fresh interpreter that has imported what models use, and forks one child per session.

Started by `pool.py` as a program of its own, never as a fork of the caller: it holds nothing of the caller's memory,
environment or open files. It is single-threaded. Its control socket carries, as `channel.py` says,
`{"open": key, "limits": …}` with two descriptors (the session's channel and output) and `{"kill": key}` one way, and
`{"ready": true, "refused": …}`, `{"gone": key, "status": wait status}` the other way. When the socket ends, or the
caller does, it ends every session and itself.
"""

import array
import contextlib
import gc
import importlib
import importlib.util
import os
import selectors
import shutil
import signal
import socket
import sys
from pathlib import Path

from sandbox import isolation
from sandbox.cells import prepare
from sandbox.channel import READ_BYTES, Frames, Message, encode
from sandbox.limits import Limits
from sandbox.worker import Job, serve

# What models use, and what the import of it or its first use would cost every session.
WARM = (
    "asyncio", "bisect", "cmath", "collections", "concurrent.futures", "copy", "dataclasses", "datetime", "decimal",
    "fractions", "functools", "heapq", "inspect", "itertools", "json", "math", "numpy.linalg", "numpy.random",
    "operator", "random", "re", "scipy", "statistics", "string", "sympy", "sympy.parsing.sympy_parser", "time",
    "traceback", "typing",
)  # fmt: skip

MESSAGE_BYTES = 1 << 16


def main(control: int, folder: str) -> None:
    """Run until the caller ends; in each forked child, become a session.

    Args:
        control: The descriptor of the control socket.
        folder: An empty folder, for those of the sessions; removed in the end.
    """
    job = _Zygote(socket.socket(fileno=control), Path(folder)).run()
    if job is not None:
        serve(job)


def warm_up() -> None:
    """Import what is installed of `WARM`, and keep it out of the collector's way: forks then share its pages."""
    for name in WARM:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    prepare()
    isolation.look_around()
    gc.collect()
    gc.freeze()


class _Zygote:
    def __init__(self, control: socket.socket, folder: Path) -> None:
        self._control = control
        self._frames = Frames(MESSAGE_BYTES)
        self._descriptors: list[int] = []
        self._sessions: dict[int, int] = {}  # pid → key
        self._wake, wake = socket.socketpair()
        self._wake_writer = wake
        self._folder = folder

    def run(self) -> Job | None:
        """Serve; returns a job in a forked child, None in the warm process when all is over."""
        refused = isolation.prepare()
        self._listen_to_signals()
        # Sessions have users of their own and must pass through to their own folder, not list the others.
        self._folder.chmod(0o711)
        try:
            warm_up()
            self._control.sendall(encode({"ready": True, "refused": refused}))
            job = self._loop()
        except (ConnectionError, SystemExit):
            job = None  # the caller ended, or asked for the end
        if job is None:
            self._end()
        return job

    def _listen_to_signals(self) -> None:
        for end in (self._wake, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def _loop(self) -> Job | None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake in ready:
                    self._wake.recv(READ_BYTES)
                    self._reap()
                if self._control in ready:
                    if not self._read():
                        return None
                    while (message := self._frames.next()) is not None:
                        job = self._obey(message)
                        if job is not None:
                            return job

    def _read(self) -> bool:
        space = socket.CMSG_SPACE(64 * array.array("i").itemsize)
        data, ancillary, _, _ = self._control.recvmsg(READ_BYTES, space)
        for _, _, packed in ancillary:
            self._descriptors += array.array("i", packed)
        self._frames.feed(data)
        return bool(data)

    def _obey(self, message: Message) -> Job | None:
        if "kill" in message:
            for pid in [pid for pid, key in self._sessions.items() if key == message["kill"]]:
                _kill(pid)
            return None
        channel, output = self._descriptors[:2]
        del self._descriptors[:2]
        try:
            pid = os.fork()
        except OSError as error:
            self._tell({"gone": message["open"], "status": None, "problem": str(error)})
            pid = -1
        if pid == 0:
            return self._become(Job(channel, output, Limits(**message["limits"]), self._folder / str(os.getpid())))
        os.close(channel)
        os.close(output)
        if pid > 0:
            self._sessions[pid] = message["open"]
        return None

    def _become(self, job: Job) -> Job:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return job

    def _reap(self) -> None:
        """Collect every child that ended, and end what is left of its session."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = ended
                key = self._sessions.pop(pid, None)
                if key is not None:
                    _kill_group(pid)
                    shutil.rmtree(self._folder / str(pid), ignore_errors=True)
                    self._tell({"gone": key, "status": status})
        self._kill_orphans()

    def _kill_orphans(self) -> None:
        """End what sessions left behind: children of ours that we did not make, once their own parent ended."""
        listed = Path(f"/proc/self/task/{os.getpid()}/children")
        if listed.exists():
            for pid in map(int, listed.read_text().split()):
                if pid not in self._sessions:
                    _kill(pid)

    def _tell(self, message: Message) -> None:
        self._control.sendall(encode(message))

    def _end(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for pid in self._sessions:
            _kill(pid)
        self._kill_orphans()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
                self._kill_orphans()
        shutil.rmtree(self._folder, ignore_errors=True)


def _kill(pid: int) -> None:
    """Kill a child of ours that is not reaped yet, and its process group if it leads one."""
    _kill_group(pid)
    os.kill(pid, signal.SIGKILL)


def _kill_group(leader: int) -> None:
    # No such group: nothing is left of it. Forbidden: nothing but zombies, as macOS sees it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
