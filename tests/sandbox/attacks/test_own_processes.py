"""A session's own processes are few, end with it, and gain no rights."""

import pytest

# Each child ends by itself: were none refused, the machine has at most 400 more for a moment.
MANY = {
    "children": """
made = 0
for _ in range(200):
    pid = tried(os.fork)
    if pid is None:
        break
    if pid == 0:
        libc.usleep(900_000)
        os._exit(0)
    made += 1
if made >= 200:
    reached(made)
""",
    "children of children": """
import time
reader, writer = os.pipe()
for _ in range(8):
    tried(os.fork)
os.write(writer, b'x')
if os.getpid() != int(os.environ.setdefault('FIRST', str(os.getpid()))):
    os._exit(0)
time.sleep(0.3)
os.set_blocking(reader, False)
if os.getppid() != 0 and len(os.read(reader, 1000)) >= 200:
    reached()
""",
    "programs": """
made = 0
for _ in range(200):
    if tried(lambda: os.posix_spawn('/bin/sleep', [TAG, '0.9'], {})) is None:
        break
    made += 1
if made >= 200:
    reached(made)
""",
    "threads": """
import threading, time
threading.stack_size(65536)
made = 0
try:
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(0.9,), daemon=True).start()
        made += 1
except RuntimeError:
    pass
if made >= 200:
    reached(made)
""",
    "processes that replace each other, faster than anyone looks": """
import time
first = os.getpid()
until = time.monotonic() + 2
if tried(os.fork) == 0:
    os.setsid()
    for _ in range(300):
        if time.monotonic() > until:
            break
        if (tried(os.fork) or 0) > 0:
            os._exit(0)
        libc.usleep(500)
    os._exit(0)
""",
}


@pytest.mark.parametrize("code", MANY.values(), ids=MANY)
def test_processes_are_few(attack, needs, code):
    needs("number of processes")
    attack(code, spoils=True)


# ---------------------------------------------------------------- its own: how long
LEFT = {
    "a daemon: forked twice, in a session of its own, with nothing open": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        libc.sleep(20)
    os._exit(0)
os.wait()
""",
    "a daemon that asked not to die with its parent": """
if os.fork() == 0:
    os.setsid()
    libc.prctl(1, 0, 0, 0, 0)
    if os.fork() == 0:
        libc.prctl(1, 0, 0, 0, 0)
        os.closerange(0, 256)
        libc.sleep(20)
    os._exit(0)
os.wait()
""",
    "a child that ignores and blocks every signal": """
import signal
if os.fork() == 0:
    os.setsid()
    for number in range(1, 65):
        tried(signal.signal, number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    os.closerange(0, 256)
    libc.sleep(20)
""",
    "a child that is stopped": """
import signal
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 256)
    os.kill(os.getpid(), signal.SIGSTOP)
    libc.sleep(20)
""",
    "children of a process that adopts": """
libc.prctl(36, 1, 0, 0, 0)
for _ in range(3):
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            os.closerange(0, 256)
            libc.sleep(20)
        os._exit(0)
""",
    "programs under names of their own": """
import subprocess
for start in (True, False):
    subprocess.Popen([TAG, '20'], executable='/bin/sleep', start_new_session=start, stdin=-3, stdout=-3, stderr=-3)
""",
    "a program that the shell put in the background": """
words = f'(trap "" HUP TERM; exec -a {TAG} sleep 20) >/dev/null 2>&1 &'
os.posix_spawn('/bin/bash', ['bash', '-c', words], os.environ)
""",
    "a brother instead of a child": """
pid = syscall('clone', 0x8000 | 17, 0, 0, 0, 0)
if pid == 0:
    os.setsid()
    os.closerange(0, 256)
    libc.sleep(20)
    os._exit(0)
""",
    "a child that shares all but the number": """
pid = syscall('clone', 0x100 | 0x200 | 0x400 | 0x4000 | 17, 0, 0, 0, 0) if os.fork() == 0 else 1
if pid == 0:
    libc.sleep(20)
""",
    "a child by vfork in a child": """
if os.fork() == 0:
    os.closerange(0, 256)
    syscall({'x86_64': 58}.get(os.uname().machine, -1))
    libc.sleep(20)
    os._exit(0)
""",
    "a child that waits for a lock for ever": """
import fcntl
holder = open('lock', 'w')
fcntl.flock(holder, fcntl.LOCK_EX)
if os.fork() == 0:
    fcntl.flock(open('lock'), fcntl.LOCK_EX)
    os._exit(0)
""",
}


@pytest.mark.parametrize("code", LEFT.values(), ids=LEFT)
def test_its_own_end_with_the_session(attack, code):
    attack(code, spoils=True)


def test_a_child_that_writes_on_is_at_most_heard_in_its_own_session(attack):
    attack("""
if os.fork() == 0:
    while True:
        tried(os.write, 1, b'x')
        libc.usleep(1000)
""", spoils=True)  # fmt: skip


# ---------------------------------------------------------------- its own: with what rights
RIGHTS = {
    "namespaces by clone": """
for flag in (0x02000000, 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    for more in (0, 0x10000000):
        pid = syscall('clone', ctypes.c_ulong(flag | more | 17), 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            reached(hex(flag))
""",
    "namespaces by clone3": """
for flag in (0x80, 0x02000000, 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x200000000):
    arguments = (ctypes.c_uint64 * 11)(flag)
    arguments[4] = 17
    pid = syscall(435, arguments, ctypes.c_size_t(88))
    if pid == 0:
        os._exit(0)
    if pid > 0:
        reached(hex(flag))
""",
    "a chosen process number": """
numbers = (ctypes.c_int * 1)(4242)
arguments = (ctypes.c_uint64 * 11)()
arguments[4], arguments[8], arguments[9] = 17, ctypes.addressof(numbers), 1
pid = syscall(435, arguments, ctypes.c_size_t(88))
if pid == 0:
    os._exit(0)
if pid > 0:
    reached(pid)
""",
    "higher limits": """
import resource
for name in dir(resource):
    if name.startswith('RLIMIT_'):
        which = getattr(resource, name)
        soft, hard = resource.getrlimit(which)
        for value in (hard + 1, 2 * hard + 10**6, resource.RLIM_INFINITY):
            if hard != resource.RLIM_INFINITY:
                if tried(lambda: resource.setrlimit(which, (value, value)) or True):
                    reached(name)
                if tried(resource.prlimit, 0, which, (value, value)):
                    reached(name)
""",
    "higher limits, in a shell": """
import subprocess
for option in ('v', 'n', 'f', 'u', 'c'):
    words = f'ulimit -H{option} 1000000000 2>/dev/null && ulimit -S{option} 1000000000 2>/dev/null && ulimit -{option}'
    shown = subprocess.run(['bash', '-c', words], capture_output=True, text=True).stdout.strip()
    if shown == '1000000000':
        reached(option)
""",
    "a better place in the queue": """
for nice in (-1, -20):
    if tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, nice) or True):
        reached(nice)
for policy in (os.SCHED_FIFO, os.SCHED_RR):
    if tried(lambda: os.sched_setscheduler(0, policy, os.sched_param(1)) or True):
        reached(policy)
if syscall('ioprio_set', 1, 0, 1 << 13) == 0:
    reached('disk')
attributes = (ctypes.c_uint64 * 6)(48 | 6 << 32, 0, 0, 10**6, 10**7, 10**7)
if syscall({'x86_64': 314, 'aarch64': 274}[os.uname().machine], 0, attributes, 0) == 0:
    reached('deadline')
""",
    "other users": """
for user in (0, 1, 65534, 1000, 2**31 - 3):
    if user != os.getuid():
        for change in (os.setuid, os.setgid, lambda u: os.setresuid(u, u, u), lambda u: os.setgroups([u])):
            if tried(lambda: change(user) or True):
                reached(user)
""",
    "rights by a program that lends its own": """
import subprocess
open('sh', 'wb').write(open('/bin/sh', 'rb').read())
os.chmod('sh', 0o6755)
lenders = './sh -p -c', 'su -c', 'sudo -n sh -c', 'unshare -r sh -c', 'pkexec sh -c', 'setpriv --reuid 0 sh -c'
for words in lenders:
    done = tried(lambda: subprocess.run([*words.split(), 'id -u'], capture_output=True, text=True, stdin=-3))
    if done and done.stdout.strip() == '0' and os.getuid() != 0:
        reached(words)
""",
    "a group of control": """
import glob
for folder in ('/sys/fs/cgroup', *glob.glob('/sys/fs/cgroup/*/')):
    if tried(lambda: os.mkdir(os.path.join(folder, TAG)) or True):
        reached(folder)
        os.rmdir(os.path.join(folder, TAG))
""",
}


@pytest.mark.parametrize("code", RIGHTS.values(), ids=RIGHTS)
def test_it_gains_no_rights(attack, code):
    attack(code)
