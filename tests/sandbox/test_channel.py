"""Only a well-formed answer to the block that was asked counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.channel import Frames, encode
from sandbox.errors import ChannelError

messages = st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=4)


@given(sent=st.lists(messages, max_size=4), size=st.integers(1, 50))
def test_messages_come_through_however_they_are_cut(sent, size):
    data = b"".join(map(encode, sent))
    frames, received = Frames(1 << 20), []
    for start in range(0, len(data), size):
        frames.feed(data[start : start + size])
        while (message := frames.next()) is not None:
            received.append(message)
    assert received == sent
    assert not frames.pending


@pytest.mark.parametrize("data", [b"\xff" * 8, bytes(8), b"\0\0\0\2[]", b"\0\0\0\3NaN", b"\0\0\0\2\xff\xff"])
def test_noise_is_refused(data):
    frames = Frames(100)
    frames.feed(data)
    with pytest.raises(ChannelError):
        frames.next()


WRITE = """
import os
for fd in range(3, 256):
    try:
        os.write(fd, {data})
    except OSError:
        pass
"""
FORGED = b'{"id": "0123456789abcdef", "status": "ok", "error": null}'


@pytest.mark.parametrize("data", [b"\xff" * 64, bytes(64), len(FORGED).to_bytes(4, "big") + FORGED, b"\0\0\0\2{}"])
def test_what_is_written_to_the_channel_ends_the_session(session, data):
    assert session.run_sync(WRITE.format(data=data)).status == "crashed"
    assert session.run_sync("print('hon' + 'est')").text == "honest"


def test_what_is_written_after_the_answer_ends_the_session(session):
    late = "import threading, time\ndef late():\n    time.sleep(0.1)\n    exec(code)\n"
    session.run_sync(f"code = {WRITE.format(data=bytes(8))!r}\n{late}threading.Thread(target=late).start()")
    assert session.run_sync("import time\ntime.sleep(0.3)").status == "crashed"
    assert session.run_sync("6 * 7").text == "42"
