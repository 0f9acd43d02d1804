"""The standard streams of a session, made good again before each block."""

import io
import os
import sys


class Streams:
    """Puts standard input, output and error in place for a block, whatever the last one did to them.

    Output goes to one file, whoever writes it: `print`, a program that the code starts, the C library. Streams that
    are still good stay the same objects, since loggers and closures hold on to them.

    Args:
        output: Descriptor of that file.
    """

    def __init__(self, output: int) -> None:
        self._output = output
        self._writers: dict[int, io.TextIOWrapper] = {}

    def open(self) -> None:
        """Put the streams in place; input is empty."""
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BytesIO(), "utf-8")  # type: ignore[misc]
        for fd, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(self._output, fd)
            stream = self._writers.get(fd)
            if stream is None or stream.closed:
                stream = self._writers[fd] = _writer(fd)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    def flush(self) -> None:
        """Write out what is buffered.

        Raises:
            OSError: The file is full. What did not fit is dropped, or it would turn up in the next block's output.
        """
        for stream in {sys.stdout, sys.stderr, *self._writers.values()}:
            if stream is None or stream.closed:
                continue
            try:
                stream.flush()
            except OSError:
                self._writers = {fd: writer for fd, writer in self._writers.items() if writer is not stream}
                if isinstance(stream, io.TextIOWrapper):
                    _discard(stream)
                raise


def _writer(fd: int) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)


def _discard(stream: io.TextIOWrapper) -> None:
    """Close below the buffer, so that what is in it goes nowhere."""
    if isinstance(stream.buffer, io.BufferedWriter):
        stream.buffer.raw.close()
