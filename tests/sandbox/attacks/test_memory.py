"""No way of taking memory leads far beyond the limit, and none takes the sandbox down."""

import pytest

# The limit is 128 MiB, and 32 more for the worker. Each attack stops at less than 1 GB, and counts in `taken` what it
# holds at once.
ENOUGH = "\nif taken > 250 * 2**20:\n    reached(taken)\n"

TAKE = {
    "shared memory without a name": """
import mmap
taken, kept = 0, []
for size in (2**29, *[2**24] * 20):
    page = tried(mmap.mmap, -1, size)
    if page is not None and taken < 2**28:
        for i in range(0, min(size, 2**28), 4096):
            page[i] = 1
        kept.append(page)
        taken += min(size, 2**28)
""",
    "many small maps": """
import mmap
taken, kept = 0, []
while taken < 300 * 2**20 and (page := tried(mmap.mmap, -1, 2**18)) is not None:
    for i in range(0, 2**18, 4096):
        page[i] = 1
    kept.append(page)
    taken += 2**18
""",
    "maps of special kinds": """
taken = 0
libc.mmap.restype = ctypes.c_void_p
for flags in (0x22, 0x21, 0x4022, 0x2022, 0x8022, 0x40022, 0x20022, 0x100022, 0x122):
    where = libc.mmap(None, ctypes.c_size_t(600 * 2**20), 3, flags, -1, ctypes.c_long(0))
    if where not in (None, 2**64 - 1):
        taken += 600 * 2**20
        break
""",
    "grows one map": """
taken = 0
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
where = libc.mmap(None, ctypes.c_size_t(2**20), 3, 0x21, -1, ctypes.c_long(0))
grown = libc.mremap(ctypes.c_void_p(where), ctypes.c_size_t(2**20), ctypes.c_size_t(600 * 2**20), 1)
if grown not in (None, 2**64 - 1):
    taken = 600 * 2**20
""",
    "moves the end of the heap": """
libc.sbrk.restype = ctypes.c_void_p
taken = 0 if libc.sbrk(ctypes.c_long(600 * 2**20)) == 2**64 - 1 else 600 * 2**20
""",
    "locks pages": """
libc.mlockall(7)
taken, parts = 0, []
while taken < 300 * 2**20:
    parts.append(bytearray(2**20))
    taken += 2**20
""",
    "files in memory": """
taken = 0
for flags in (0, 1, 2, 4):
    for _ in range(80):
        fd = syscall('memfd_create', b'x', flags)
        if fd < 0:
            break
        while taken < 300 * 2**20 and (tried(os.write, fd, bytes(2**20)) or 0) > 0:
            taken += 2**20
""",
    "secret memory": """
taken = 0
for _ in range(16):
    fd = syscall(447, 0)
    if fd >= 0 and tried(lambda: os.truncate(fd, 2**26) or True):
        taken += 2**26
""",
    "shared memory of System V": """
taken, kept = 0, []
libc.shmat.restype = ctypes.c_void_p
for _ in range(5):
    number = libc.shmget(0, ctypes.c_size_t(64 * 2**20), 0o1600)
    if number < 0:
        break
    kept.append(number)
    where = libc.shmat(number, None, 0)
    if where not in (None, 2**64 - 1):
        ctypes.memset(where, 1, 64 * 2**20)
        libc.shmdt(ctypes.c_void_p(where))
        taken += 64 * 2**20
for number in kept:
    libc.shmctl(number, 0, None)
""",
    "shared memory of POSIX": """
from multiprocessing import shared_memory
taken, kept = 0, []
for i in range(10):
    memory = tried(shared_memory.SharedMemory, f'{TAG}{i}', True, 64 * 2**20)
    if memory is None:
        break
    memory.buf[:] = bytes(64 * 2**20)
    kept.append(memory)
    taken += 64 * 2**20
for memory in kept:
    memory.unlink()
""",
    "the buffers of pipes": """
import fcntl
taken, kept = 0, []
while len(kept) < 600 and (pipe := tried(os.pipe)) is not None:
    os.set_blocking(pipe[1], False)
    tried(fcntl.fcntl, pipe[1], 1031, 2**20)
    kept.append(pipe)
    while (written := tried(os.write, pipe[1], bytes(2**16))):
        taken += written
""",
    "the buffers of sockets": """
import socket
taken, kept = 0, []
while len(kept) < 600 and (pair := tried(socket.socketpair)) is not None:
    kept.append(pair)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**24)
        while (written := tried(end.send, bytes(2**16))):
            taken += written
""",
    "the buffers of pipes, in many children": """
import fcntl, time
reader, writer = os.pipe()
for _ in range(40):
    if tried(os.fork) == 0:
        mine, kept = 0, []
        while len(kept) < 100 and (pipe := tried(os.pipe)) is not None:
            kept.append(pipe)
            os.set_blocking(pipe[1], False)
            while (written := tried(os.write, pipe[1], bytes(2**16))):
                mine += written
        os.write(writer, mine.to_bytes(8, 'little'))
        libc.usleep(400_000)
        os._exit(0)
time.sleep(0.3)
os.set_blocking(reader, False)
words = tried(os.read, reader, 4096) or b''
taken = sum(int.from_bytes(words[i : i + 8], 'little') for i in range(0, len(words), 8))
""",
    "descriptors on their way": """
import array, socket
taken, kept = 0, []
for _ in range(60):
    pair = tried(socket.socketpair)
    if pair is None:
        break
    kept.append(pair)
    pair[0].setblocking(False)
    while tried(socket.send_fds, pair[0], [bytes(2**12)], [0] * 250) is not None:
        taken += 2**12
""",
    "a raised limit": """
import resource
for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
    hard = resource.getrlimit(which)[1]
    tried(resource.setrlimit, which, (hard, hard))
taken, parts = 0, []
while taken < 300 * 2**20:
    parts.append(bytearray(2**20))
    taken += 2**20
""",
    "threads with large stacks": """
import threading, time
taken = 0
for size in (2**29, 2**26, 2**24):
    threading.stack_size(size)
    try:
        while taken < 300 * 2**20:
            threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
            taken += size
    except (RuntimeError, MemoryError):
        pass
""",
    "one child": """
reader, writer = os.pipe()
if os.fork() == 0:
    mine, parts = 0, []
    try:
        while mine < 300:
            parts.append(b'x' * 2**20)
            mine += 1
    finally:
        os.write(writer, mine.to_bytes(8, 'little'))
        os._exit(0)
os.close(writer)
taken = int.from_bytes(os.read(reader, 8), 'little') * 2**20
""",
}


@pytest.mark.parametrize("code", TAKE.values(), ids=TAKE)
def test_memory_beyond_the_limit_is_not_to_be_had(attack, code):
    attack(code + ENOUGH, spoils=True)


def test_a_program_gets_the_limit_and_at_most_what_the_interpreter_had(attack):
    attack("""
import subprocess, sys
code = '''
parts = []
try:
    while len(parts) < 10:
        parts.append(bytearray(2**26))
except MemoryError:
    pass
print(len(parts))
'''
count = subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True).stdout
if count.strip() == '10':
    reached(count)
""")


TOGETHER = """
import time
reader, writer = os.pipe()
for _ in range({children}):
    if tried(os.fork) == 0:
        {leave}
        parts = [b'x' * 2**20 for _ in range(100)]
        os.write(writer, b'x')
        libc.usleep(900_000)
        os._exit(0)
time.sleep(0.5)
os.set_blocking(reader, False)
if len(tried(os.read, reader, 100) or b'') == {children}:
    reached()
"""


@pytest.mark.parametrize(
    "leave", ["pass", "os.setsid()", "os.fork() and os._exit(0)"], ids=["children", "groups", "orphans"]
)
def test_children_together_are_bounded(attack, leave):
    attack(TOGETHER.format(children=6, leave=leave), spoils=True)


def test_programs_together_are_bounded(attack):
    attack("""
import time
words = ['dd', 'bs=100M', 'if=/dev/zero', 'of=/dev/null', 'status=none']
made = [os.posix_spawn('/bin/dd', words, os.environ) for _ in range(8)]
time.sleep(0.4)
if all(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in made):
    reached()
""", spoils=True)  # fmt: skip
