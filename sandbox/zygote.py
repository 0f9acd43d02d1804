"""The warm process: a small fresh interpreter that has imported what models use, and forks one child per session.

Started by `launch.py` as a program of its own, never as a fork of the caller: it holds nothing of the caller's memory,
environment or open files. It is single-threaded. Its control socket carries, as `channel.py` says, `{"open": key}`
with two descriptors (the session's channel and output) and `{"kill": key}` one way, and
`{"ready": true, "refused": …, "mapped": bytes}`, `{"gone": key, "status": wait status}` the other way. When the socket
ends, or the caller does, it ends every session and itself.
"""

import array
import contextlib
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sandbox import isolation, kernel
from sandbox.channel import READ_BYTES, Frames, Message, encode
from sandbox.clear import remove_tree
from sandbox.grounds import Grounds, Refusals
from sandbox.limits import Limits
from sandbox.warm import freeze, warm_up
from sandbox.worker import Job, serve

MESSAGE_BYTES = START_BYTES = 1 << 16
ORPHAN_SECONDS = 0.1


def main(control: socket.socket, start: Message) -> None:
    """Run until the caller ends; in each forked child, become a session.

    Args:
        control: The control socket, at descriptor 0, with the start message still in it.
        start: `folder`, an empty folder for those of the sessions, gone in the end; and `limits`, of every session.
    """
    refused: Refusals = {}
    try:
        isolation.fix_addresses()
    except OSError as error:
        refused["fixed addresses"] = str(error)
    control.recv(START_BYTES)
    control = _moved(control)
    pid = isolation.leave_machine(refused)
    if pid != 0:
        stand_in(pid, control)
    job = _Zygote(control, Path(start["folder"]), Limits(**start["limits"])).run(refused)
    if job is not None:
        serve(job)


def _moved(control: socket.socket) -> socket.socket:
    """The same socket at another descriptor; standard input is empty from now on."""
    other = control.dup()
    control.detach()
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return other


def stand_in(pid: int, control: socket.socket) -> NoReturn:
    """Be the process that the caller started, while its child, the first of a namespace, is the warm process."""
    control.close()
    end_with_caller(lambda: os.kill(pid, signal.SIGKILL))
    _, status = os.waitpid(pid, 0)
    os._exit(abs(os.waitstatus_to_exitcode(status)))


def end_with_caller(end: Callable[[], None]) -> None:
    """Call `end` when the caller is gone; a child of it may hold the control socket open after that."""
    caller = os.getppid()

    def on_signal(*_: object) -> None:
        # It comes when the thread that started us ends; its process may live on.
        if os.getppid() != caller:
            end()

    signal.signal(signal.SIGHUP, on_signal)
    with contextlib.suppress(OSError):
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGHUP)


class _Zygote:
    def __init__(self, control: socket.socket, folder: Path, limits: Limits) -> None:
        self._control = control
        self._frames = Frames(MESSAGE_BYTES)
        self._descriptors: list[int] = []
        self._keys: dict[int, int] = {}  # pid → key
        self._pids: dict[int, int] = {}  # key → pid
        self._cleaners: set[int] = set()
        self._wake, self._wake_writer = socket.socketpair()
        self._limits = limits
        self._grounds = Grounds(folder)

    def run(self, refused: Refusals) -> Job | None:
        """Serve; returns a job in a forked child, None in the warm process when all is over."""
        self._listen_to_signals(refused)
        # Sessions have users of their own and must pass through to their own folder, not list the others.
        self._grounds.folder.chmod(0o711)
        try:
            warm_up()
            freeze()
            self._grounds = isolation.settle(self._grounds.folder, self._limits, refused)
            self._tell({"ready": True, "refused": self._grounds.refused, "mapped": self._grounds.mapped})
            job = self._loop()
            if job is None:
                _ignore_signals()
        except ConnectionError:
            job = None  # the caller ended
            _ignore_signals()
        except SystemExit:
            job = None  # a signal said that it ended, or asked for the end
        if job is None:
            self._end()
        return job

    def _listen_to_signals(self, refused: Refusals) -> None:
        for end in (self._wake, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: _exit_once())
        if "namespaces" in refused:
            end_with_caller(_exit_once)
        else:  # the process that stands in for us does so
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)

    def _loop(self) -> Job | None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(self._patience())}
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

    def _patience(self) -> float | None:
        """Seconds to the next look for orphans: the kernel does not say when a process gets a new parent."""
        if self._grounds.has("processes") or not self._keys:
            return None
        self._kill_orphans()
        return ORPHAN_SECONDS

    def _read(self) -> bool:
        space = socket.CMSG_SPACE(64 * array.array("i").itemsize)
        data, ancillary, _, _ = self._control.recvmsg(READ_BYTES, space)
        for _, _, packed in ancillary:
            self._descriptors += array.array("i", packed)
        self._frames.feed(data)
        return bool(data)

    def _obey(self, message: Message) -> Job | None:
        if "kill" in message:
            if (pid := self._pids.get(message["kill"])) is not None:
                _kill(pid)
            return None
        key = message["open"]
        channel, output = self._descriptors[:2]
        del self._descriptors[:2]
        try:
            pid = isolation.fork(self._grounds)
        except OSError as error:
            self._tell({"gone": key, "status": None, "problem": str(error)})
            pid = -1
        if pid == 0:
            return self._become(Job(channel, output, self._limits, self._grounds, key))
        os.close(channel)
        os.close(output)
        if pid > 0:
            self._keys[pid], self._pids[key] = key, pid
        return None

    def _become(self, job: Job) -> Job:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        return job

    def _reap(self) -> None:
        """Collect every child that ended, and end what is left of its session."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = ended
                self._cleaners.discard(pid)
                key = self._keys.pop(pid, None)
                if key is not None:
                    del self._pids[key]
                    self._clear(pid, key)
                    self._tell({"gone": key, "status": status})
        self._kill_orphans()

    def _clear(self, pid: int, key: int) -> None:
        """Remove what a session leaves where no namespace takes it along."""
        if not self._grounds.has("processes"):
            _kill_group(pid)
        if not self._grounds.has("private root"):
            self._remove(self._grounds.folder / str(key))

    def _remove(self, folder: Path) -> None:
        """In a process of its own, since it may take long, and others wait for their sessions."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                remove_tree(folder)
                status = 0
            finally:
                os._exit(status)
        self._cleaners.add(pid)

    def _kill_orphans(self) -> None:
        """End what sessions left behind: children of ours that we did not make, once their own parent ended."""
        listed = Path(f"/proc/self/task/{os.getpid()}/children")
        if not self._grounds.has("processes") and listed.exists():
            for pid in map(int, listed.read_text().split()):
                if pid not in self._keys and pid not in self._cleaners:
                    _kill(pid)

    def _tell(self, message: Message) -> None:
        self._control.sendall(encode(message))

    def _end(self) -> None:
        for pid in self._keys:
            _kill(pid)
        self._kill_orphans()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
                self._kill_orphans()
        if self._grounds.folder.exists():
            remove_tree(self._grounds.folder)


def _exit_once() -> NoReturn:
    _ignore_signals()
    sys.exit(0)


def _ignore_signals() -> None:
    """The end has begun: a caller's death shows as the end of the socket and as a signal, and the second one must not
    interrupt the clearing up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _kill(pid: int) -> None:
    """Kill a child of ours that is not reaped yet, and its process group if it leads one."""
    _kill_group(pid)
    os.kill(pid, signal.SIGKILL)


def _kill_group(leader: int) -> None:
    # No such group: nothing is left of it. Forbidden: nothing but zombies, as macOS sees it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
