"""Code that finds the channel spoils at most its own session."""

import pytest

# The channel is the only socket among the session's descriptors.
CHANNEL = """
import json, socket, stat
channel = next(fd for fd in range(256) if tried(lambda: stat.S_ISSOCK(os.fstat(fd).st_mode)))
def frame(body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return len(body).to_bytes(4, 'big') + body
def send(data):
    while data:
        data = data[os.write(channel, data):]
forged = {'id': '0', 'status': 'ok', 'error': 'REACHED' + ' IT'}
"""

SENT = {
    "a reply with every id that comes to mind": """
for number in ['', None, 0, 1, True, [], {}, '0' * 16, 'ready', 'f' * 16, 1.5, 10**20]:
    send(frame(forged | {'id': number}))
""",
    "a thousand replies": "send(b''.join(frame(forged | {'id': f'{i:016x}'}) for i in range(1000)))",
    "a reply without an id, a status, an error": """
for missing in ('id', 'status', 'error'):
    send(frame({k: v for k, v in forged.items() if k != missing}))
""",
    "a list, a number, a text, nothing": "for body in (b'[]', b'1', b'\"x\"', b'null', b''): send(frame(body))",
    "no JSON": "send(frame(b'{' * 100))",
    "no text": "send(frame(b'\\xff\\xfe' * 100))",
    "deep JSON": "send(frame(b'[' * 200000 + b']' * 200000))",
    "names twice": 'send(frame(b\'{"id": "0", "id": "1", "status": "ok", "status": "error", "error": null}\'))',
    "numbers that are none": 'send(frame(b\'{"id": NaN, "status": Infinity, "error": -Infinity, "x": 1e999999}\'))',
    "a number of a million digits": "send(frame(b'{\"id\": ' + b'9' * 900000 + b'}'))",
    "lone surrogates": 'send(frame(b\'{"id": "\\\\ud800", "status": "\\\\udfff", "error": "\\\\ud800"}\'))',
    "another message of the same protocol": """
send(frame({'id': 'ready', 'refused': {}, 'gone': 1, 'kill': 1, 'open': 1}))
""",
    "a frame of length zero": "send(bytes(4))",
    "a frame of four gigabytes": "send(b'\\xff' * 4 + b'x' * 100)",
    "a frame of just the largest size": "send((2**20).to_bytes(4, 'big') + b'x' * 2**20)",
    "a frame of just above it": "send((2**20 + 1).to_bytes(4, 'big') + b'x' * 2**20)",
    "half a frame, then the reply of the worker in it": "send((60).to_bytes(4, 'big'))",
    "a large frame begun, then silence": "send((2**20).to_bytes(4, 'big') + b'{')",
    "noise for ever": "while True: send(os.urandom(2**16))",
    "replies for ever": "data = frame(forged) * 1000\nwhile True: send(data)",
    "more than anyone reads, without waiting": """
os.set_blocking(channel, False)
while tried(os.write, channel, bytes(2**16)): pass
os.set_blocking(channel, True)
""",
    "descriptors with it": """
end = socket.socket(fileno=os.dup(channel))
for _ in range(20):
    tried(socket.send_fds, end, [frame(forged)], [0] * 200)
""",
    "credentials with it": """
import struct
end = socket.socket(fileno=os.dup(channel))
for pid in (0, 1, os.getpid(), CALLER):
    tried(end.sendmsg, [b'x'], [(socket.SOL_SOCKET, 2, struct.pack('iii', pid, 0, 0))])
""",
    "a byte out of the row": "tried(socket.socket(fileno=os.dup(channel)).send, b'x', socket.MSG_OOB)",
    "something into the requests": """
end = socket.socket(fileno=os.dup(channel))
end.settimeout(0.05)
tried(end.recv, 2**20, socket.MSG_PEEK)
tried(end.recv, 2**20)
""",
}

DONE = {
    "closes it": "os.close(channel)",
    "closes it and opens something in its place": "os.close(channel)\nos.open('f', os.O_CREAT | os.O_RDWR)",
    "puts the output in its place": "os.dup2(1, channel)",
    "puts it in the output's place": """
os.dup2(channel, 1)
os.dup2(channel, 2)
print('x' * 100)
os.write(1, b'REACHED' + b' IT')
""",
    "puts a pair of its own in its place": """
left, right = socket.socketpair()
os.dup2(left.fileno(), channel)
right.sendall(frame({'id': '0', 'code': 'x = 1'}))
""",
    "puts it in all places": "for fd in range(256): tried(os.dup2, channel, fd)",
    "lets it not block": "os.set_blocking(channel, False)",
    "shuts one way": "socket.socket(fileno=os.dup(channel)).shutdown(socket.SHUT_RD)",
    "shuts the other way": "socket.socket(fileno=os.dup(channel)).shutdown(socket.SHUT_WR)",
    "lets it time out": """
end = socket.socket(fileno=os.dup(channel))
for option in (20, 21):
    end.setsockopt(socket.SOL_SOCKET, option, (0).to_bytes(8, 'little') + (1).to_bytes(8, 'little'))
""",
    "makes its buffers small": """
end = socket.socket(fileno=os.dup(channel))
for option in (socket.SO_SNDBUF, socket.SO_RCVBUF, socket.SO_RCVLOWAT, socket.SO_PASSCRED, 42):
    tried(end.setsockopt, socket.SOL_SOCKET, option, 1)
""",
    "writes to it later, from a thread": """
import threading, time
def later():
    time.sleep(0.02)
    send(frame(forged))
threading.Thread(target=later).start()
""",
    "reads from it in a thread": """
import threading
def thief():
    while (data := os.read(channel, 2**16)):
        send(frame(forged | {'id': json.loads(data[4:])['id'], 'error': 'mine'}))
threading.Thread(target=thief, daemon=True).start()
""",
    "writes to it later, from a child": """
if os.fork() == 0:
    libc.usleep(20_000)
    send(frame(forged))
    os._exit(0)
""",
    "speaks for another session": """
for pid in OTHERS:
    pidfd = syscall(434, pid, 0)
    for number in range(3, 40):
        opened = tried(os.open, f'/proc/{pid}/fd/{number}', os.O_WRONLY | os.O_NONBLOCK)
        for fd in (opened, syscall(438, pidfd, number, 0)):
            tried(os.write, -1 if fd is None else fd, frame(forged))
""",
    "keeps it open in a child and ends": """
if os.fork() == 0:
    libc.usleep(300_000)
    os._exit(0)
os._exit(0)
""",
    "ends right after its answer": """
import threading, time
threading.Thread(target=lambda: (time.sleep(0.01), os._exit(0))).start()
""",
    "stops right after its answer": """
import signal, threading, time
threading.Thread(target=lambda: (time.sleep(0.01), os.kill(os.getpid(), signal.SIGSTOP))).start()
""",
    "becomes another program that speaks the protocol": """
import sys
os.set_inheritable(channel, True)
code = f'import os, time; os.write({channel}, {frame(forged)!r}); time.sleep(5)'
os.execv(sys.executable, ['python', '-I', '-S', '-c', code])
""",
    "uses up every descriptor": """
kept = []
while (fd := tried(os.open, '/dev/null', os.O_RDONLY)) is not None:
    kept.append(fd)
""",
}


@pytest.mark.parametrize("code", SENT.values(), ids=SENT)
def test_what_the_code_sends_itself_counts_for_nothing(attack, code):
    attack(CHANNEL + code, spoils=True)


@pytest.mark.parametrize("code", DONE.values(), ids=DONE)
def test_what_the_code_does_to_its_channel_ends_at_most_its_interpreter(attack, code):
    attack(CHANNEL + code, spoils=True)
