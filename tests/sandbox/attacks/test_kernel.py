"""The kernel's doors that a session has no business at are shut, whoever it runs as."""

import pytest

# A call is granted if it succeeds, or fails for another reason than that it is forbidden or unknown. Each is chosen so
# that it does nothing even where it is granted: it lacks an argument, asks, or sets what is set already.
GRANTED = """
import errno
def granted(result, *harmless):
    number = ctypes.get_errno()
    if result >= 0 or number not in (errno.EPERM, errno.EACCES, errno.ENOSYS, *harmless):
        reached(result, number)
"""

CALLS = {
    "a program in the kernel": """
attributes = ctypes.create_string_buffer(128)
for command in (0, 5, 18, 28):
    attributes[0:16] = b''.join(n.to_bytes(4, 'little') for n in (2, 4, 4, 1))
    granted(syscall('bpf', command, attributes, 128))
""",
    "counters": """
attributes = ctypes.create_string_buffer(128)
for kind in (0, 1, 2, 4):
    for flags in (0, 1 << 5, 1 << 5 | 1 << 6):
        attributes[0:8] = kind.to_bytes(4, 'little') + (112).to_bytes(4, 'little')
        attributes[40:48] = flags.to_bytes(8, 'little')
        granted(syscall('perf_event_open', attributes, 0, -1, -1, 0))
        granted(syscall('perf_event_open', attributes, VICTIM, -1, -1, 0))
""",
    "page faults": "for flags in (0, 1, 0o2000000 | 1): granted(syscall('userfaultfd', flags))",
    "keys": """
for command, arguments in ((0, (-3, 1)), (0, (-5, 0)), (1, (None,)), (6, (-3,)), (11, (-5, None, 0)), (31, (None, 0))):
    granted(syscall('keyctl', command, *arguments))
for ring in (-1, -2, -3, -4, -5, -6):
    granted(syscall('add_key', b'user', TAG.encode(), b'x', 1, ring))
granted(syscall('request_key', b'user', TAG.encode(), None, -2))
""",
    "another kernel": """
granted(syscall('kexec_load', 0, 0, None, 0))
granted(syscall('kexec_file_load', -1, -1, 0, None, 0))
""",
    "modules": """
granted(syscall('init_module', None, 0, b''))
granted(syscall('finit_module', -1, b'', 0))
granted(syscall('delete_module', b'no-such-module', 0o4000))
""",
    "mounts": """
os.mkdir('there')
for kind, flags in ((b'tmpfs', 0), (b'proc', 0), (None, 4096), (None, 1 << 18), (None, 1 << 19), (None, 1 << 20)):
    granted(syscall('mount', b'none', b'there', kind, ctypes.c_ulong(flags), None))
    libc.umount2(b'there', 2)
granted(syscall('mount', b'/nowhere', b'/nowhere', None, ctypes.c_ulong(8192), None), errno.ENOENT)
""",
    "unmounting": """
for where in (b'/', b'/tmp', b'/dev/null', b'/usr', b'/proc', os.getcwd().encode()):
    granted(syscall('umount2', where, 4), errno.ENOENT)
""",
    "another root": """
os.mkdir('there')
granted(syscall('pivot_root', b'there', b'there'))
granted(libc.chroot(b'there'))
""",
    "the new ways of mounting": """
granted(syscall(428, -100, b'/', 1))
granted(syscall(429, -1, b'', -100, b'/', 0))
granted(syscall(430, b'tmpfs', 0))
granted(syscall(433, -100, b'/', 0))
granted(syscall(442, -100, b'/', 0, (ctypes.c_uint64 * 4)(), ctypes.c_size_t(32)))
granted(syscall(467, -100, b'/', 1, (ctypes.c_uint64 * 4)(), ctypes.c_size_t(32)))
""",
    "namespaces": """
spaces = 0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
for flag in (*spaces, 0x10020000, 0x400, 0x200):
    granted(syscall('unshare', flag))
""",
    "namespaces of others": """
for pid in ('self', 1, os.getppid(), CALLER, VICTIM):
    for name in ('user', 'mnt', 'net', 'pid', 'ipc', 'uts', 'cgroup', 'time'):
        fd = tried(os.open, f'/proc/{pid}/ns/{name}', os.O_RDONLY)
        if fd is not None:
            granted(syscall('setns', fd, 0), errno.EINVAL)
for pid in (CALLER, VICTIM, os.getppid(), os.getpid()):
    pidfd = syscall(434, pid, 0)
    for flag in (0x20000, 0x10000000, 0x40000000, 0x20020000):
        granted(syscall('setns', pidfd, flag))
""",
    "namespaces behind a descriptor": """
import fcntl
for fd in range(5):
    for request in (0xb701, 0xb702, 0xb703, *range(0xff01, 0xff0b)):
        if (inner := tried(fcntl.ioctl, fd, request)) is not None and inner > 2:
            reached(fd, hex(request))
pidfd = syscall(434, os.getpid(), 0)
for request in range(0xff01, 0xff0b):
    inner = libc.ioctl(pidfd, request, 0)
    if inner >= 0:
        granted(syscall('setns', inner, 0))
""",
    "file handles": """
handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
handle[0:4] = (128).to_bytes(4, 'little')
granted(syscall('name_to_handle_at', -100, b'/', handle, ctypes.byref(mount), 0))
granted(syscall('open_by_handle_at', -100, handle, 0))
""",
    "news of all files": "for flags in (0, 0x200, 0xe00, 0x4, 0x8): granted(syscall('fanotify_init', flags, 0))",
    "input of terminals": """
import fcntl
opened = [tried(os.open, path, os.O_RDWR | os.O_NONBLOCK) for path in ('/dev/tty', '/dev/ptmx', '/dev/tty1')]
for fd in [0, 1, 2, *filter(None, opened)]:
    for request, argument in ((0x5412, b'x'), (0x541c, b'\\3' + bytes(16)), (0x540e, 0), (0x5420, 0)):
        if tried(lambda: fcntl.ioctl(fd, request, argument) or True):
            reached(fd, hex(request))
""",
    "personalities": """
for personality in (0x0040000, 0x0400000, 0x0100000, 0x0200000, 0x8, 0x0800000):
    granted(syscall('personality', ctypes.c_ulong(personality)))
""",
    "quotas": """
for command in (0x800001, 0x800007, 0x800004):
    granted(syscall('quotactl', ctypes.c_uint((command << 8) & 0xffffffff), None, 0, None), errno.ENODEV)
    granted(syscall(443, 0, ctypes.c_uint((command << 8) & 0xffffffff), 0, None), errno.EBADF)
""",
    "swap": "granted(syscall('swapon', b'/no-such-file', 0))\ngranted(syscall('swapoff', b'/no-such-file'))",
    "the clock": """
import time
granted(syscall('settimeofday', None, None))
granted(libc.clock_settime(0, None), errno.EFAULT)
change = ctypes.create_string_buffer(256)
change[0:4] = (0x4000).to_bytes(4, 'little')
change[88:96] = (10000).to_bytes(8, 'little')
granted(libc.adjtimex(change))
""",
    "the end of the machine": "granted(libc.reboot(0x89ABCDEF))\ngranted(libc.reboot(0))",
    "accounting": "granted(syscall('acct', None))",
    "the log of the kernel": """
for action in (2, 3, 9, 10): granted(libc.klogctl(action, ctypes.create_string_buffer(64), 64))
""",
    "names of the machine": """
name = os.uname().nodename.encode()
granted(libc.sethostname(name, len(name)))
granted(libc.setdomainname(b'x', 1))
""",
    "ports and segments of the processor": """
if os.uname().machine == 'x86_64':
    granted(libc.iopl(3))
    granted(libc.ioperm(0x80, 1, 1))
    segment = (ctypes.c_uint32 * 4)(0, 0, 0xfffff, 0x51)
    for function in (0, 1, 2, 0x11):
        granted(syscall(154, function, segment, ctypes.c_ulong(16)))
""",
    "terminals of everyone": "granted(syscall('vhangup'))",
    "rings": """
granted(syscall(425, 1, ctypes.create_string_buffer(120)))
granted(syscall(426, -1, 0, 0, 0, None, 0))
granted(syscall(427, -1, 0, None, 0))
""",
    "descriptors of others": "granted(syscall(438, syscall(434, os.getpid(), 0), 0, 0))",
    "other processes' memory": """
buffer = ctypes.create_string_buffer(16)
part = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 16)
for pid in (os.getpid(), VICTIM, os.getppid()):
    granted(libc.process_vm_readv(pid, part, 1, part, 1, 0))
    granted(libc.process_vm_writev(pid, part, 1, part, 1, 0))
    granted(syscall('kcmp', pid, pid, 0, 0, 0))
""",
    "tracing of its own": """
if os.fork() == 0:
    granted(libc.ptrace(0, 0, None, None))
    os._exit(0)
child = os.fork()
if child == 0:
    libc.usleep(100_000)
    os._exit(0)
granted(libc.ptrace(0x4206, child, None, None))
""",
    "privileges": """
header, words = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
if libc.capget(header, words) == 0 and any(words):
    reached('has', list(words))
granted(libc.capset(header, (ctypes.c_uint32 * 6)(*[2**32 - 1] * 6)))
granted(libc.prctl(28, 0x2f, 0, 0, 0))
for capability in (0, 12, 21):
    granted(libc.prctl(47, 2, capability, 0, 0))
granted(libc.prctl(38, 0, 0, 0, 0), errno.EINVAL)
""",
    "its way back to where its memory can be read": """
for value in (1, 2):
    granted(libc.prctl(4, value, 0, 0, 0), errno.EINVAL)
granted(libc.prctl(0x59616d61, ctypes.c_ulong(2**64 - 1), 0, 0, 0), errno.EINVAL)
granted(libc.prctl(1, 0, 0, 0, 0))
""",
}


@pytest.mark.parametrize("code", CALLS.values(), ids=CALLS)
def test_what_a_session_has_no_business_with_is_refused(attack, code):
    attack(GRANTED + code, spoils=True)


def test_a_filter_of_its_own_does_not_lift_the_first(attack):
    attack(GRANTED + """
class Program(ctypes.Structure):
    _fields_ = (('length', ctypes.c_ushort), ('code', ctypes.c_char_p))
allow = (0x06).to_bytes(2, 'little') + bytes(2) + (0x7fff0000).to_bytes(4, 'little')
for flags in (0, 1, 2, 4, 8):
    syscall('seccomp', 1, flags, ctypes.byref(Program(1, allow)))
libc.prctl(22, 2, ctypes.byref(Program(1, allow)), 0, 0)
for call in (('socket', 1, 1, 0), ('unshare', 0x10000000), ('keyctl', 0, -3, 1)):
    granted(syscall(*call))
""")  # fmt: skip


def test_a_ruleset_of_its_own_does_not_lift_the_first(attack):
    attack("""
rules = syscall(444, (ctypes.c_uint64 * 1)(1 << 2), ctypes.c_size_t(8), 0)
root = os.open('/', os.O_PATH)
syscall(445, rules, 1, (4).to_bytes(8, 'little') + root.to_bytes(4, 'little'), 0)
syscall(446, rules, 0)
for path in SECRETS:
    print(tried(lambda: open(path).read()) or '')
""")


def test_a_strange_call_is_no_way_in(attack):
    attack("""
for number in (2**31 - 1, -1, 512, 547, 1000, 0x40000000, 0x40000000 | 165, 0x40000208, 2**32 - 1):
    if syscall(number, 0, 0, 0, 0, 0, 0) >= 0:
        reached(number)
""", spoils=True)  # fmt: skip
