"""How the processes of the sandbox talk: a length of four bytes, big-endian, then a JSON object.

JSON cannot run anything in its reader; the length is bounded before anything is kept. What is malformed raises
`ChannelError`, and whoever reads ends the peer: no message of such a peer counts.
"""

import json
from typing import Any

from sandbox.errors import ChannelError

Message = dict[str, Any]

READ_BYTES = 1 << 16


def encode(message: Message) -> bytes:
    """The bytes of one message."""
    body = json.dumps(message).encode("ascii")
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Cuts a stream of bytes into messages of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> bool:
        """Whether bytes wait that `next` has not returned."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Append what was read."""
        self._buffer += data

    def next(self) -> Message | None:
        """The next whole message, or None if more bytes are needed.

        Raises:
            ChannelError: The bytes are no message.
        """
        if len(self._buffer) < 4:
            return None
        size = int.from_bytes(self._buffer[:4], "big")
        if size > self._limit:
            raise ChannelError(f"a message of {size} bytes passes the limit of {self._limit}")
        if len(self._buffer) < 4 + size:
            return None
        body = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        return _parse(body)


def _parse(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ChannelError("a message is not JSON") from error
    if not isinstance(message, dict):
        raise ChannelError("a message is not an object")
    return message
