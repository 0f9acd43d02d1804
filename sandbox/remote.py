"""The caller's side of the sandbox's processes: the warm process, and the workers that it forks."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from sandbox.channel import READ_BYTES, Frames, Message, encode
from sandbox.clear import remove_tree
from sandbox.errors import ChannelError, LostInterpreter, SandboxError
from sandbox.launch import launch, open_output, start_message
from sandbox.limits import Limits
from sandbox.watch import FamilyWatch

REPLY_BYTES = 1 << 20
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid

# Beyond these a process that says nothing is a fault of the machine, not of the code.
START_SECONDS = 60.0
END_SECONDS = 10.0

CLEARINGS, CLEARING_SECONDS = 20, 0.1


class Worker:
    """A session's process, as the caller sees it: a channel, the file that its output goes to, and news of its end."""

    def __init__(self, home: "WarmProcess", key: int, channel: socket.socket, output: int) -> None:
        self.home = home
        self.key = key
        self.output = output
        self.watch: FamilyWatch | None = None
        self._killing: asyncio.Future[None] | None = None
        self._channel = channel
        self._frames = Frames(REPLY_BYTES)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ask(self, request: Message) -> Message:
        """Send a request and return the one message that answers it.

        Raises:
            ChannelError: What came is no message, or more than one, or nothing.
            ConnectionError: The worker's end is closed.
        """
        await asyncio.get_running_loop().sock_sendall(self._channel, encode(request))
        return await self.receive()

    async def receive(self) -> Message:
        """The next message; raises as `ask` does."""
        loop = asyncio.get_running_loop()
        while (message := self._frames.next()) is None:
            data = await loop.sock_recv(self._channel, READ_BYTES)
            if not data:
                raise ChannelError("broke off its channel")
            self._frames.feed(data)
        if self._frames.pending:
            raise ChannelError("sent more than an answer")
        return message

    @property
    def exceeded(self) -> str:
        """The limit that its processes passed together, `memory` or `processes`, for which it was killed; or empty."""
        return self.watch.exceeded if self.watch is not None else ""

    async def ready(self, limits: Limits) -> None:
        """Wait for its first message, which comes before any code of the session runs; raises as `ask` does."""
        if sys.platform != "linux":
            await self.receive()
            return
        # With the message the kernel tells who sent it, by the number that the process has here.
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        await _readable(self._channel)
        data, ancillary, _, _ = self._channel.recvmsg(READ_BYTES, socket.CMSG_SPACE(CREDENTIALS.size))
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        if not data:
            raise ChannelError("broke off its channel")
        self._frames.feed(data)
        await self.receive()
        pid = CREDENTIALS.unpack(ancillary[0][2])[0]
        self.watch = FamilyWatch(pid, self.home.mapped, limits)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep an eye on all its processes together while a block runs, and after it if any go on."""
        if self.watch is None:
            yield
            return
        self.watch.start(self._kill)
        try:
            yield
        finally:
            self.watch.stop_if_alone()

    def _kill(self) -> None:
        self._killing = asyncio.ensure_future(self.home.kill(self))

    async def ending(self, seconds: float) -> str:
        """How the process ended, in words; empty if it has not within `seconds`."""
        done, _ = await asyncio.wait([self.ended], timeout=seconds)
        return self.ended.result() if done else ""

    def close(self) -> None:
        """Free the descriptors."""
        if self.watch is not None:
            self.watch.stop()
        self._channel.close()
        os.close(self.output)


class WarmProcess:
    """The warm process, as the caller sees it: it starts and ends workers. Belongs to one event loop."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", control: socket.socket, errors: IO[bytes], folder: str, limits: Limits
    ) -> None:
        self._process = process
        self._folder = folder
        self._limits = limits
        self._control = control
        self._errors = errors
        self._frames = Frames(REPLY_BYTES)
        self._workers: dict[int, Worker] = {}
        self._keys = 0
        self._sending = asyncio.Lock()
        self.problem: str | None = None
        self.refused: dict[str, str] = {}
        self.mapped = 0
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(control, self._on_readable)

    @classmethod
    async def start(cls, limits: Limits) -> Self:
        """Start it and wait until it can fork sessions with these limits.

        Raises:
            SandboxError: It did not come up; with what it printed.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        folder = tempfile.mkdtemp(prefix="sandbox-")
        with theirs:
            process = launch(theirs, errors)
        ours.sendall(start_message(folder, limits))  # it fits into the empty socket
        warm = cls(process, ours, errors, folder, limits)
        done, _ = await asyncio.wait([warm._ready], timeout=START_SECONDS)
        if not done:
            warm._fail(f"was not ready after {START_SECONDS:g} seconds")
        if warm.problem is not None:
            await warm.close()
            raise SandboxError(f"the sandbox cannot start: its warm process {warm.problem}")
        return warm

    async def start_worker(self) -> Worker:
        """Fork a worker and wait until it is ready.

        Raises:
            LostInterpreter: The warm process is gone.
            SandboxError: The worker did not come up though the warm process lives.
        """
        if self.problem is not None:
            raise LostInterpreter(self.problem)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._keys += 1
        worker = self._workers[self._keys] = Worker(self, self._keys, ours, open_output())
        try:
            with theirs:
                await self._send({"open": worker.key}, [theirs.fileno(), worker.output])
            async with asyncio.timeout(START_SECONDS):
                await worker.ready(self._limits)
        except (ChannelError, ConnectionError, TimeoutError) as problem:
            how = await worker.ending(1.0) or str(problem) or f"was not ready after {START_SECONDS:g} seconds"
            await self.end_worker(worker)
            if self.problem is not None:
                raise LostInterpreter(self.problem) from problem
            raise SandboxError(f"a session could not start: its process {how}. {self._complaint()}") from problem
        except BaseException:
            await self.end_worker(worker)
            raise
        return worker

    async def kill(self, worker: Worker) -> None:
        """Have a worker killed, with all its processes; does not wait."""
        await self._send({"kill": worker.key}, [])

    async def end_worker(self, worker: Worker) -> None:
        """Kill a worker and wait until it is gone with its files."""
        if worker.key in self._workers and self.problem is None:
            await self.kill(worker)
            if not await worker.ending(END_SECONDS):
                self._fail(f"did not end a session within {END_SECONDS:g} seconds")
        self._workers.pop(worker.key, None)
        worker.close()

    async def close(self) -> None:
        """End the warm process and with it every worker; a second time it does nothing."""
        if self._control.fileno() < 0:
            return
        self._loop.remove_reader(self._control)
        self._control.close()
        try:
            await asyncio.to_thread(self._process.wait, END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._errors.close()
        await self._remove_folder()

    async def _remove_folder(self) -> None:
        """The warm process does so itself, unless it was killed; then its last children may be at it still."""
        for _ in range(CLEARINGS + 1):
            if not Path(self._folder).exists():
                return
            try:
                await asyncio.to_thread(remove_tree, Path(self._folder))
            except OSError:
                await asyncio.sleep(CLEARING_SECONDS)
        warnings.warn(f"what sessions left in {self._folder} cannot be removed", stacklevel=2)

    async def _send(self, message: Message, descriptors: list[int]) -> None:
        """Send to the warm process, without blocking the loop when it is busy forking."""
        data = encode(message)
        async with self._sending:
            while data:
                try:
                    sent = socket.send_fds(self._control, [data], descriptors)
                except BlockingIOError:
                    await self._writable()
                except OSError:
                    self._on_end()
                    return
                else:
                    data, descriptors = data[sent:], []

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._control, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self._control)

    def _on_readable(self) -> None:
        try:
            data = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_end()
            return
        self._frames.feed(data)
        while (message := self._frames.next()) is not None:
            self._on_message(message)

    def _on_message(self, message: Message) -> None:
        if "ready" in message:
            self.refused = message["refused"]
            self.mapped = message["mapped"]
            self._ready.set_result(None)
        elif (worker := self._workers.pop(message["gone"], None)) is not None:
            worker.ended.set_result(message.get("problem") or _ending(message["status"]))

    def _on_end(self) -> None:
        status = self._process.poll()
        self._fail(f"ended{'' if status is None else f' with status {status}'}. {self._complaint()}".rstrip(" ."))

    def _fail(self, problem: str) -> None:
        """Note the fault and wake everyone who waits; they then look at `problem`."""
        self.problem = self.problem or problem
        self._loop.remove_reader(self._control)
        if not self._ready.done():
            self._ready.set_result(None)
        for worker in self._workers.values():
            worker.ended.set_result("ended with the sandbox")
        self._workers.clear()

    def _complaint(self) -> str:
        """The end of what the warm process printed to its error stream."""
        size = os.fstat(self._errors.fileno()).st_size
        text = os.pread(self._errors.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
        return f"It printed: {text}" if text else ""


async def _readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(channel, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(channel)


def _ending(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    if -code == signal.SIGKILL:
        return "was killed, by the code or for lack of memory"
    return f"died of {signal.Signals(-code).name}"
