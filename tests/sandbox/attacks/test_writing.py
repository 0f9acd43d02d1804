"""No file of the machine is changed, and none is left anywhere."""

import pytest

CHANGE = {
    "truncates by the path": "for path in PRECIOUS: tried(os.truncate, path, 0)",
    "truncates while it opens for reading": "for path in PRECIOUS: tried(os.open, path, os.O_RDONLY | os.O_TRUNC)",
    "appends": "for path in PRECIOUS: tried(lambda: open(path, 'a').write('x'))",
    "appends with the shell": "for path in PRECIOUS: os.system(f'echo x 2>/dev/null >> {path}')",
    "changes its times": "for path in PRECIOUS: tried(os.utime, path)",
    "changes its mode": "for path in [*PRECIOUS, *DROPS]: tried(os.chmod, path, 0o600)",
    "changes its mode through a descriptor": """
for path in PRECIOUS:
    fd = tried(os.open, path, os.O_RDONLY)
    if fd is not None:
        tried(os.fchmod, fd, 0o600)
    path_only = tried(os.open, path, os.O_PATH)
    syscall(452, path_only or -1, b'', 0o600, 0x1000)
""",
    "gives it away": "for path in PRECIOUS: tried(os.chown, path, os.getuid(), os.getgid())",
    "adds an attribute": "for path in PRECIOUS: tried(os.setxattr, path, 'user.mark', b'x')",
    "adds an attribute by the newest call": """
arguments = (ctypes.c_uint64 * 2)(ctypes.addressof(value := ctypes.create_string_buffer(b'x')), 1)
for path in PRECIOUS:
    syscall(463, -100, path.encode(), 0, b'user.mark', arguments, ctypes.c_size_t(16))
""",
    "sets its flags": """
import fcntl
for path in PRECIOUS:
    fd = tried(os.open, path, os.O_RDONLY)
    if fd is not None and tried(fcntl.ioctl, fd, 0x40086602, (0x40).to_bytes(8, 'little')) is not None:
        reached(path)
""",
    "exchanges it with one of its own": """
open('mine', 'w').write('x')
for path in PRECIOUS:
    syscall('renameat2', -100, b'mine', -100, path.encode(), 2)
""",
    "moves it into its own folder": "for path in PRECIOUS: tried(os.rename, path, 'taken')",
    "moves its own file there": """
open(TAG, 'w').write('x')
for folder in FOLDERS:
    tried(os.rename, TAG, os.path.join(folder, TAG))
""",
    "links its own file there": """
open('mine', 'w').write('x')
for folder in DROPS:
    tried(os.link, 'mine', os.path.join(folder, TAG))
    tried(os.symlink, 'mine', os.path.join(folder, TAG))
""",
    "links the precious file to its own folder": """
for path in PRECIOUS:
    if tried(lambda: os.link(path, 'mine') or True):
        reached(path)
""",
    "makes folders": "for folder in DROPS: tried(os.mkdir, os.path.join(folder, TAG))",
    "makes a pipe": "for folder in DROPS: tried(os.mkfifo, os.path.join(folder, TAG))",
    "makes nodes": """
import stat
for folder in DROPS:
    for kind in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
        tried(os.mknod, os.path.join(folder, TAG), 0o666 | kind, 0)
""",
    "makes a socket": """
import socket
for folder in DROPS:
    tried(lambda: socket.socket(socket.AF_UNIX).bind(os.path.join(folder, TAG)))
""",
    "makes a nameless file and names it": """
for folder in DROPS:
    fd = tried(os.open, folder, os.O_TMPFILE | os.O_RDWR)
    if fd is not None:
        libc.linkat(fd, b'', -100, os.path.join(folder, TAG).encode(), 0x1000)
        reached(folder)
""",
    "maps it and writes to the memory": """
import mmap
for path in PRECIOUS:
    fd = tried(os.open, path, os.O_RDWR)
    if fd is not None:
        mmap.mmap(fd, 8)[0:1] = b'x'
""",
    "digs a hole into it": """
for path in PRECIOUS:
    fd = tried(os.open, path, os.O_WRONLY)
    if fd is not None:
        libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4))
""",
    "locks it": """
import fcntl
for path in PRECIOUS:
    fd = tried(os.open, path, os.O_RDONLY)
    if fd is not None and tried(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB) is None:
        reached(path)
""",
    "has libraries write there": """
import logging, shelve, sqlite3, tempfile
for folder in DROPS:
    for write in (
        lambda: logging.FileHandler(os.path.join(folder, TAG)),
        lambda: sqlite3.connect(os.path.join(folder, TAG)).execute('create table t (x)'),
        lambda: tempfile.mkstemp(dir=folder),
        lambda: shelve.open(os.path.join(folder, TAG)),
    ):
        try:
            write()
        except Exception:
            pass
""",
    "leaves a file in every folder of the caller": """
for folder in FOLDERS:
    for name in (TAG, '.' + TAG, TAG + '.pth', TAG + '.py'):
        path = os.path.join(folder, name)
        if path.startswith(os.getcwd() + os.sep):
            continue
        tried(lambda: open(path, 'x').close())
""",
    "plants code that the next interpreter would run": """
import site, sys
folders = [*sys.path, *tried(site.getsitepackages), site.getusersitepackages(), os.path.expanduser('~')]
for folder in folders:
    for name in ('sitecustomize.py', 'usercustomize.py', TAG + '.pth', '__pycache__/' + TAG + '.pyc'):
        path = os.path.join(folder, name)
        if path.startswith(os.getcwd()):
            continue
        fd = tried(os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        if fd is not None:
            os.unlink(path)
            reached(path)
""",
    "opens the library's own files for writing": """
import json, sys
files = [os.__file__, json.__file__, json.__cached__, sys.executable, '/bin/sh', '/usr/bin/env', '/etc/passwd']
for path in files:
    if tried(lambda: open(path, 'ab')) is not None or tried(lambda: open(path, 'r+b')) is not None:
        reached(path)
""",
    "makes everything writable again": """
for where in (b'/', b'/usr', b'/etc', b'/tmp', os.path.dirname(os.__file__).encode()):
    for flags in (32, 4096 | 32):
        if libc.mount(None, where, None, ctypes.c_ulong(flags), None) == 0:
            reached(where)
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    if syscall(442, -100, where, 0x8000, attributes, ctypes.c_size_t(32)) == 0:
        reached(where)
""",
}


@pytest.mark.parametrize("code", CHANGE.values(), ids=CHANGE)
def test_nothing_outside_is_changed(attack, code):
    attack(code)


def test_each_mount_but_the_private_folder_is_read_only(sandbox, session):
    if "private root" in sandbox.refused:
        pytest.skip(f"there is no private root here: {sandbox.refused['private root']}")
    code = (
        "import os, sys\npaths = ['/', '/usr/lib', os.path.dirname(os.__file__), sys.prefix + '/lib', '/dev/null']\n"
        "[path for path in paths if not os.statvfs(path).f_flag & os.ST_RDONLY], "
        "bool(os.statvfs('.').f_flag & os.ST_RDONLY)"
    )
    assert session.run_sync(code).text == "([], False)"
