"""No process outside is signalled, stopped, traced, slowed or looked at."""

import pytest

# Signals that a process which does not expect them ignores: for attacks on everyone.
HARMLESS = "import signal\nharmless = signal.SIGURG\n"

OTHERS = {
    "kills and stops": "for pid in [VICTIM, *OTHERS]:\n    for n in (19, 15, 9): tried(os.kill, pid, n)",
    "kills and stops groups": """
for pid in [VICTIM, *OTHERS]:
    for number in (19, 15, 9):
        if pid != CALLER:
            tried(os.kill, -pid, number)
""",
    "signals everyone": HARMLESS + "tried(os.kill, -1, harmless)",
    "signals the caller and its group": HARMLESS
    + """
for pid in (CALLER, -CALLER):
    tried(os.kill, pid, harmless)
""",
    "probes who is there": """
for pid in [CALLER, VICTIM, *OTHERS]:
    if tried(lambda: os.kill(pid, 0) or True):
        reached(pid)
""",
    "signals threads": """
for pid in [VICTIM, *OTHERS]:
    for number in (19, 10, 9):
        syscall('tgkill', pid, pid, number)
        syscall('tkill', pid, number)
""",
    "queues signals with words in them": """
words = ctypes.create_string_buffer(128)
for pid in [VICTIM, *OTHERS]:
    for number in (10, 34, 9):
        words[0:16] = number.to_bytes(4, 'little') + bytes(4) + (-1).to_bytes(4, 'little', signed=True) + bytes(4)
        syscall('rt_sigqueueinfo', pid, number, words)
        syscall('rt_tgsigqueueinfo', pid, pid, number, words)
""",
    "signals by descriptors of processes": """
for pid in [VICTIM, *OTHERS]:
    for flag in (0, 0o200):
        pidfd = syscall(434, pid, flag)
        if pidfd >= 0:
            for number in (19, 10, 9):
                for scope in (0, 1, 2, 4):
                    syscall(424, pidfd, number, None, scope)
""",
    "asks its channel for a descriptor of who made it": HARMLESS
    + """
import socket, stat
for fd in range(256):
    if tried(lambda: stat.S_ISSOCK(os.fstat(fd).st_mode)):
        end = socket.socket(fileno=os.dup(fd))
        pidfd = tried(lambda: int.from_bytes(end.getsockopt(socket.SOL_SOCKET, 77, 4), 'little'))
        if pidfd:
            for scope in (0, 1, 2, 4):
                if syscall(424, pidfd, int(harmless), None, scope) == 0:
                    reached(fd)
            for fd in range(3, 40):
                if syscall(438, pidfd, fd, 0) >= 0:
                    reached('descriptor', fd)
            if libc.setns(pidfd, 0x40000000) == 0:
                reached('network')
""",
    "owns a descriptor on behalf of another": """
import fcntl, socket, struct
for pid in [VICTIM, *OTHERS]:
    left, right = socket.socketpair()
    tried(fcntl.fcntl, left, 10, 10)
    tried(fcntl.fcntl, left, fcntl.F_SETOWN, pid)
    tried(fcntl.fcntl, left, 15, struct.pack('ii', 1, pid))
    for request in (0x8901, 0x8902):
        tried(fcntl.ioctl, left, request, struct.pack('i', pid))
    fcntl.fcntl(left, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    tried(right.send, b'x')
    tried(right.send, b'x', socket.MSG_OOB)
""",
    "owns a pipe on behalf of another": """
import fcntl, struct
for pid in [VICTIM, *OTHERS]:
    reader, writer = os.pipe()
    tried(fcntl.fcntl, reader, 10, 10)
    tried(fcntl.fcntl, reader, fcntl.F_SETOWN, pid)
    tried(fcntl.fcntl, reader, 15, struct.pack('ii', 1, pid))
    tried(fcntl.ioctl, reader, 0x8901, struct.pack('i', pid))
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b'x')
""",
    "has a grandchild, the shell and a program signal": """
import subprocess
for pid in [VICTIM, *OTHERS]:
    subprocess.run(['sh', '-c', f'(kill -STOP {pid}; kill -9 {pid}) 2>/dev/null'])
    tried(lambda: subprocess.run(['kill', '-9', str(pid)], capture_output=True))
tried(lambda: subprocess.run(['pkill', '-URG', '.'], capture_output=True))
""",
    "traces": """
for pid in [VICTIM, CALLER, *OTHERS]:
    if libc.ptrace(0x4206, pid, None, None) == 0 or pid == VICTIM and libc.ptrace(16, pid, None, None) == 0:
        reached(pid)
""",
    "reads and writes memory": """
buffer = ctypes.create_string_buffer(16)
mine = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 16)
for pid in [VICTIM, CALLER, *OTHERS]:
    for address in (0x400000, 0x555555554000, id(object()), ctypes.addressof(buffer)):
        theirs = (ctypes.c_uint64 * 2)(address, 16)
        if libc.process_vm_readv(pid, mine, 1, theirs, 1, 0) > 0:
            reached(pid)
    if tried(lambda: open(f'/proc/{pid}/mem', 'r+b')) is not None:
        reached(pid)
""",
    "slows down": """
for pid in [VICTIM, CALLER, *OTHERS]:
    tried(os.setpriority, os.PRIO_PROCESS, pid, 19)
    tried(os.setpriority, os.PRIO_PGRP, pid, 19)
    syscall('ioprio_set', 1, pid, 3 << 13)
""",
    "slows down all of the user": """
for user in {0, os.getuid(), os.geteuid()}:
    if tried(lambda: os.setpriority(os.PRIO_USER, user, 19) or True) and os.getpriority(os.PRIO_PROCESS, 0) < 19:
        reached(user)
""",
    "binds to one core": "for pid in [VICTIM, CALLER, *OTHERS]: tried(os.sched_setaffinity, pid, {0})",
    "schedules": """
for pid in [VICTIM, CALLER, *OTHERS]:
    for policy in (os.SCHED_BATCH, os.SCHED_IDLE, os.SCHED_FIFO):
        tried(os.sched_setscheduler, pid, policy, os.sched_param(0))
        attributes = (ctypes.c_uint32 * 12)(48, policy)
        syscall({'x86_64': 314, 'aarch64': 274}[os.uname().machine], pid, attributes, 0)
""",
    "takes away limits": """
import resource
for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_CORE):
    tried(resource.prlimit, VICTIM, which, (2**20, 2**20))
for pid in [CALLER, *OTHERS]:
    if tried(lambda: resource.prlimit(pid, resource.RLIMIT_RSS, resource.prlimit(pid, resource.RLIMIT_RSS))):
        reached(pid)
""",
    "reads limits": """
import resource
for pid in [VICTIM, CALLER, *OTHERS]:
    if tried(resource.prlimit, pid, resource.RLIMIT_NOFILE):
        reached(pid)
""",
    "changes them through /proc": """
for pid in [VICTIM, CALLER, *OTHERS]:
    for name in ('oom_score_adj', 'oom_adj', 'comm', 'clear_refs', 'coredump_filter', 'timerslack_ns', 'autogroup'):
        with tried(open, f'/proc/{pid}/{name}', 'w') or open(os.devnull, 'w') as file:
            tried(file.write, '1')
""",
    "moves their memory": """
nodes = (ctypes.c_ulong * 1)(1)
for pid in [VICTIM, CALLER, *OTHERS]:
    pidfd = syscall(434, pid, 0)
    calls = [('migrate_pages', pid, 64, nodes, nodes), ('kcmp', pid, CALLER, 0, 0, 0)]
    if pidfd >= 0:
        calls += [(440, pidfd, None, 0, 20, 0), (448, pidfd, 0)]
    for call in calls:
        if syscall(*call) >= 0:
            reached(pid, call)
""",
    "looks at who is there": """
for pid in [CALLER, VICTIM, *OTHERS]:
    for name in ('cmdline', 'environ', 'maps', 'status', 'stat', 'fd', 'cgroup', 'wchan', 'exe'):
        path = f'/proc/{pid}/{name}'
        if tried(lambda: open(path).read(1)) or tried(os.listdir, path) or tried(os.readlink, path):
            reached(path)
""",
    "leaves a group and joins another": """
for pid in [VICTIM, CALLER, *OTHERS]:
    if tried(lambda: os.setpgid(0, pid) or True) or tried(lambda: os.setpgid(pid, pid) or True):
        reached(pid)
""",
    "writes to terminals": """
for name in ('/dev/tty', '/dev/console', '/dev/tty0', '/dev/pts/0', '/dev/ptmx', '/dev/pts/ptmx'):
    if tried(os.open, name, os.O_RDWR | os.O_NONBLOCK) is not None:
        reached(name)
""",
}


@pytest.mark.parametrize("code", OTHERS.values(), ids=OTHERS)
def test_processes_of_others_are_left_alone(attack, code):
    attack(code)
