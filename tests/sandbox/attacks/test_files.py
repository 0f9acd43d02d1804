"""No file of the machine is read, nothing stays behind, and no session sees another's files."""

import secrets

import pytest

# ---------------------------------------------------------------- reading what is not the session's
READ = {
    "climbs up from its folder": """
for path in SECRETS:
    print(tried(lambda: open('../' * 40 + path).read()) or '')
""",
    "changes into the root, then goes down": """
for path in SECRETS:
    tried(os.chdir, '/')
    print(tried(lambda: open('.' + path).read()) or '')
""",
    "follows a chain of links, the last of them relative": """
for i, path in enumerate(SECRETS):
    os.symlink('../../../../../../../..' + path, f'last{i}')
    os.symlink(f'last{i}', f'first{i}')
    print(tried(lambda: open(f'first{i}').read()) or '')
""",
    "links a folder above it into its own": """
for i, path in enumerate(SECRETS):
    os.symlink(os.path.dirname(path), f'folder{i}')
    print(tried(lambda: open(f'folder{i}/' + os.path.basename(path)).read()) or '')
""",
    "lists the folders of the caller": """
for path in SECRETS:
    if os.path.basename(path) in (tried(os.listdir, os.path.dirname(path)) or ()):
        reached(path)
""",
    "scans the caller's folders": """
for path in SECRETS:
    with tried(os.scandir, os.path.dirname(path)) or open(os.devnull) as entries:
        for entry in entries:
            if entry.path == path:
                reached(path)
""",
    "globs and reads with the shell": """
import subprocess
for path in SECRETS:
    subprocess.run(['sh', '-c', 'cat "$(dirname "$0")"/.* "$(dirname "$0")"/* 2>/dev/null | head -c 90', path])
""",
    "reads with a fresh interpreter": """
import subprocess, sys
for path in SECRETS:
    code = 'import sys\\ntry: print(open(sys.argv[1]).read())\\nexcept OSError: pass'
    print(subprocess.run([sys.executable, '-I', '-S', '-c', code, path], capture_output=True, text=True).stdout)
""",
    "reads through the roots and folders of other processes": """
for pid in ['self', 'thread-self', 1, 2, CALLER, VICTIM, *OTHERS]:
    for way in ('root', 'cwd', f'task/{pid}/root'):
        for path in SECRETS:
            print(tried(lambda: open(f'/proc/{pid}/{way}{path}').read()) or '')
""",
    "leaves through the folders that it was given open": """
for fd in range(256):
    for path in SECRETS:
        inner = tried(lambda: os.open('../' * 40 + path, os.O_RDONLY, dir_fd=fd))
        if inner is not None:
            print(os.read(inner, 100))
""",
    "resolves by openat2, across mounts and magic links": """
how = (ctypes.c_uint64 * 3)(0, 0, 0)
for path in SECRETS:
    for start in (-100, 0, 1, 2, 3, 4):
        fd = syscall(437, start, ('../' * 40 + path).encode(), how, ctypes.c_size_t(24))
        if fd >= 0:
            print(os.read(fd, 100))
""",
    "reopens a descriptor that was opened for its path only": """
for path in SECRETS:
    fd = tried(os.open, path, os.O_PATH)
    if fd is not None:
        print(tried(lambda: open(f'/proc/self/fd/{fd}').read()) or '')
        print(tried(lambda: open(f'/dev/fd/{fd}').read()) or '')
        if libc.linkat(fd, b'', -100, b'linked', 0x1000) == 0:
            print(tried(lambda: open('linked').read()) or '')
""",
    "opens by a handle that it asked for": """
handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
handle[0:4] = (128).to_bytes(4, 'little')
for path in SECRETS:
    if syscall('name_to_handle_at', -100, path.encode(), handle, ctypes.byref(mount), 0) == 0:
        fd = syscall('open_by_handle_at', os.open('/', os.O_RDONLY), handle, 0)
        if fd >= 0:
            print(os.read(fd, 100))
""",
    "opens the root of every file system by a made-up handle": """
for inode in (2, 64, 96, 128, 256):
    for kind in (1, 0x81):
        handle = b''.join(n.to_bytes(4, 'little') for n in (8, kind, inode, 0))
        for where in ('/', '/tmp', os.__file__, os.path.dirname(os.__file__)):
            mount = tried(os.open, where, os.O_RDONLY)
            if mount is not None and (fd := syscall('open_by_handle_at', mount, handle, 0)) >= 0:
                reached(where, fd)
""",
    "takes a copy of the tree": """
for name in (428, 467):
    fd = syscall(name, -100, b'/', 1 | 0x8000, None, ctypes.c_size_t(0))
    if fd >= 0:
        reached(os.listdir(fd))
""",
    "makes a file system of its own": """
for kind in (b'tmpfs', b'proc', b'overlay', b'sysfs', b'devtmpfs', b'ext4', b'cgroup2'):
    fd = syscall(430, kind, 0)
    if fd >= 0:
        syscall(431, fd, 6, None, None, 0)
        if syscall(432, fd, 0, 0) >= 0:
            reached(kind)
""",
    "takes its folder's mounts away": """
for where in (b'/tmp', b'/var/tmp', b'/dev/shm', b'/dev', b'/usr', b'/', os.getcwd().encode()):
    if libc.umount2(where, 2) == 0:
        reached(where)
""",
    "leaves a root inside its root": """
os.mkdir('jail')
if libc.chroot(b'jail') == 0:
    reached()
    for _ in range(40):
        os.chdir('..')
    libc.chroot(b'.')
    for path in SECRETS:
        print(tried(lambda: open(path).read()) or '')
""",
    "mounts a folder of the caller's on its own": """
os.mkdir('there')
for path in SECRETS:
    if libc.mount(os.path.dirname(path).encode(), b'there', None, ctypes.c_ulong(4096 | 16384), None) == 0:
        print(open('there/' + os.path.basename(path)).read())
""",
    "lets the traceback of a program show it": """
import runpy, traceback
for path in SECRETS:
    try:
        runpy.run_path(path)
    except BaseException as error:
        print(getattr(error, 'text', '') or '')
""",
    "lets the line cache, the tokenizer, the archive importer read it": """
import linecache, tokenize, zipimport
for path in SECRETS:
    print(linecache.getline(path, 1))
    print(tried(lambda: tokenize.open(path).read()) or '')
""",
    "attaches it as a database": """
import sqlite3
for path in SECRETS:
    try:
        base = sqlite3.connect(f'file:{path}?mode=ro&immutable=1', uri=True)
        base.execute('select * from sqlite_master').fetchall()
    except sqlite3.DatabaseError as error:
        if 'not a database' in str(error):
            reached(path)
""",
    "loads it with numpy": """
import numpy
for path in SECRETS:
    print(bytes(numpy.fromfile(path, numpy.uint8)) if tried(numpy.fromfile, path, numpy.uint8) is not None else '')
""",
    "reads the accounts and keys of the machine": """
for path in ('/etc/shadow', '/etc/machine-id', '/etc/hosts', '/etc/ssh/sshd_config', '/etc/fstab'):
    if tried(lambda: open(path).read()):
        reached(path)
if len((tried(lambda: open('/etc/passwd').read()) or '').splitlines()) > 2:
    reached('accounts')
""",
    "looks around the machine": """
for folder in ('/sys', '/boot', '/var/log', '/var/lib', '/run', '/proc/sys', '/proc/1', '/sys/class/net', '/srv'):
    if tried(os.listdir, folder):
        reached(folder)
""",
    "opens devices": """
names = '''mem kmem port kmsg sda vda nvme0n1 xvda dm-0 loop0 loop-control fuse kvm net/tun ptmx tty tty1 console
vsock vhost-net vhost-vsock userfaultfd hwrng nvidia0 nvidiactl dri/card0 input/event0 snd/timer rtc0 cuse uinput
mapper/control'''
for name in names.split():
    fd = tried(os.open, '/dev/' + name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if fd is not None:
        reached(name)
""",
    "makes devices of its own": """
import stat
for kind, major, minor in ((stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 254, 0), (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 1, 11)):
    name = f'device-{major}-{minor}'
    tried(os.mknod, name, 0o666 | kind, os.makedev(major, minor))
    if tried(os.open, name, os.O_RDONLY | os.O_NONBLOCK) is not None:
        reached(name)
""",
}


@pytest.mark.parametrize("code", READ.values(), ids=READ)
def test_nothing_outside_is_read(attack, code):
    attack(code)


# ---------------------------------------------------------------- sessions among themselves
PLACES = (
    "('.', os.path.expanduser('~'), '/tmp', '/var/tmp', '/dev/shm', '/dev/mqueue', '/run', '/run/lock', '/run/user')"
)
LEAVE = {
    "files": f"""
import os
for folder in {PLACES}:
    for name in ('left-here', '.left-here'):
        try:
            open(os.path.join(folder, name), 'w').write('found')
        except OSError:
            pass
""",
    "shared memory": """
from multiprocessing import shared_memory
try:
    kept = shared_memory.SharedMemory('left-here', create=True, size=4096)
except OSError:
    pass
""",
    "a semaphore": """
import ctypes
ctypes.CDLL(None).sem_open(b'/left-here', 0o100, 0o666, 1)
""",
    "a semaphore and a queue of System V": """
import ctypes
libc = ctypes.CDLL(None)
libc.semget(0x5eed02, 1, 0o1666)
libc.msgget(0x5eed02, 0o1666)
""",
    "a message queue": """
import ctypes
ctypes.CDLL(None).mq_open(b'/left-here', 0o102, 0o666, None)
""",
    "a key": """
import ctypes, os
number = {'x86_64': 248, 'aarch64': 217}[os.uname().machine]
for ring in (-2, -3, -4, -5):
    ctypes.CDLL(None).syscall(number, b'user', b'left-here', b'found', 5, ring)
""",
    "an abstract socket": """
import socket
try:
    kept = socket.socket(socket.AF_UNIX)
    kept.bind('\\0left-here')
    kept.listen()
except OSError:
    pass
""",
}
# Takes away what it finds.
FIND = f"""
import ctypes, os, socket
from multiprocessing import shared_memory
libc = ctypes.CDLL(None)
for folder in {PLACES}:
    for name in ('left-here', '.left-here'):
        if os.path.lexists(os.path.join(folder, name)):
            print('FOUND', folder)
            os.unlink(os.path.join(folder, name))
try:
    memory = shared_memory.SharedMemory('left-here')
    print('FOUND', memory.name)
    memory.unlink()
except OSError:
    pass
libc.sem_open.restype = ctypes.c_void_p
if libc.sem_open(b'/left-here', 0):
    print('FOUND a semaphore')
    libc.sem_unlink(b'/left-here')
if libc.mq_open(b'/left-here', 0) >= 0:
    print('FOUND a queue')
    libc.mq_unlink(b'/left-here')
if (number := libc.semget(0x5eed02, 1, 0)) >= 0:
    print('FOUND semaphores of System V')
    libc.semctl(number, 0, 0)
if (number := libc.msgget(0x5eed02, 0)) >= 0:
    print('FOUND a queue of System V')
    libc.msgctl(number, 0, None)
call = {{'x86_64': 249, 'aarch64': 218}}[os.uname().machine]
if libc.syscall(call, b'user', b'left-here', None, 0) > 0:
    print('FOUND a key')
try:
    socket.socket(socket.AF_UNIX).connect('\\0left-here')
    print('FOUND a socket')
except OSError:
    pass
"""


@pytest.mark.parametrize("code", LEAVE.values(), ids=LEAVE)
def test_what_a_session_leaves_is_found_by_none(sandbox, code):
    with sandbox.session() as beside:
        with sandbox.session() as session:
            assert session.run_sync(code).status == "ok"
            assert beside.run_sync(FIND).text == "[no output]"
        assert beside.run_sync(FIND).text == "[no output]"
    with sandbox.session() as later:
        assert later.run_sync(FIND).text == "[no output]"


def test_no_session_reads_the_files_of_another(sandbox, surroundings):
    words = f"private {secrets.token_hex(4)}"
    with sandbox.session() as owner, sandbox.session() as thief:
        folder = owner.run_sync(f"import os\nopen('note', 'w').write({words!r})\nprint(os.getcwd())").output.strip()
        parent = folder.rpartition("/")[0] or "/"
        code = f"""
import os
for base in ({folder!r}, {parent!r}, '/tmp', '/var/tmp', '/dev/shm', '/proc'):
    for where, folders, files in os.walk(base):
        if 'note' in files:
            print(open(os.path.join(where, 'note')).read())
"""
        assert words not in thief.run_sync(code).text
        assert owner.run_sync("open('note').read()").text == repr(words)
