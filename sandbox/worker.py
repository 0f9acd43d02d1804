"""A session's process: reads blocks from its channel, has them executed, answers.

Runs in a child of the warm process, which has imported everything below before it forked. Reads requests
`{"id", "code"}` from its channel, answers `{"id", "status", "error"}`; what is printed goes to the descriptor that the
caller gave it, so that it survives this process.
"""

import os
import socket
from dataclasses import dataclass
from typing import NoReturn

from sandbox.cells import Cells
from sandbox.channel import READ_BYTES, Frames, Message, encode
from sandbox.grounds import Grounds
from sandbox.layers import enter
from sandbox.limits import Limits

# More than the longest block that `session.py` sends, in which JSON may write a character with twelve.
REQUEST_BYTES = 1 << 21

# The exit status of an interpreter that the code left unable to go on.
BROKEN = 70


@dataclass
class Job:
    """What a fresh child needs to become a session."""

    channel: int
    output: int
    limits: Limits
    grounds: Grounds
    number: int


def serve(job: Job) -> NoReturn:
    """Become the interpreter of a session; returns only by ending the process."""
    enter(job.grounds, job.limits, job.number, {0, 1, 2, job.channel, job.output})
    # Programs that the code starts hold neither.
    for fd in (job.channel, job.output):
        os.set_inheritable(fd, False)
    channel = socket.socket(fileno=job.channel)
    channel.sendall(encode({"id": "ready"}))
    cells = Cells(job.limits, job.output)
    frames = Frames(REQUEST_BYTES)
    try:
        while True:
            request = _receive(channel, frames)
            channel.sendall(encode({"id": request["id"], **cells.run(request["code"])}))
    except BaseException:  # noqa: BLE001 - the code broke its interpreter; a traceback would be taken for its output
        os._exit(BROKEN)


def _receive(channel: socket.socket, frames: Frames) -> Message:
    while (message := frames.next()) is None:
        data = channel.recv(READ_BYTES)
        if not data:
            os._exit(0)
        frames.feed(data)
    return message
