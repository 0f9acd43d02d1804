"""What a session does to its own folder is bounded, and stays there."""

import pytest

FILL = """
total = 0
for i in range({files}):
    fd = tried(os.open, f'part{{i}}', os.O_CREAT | os.O_WRONLY)
    for _ in range(4):
        total += tried(os.write, fd, bytes(2**20)) or 0
    {between}
if total > 40 * 2**20:
    reached(total)
"""


@pytest.mark.parametrize("between", ["os.close(fd)", "os.unlink(f'part{i}')"], ids=["kept", "unlinked but open"])
def test_files_together_are_bounded(attack, needs, between):
    needs("size of all files")
    attack(FILL.format(files=20, between=between))


def test_so_are_files_in_the_other_temporary_folders(attack, needs):
    needs("size of all files")
    attack("""
total = 0
for folder in ('/tmp', '/var/tmp', '/dev/shm', os.path.expanduser('~'), '.', '/run', '/mnt', '/dev', '/home', '/'):
    for i in range(3):
        with tried(open, os.path.join(folder, f'{TAG}-{i}'), 'wb', 0) or open(os.devnull, 'rb') as file:
            for _ in range(5):
                total += tried(file.write, bytes(2**20)) or 0
if total > 40 * 2**20:
    reached(total)
""")


def test_the_number_of_files_is_bounded(attack, needs):
    needs("size of all files")
    attack("""
made = 0
while made < 20000:
    fd = tried(os.open, f'f{made}', os.O_CREAT | os.O_WRONLY)
    if fd is None:
        break
    os.close(fd)
    made += 1
if made == 20000:
    reached(made)
""")


OWN_FOLDER = {
    "a file of a terabyte with nothing in it": """
for size in (10**9, 10**12, 2**62):
    ways = lambda fd: os.truncate(fd, size), lambda fd: os.posix_fallocate(fd, 0, size)
    for make in (*ways, lambda fd: os.pwrite(fd, b'x', size)):
        fd = os.open('sparse', os.O_CREAT | os.O_RDWR)
        if tried(lambda: make(fd) or True):
            reached(size)
""",
    "folders two thousand deep": """
for _ in range(2000):
    os.mkdir('d')
    os.chdir('d')
""",
    "a folder that nobody may enter": """
os.mkdir('closed')
open('closed/file', 'w').close()
os.chmod('closed', 0)
os.chmod('.', 0)
""",
    "its own folder is gone": """
import shutil
shutil.rmtree(os.getcwd(), ignore_errors=True)
os.makedirs('inner', exist_ok=True) if os.path.exists('.') else None
tried(os.chdir, 'inner')
tried(os.rmdir, os.getcwd())
""",
    "its own folder becomes a link to the caller's": """
here = os.getcwd()
tried(os.rename, here, here + '-old')
tried(os.rmdir, here)
tried(os.symlink, DROPS[0], here)
""",
    "names that are no text": """
for name in (b'\\xff\\xfe', b'new\\nline', b'-rf', b'a' * 255, '\\u202e'.encode()):
    open(name, 'w').close()
print(os.listdir('.'))
""",
    "a pipe that nobody writes to": """
os.mkfifo('pipe')
open('pipe').read()
""",
    "links that turn in a circle": """
os.symlink('a', 'b')
os.symlink('b', 'a')
os.symlink('.', 'here')
tried(open, 'a')
tried(open, '/'.join(['here'] * 100))
""",
    "files that belong to no mask": "os.umask(0o777)\nopen('f', 'w').close()\nos.mkdir('d')",
}


@pytest.mark.parametrize("code", OWN_FOLDER.values(), ids=OWN_FOLDER)
def test_what_it_does_to_its_own_folder_stays_there(attack, code):
    attack(code)
