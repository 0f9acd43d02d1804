"""Nobody is reached over any kind of socket, and none but connected pairs can be made."""

import pytest

FAMILIES = {
    "unix": 1, "ipv4": 2, "ax25": 3, "ipx": 4, "appletalk": 5, "x25": 9, "ipv6": 10, "key": 15, "netlink": 16,
    "packet": 17, "rds": 21, "ppp over x": 24, "can": 29, "tipc": 30, "bluetooth": 31, "rxrpc": 33, "isdn": 34,
    "phonet": 35, "ieee802154": 36, "caif": 37, "alg": 38, "nfc": 39, "vsock": 40, "kcm": 41, "qrtr": 42, "smc": 43,
    "xdp": 44, "mctp": 45,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_socket_of_a_family_can_be_made(attack, family):
    attack(f"""
import socket
for kind in (1, 2, 3, 4, 5, 6, 10):
    for protocol in (0, 1, 3, 4, 6, 15, 16, 17, 33, 58, 132, 136, 255, 262):
        for number in ('socket', 0x40000000 | 41):
            if (fd := syscall(number, {family}, kind, protocol)) >= 0:
                reached(kind, protocol)
                os.close(fd)
        if (made := tried(socket.socket, {family}, kind, protocol)) is not None:
            reached(kind, protocol)
            made.close()
""")


SEND = {
    "asks the library's resolver": """
import socket
for name in ('localhost', '127.0.0.1', 'metadata.google.internal'):
    tried(socket.create_connection, (name, PORT), 0.1)
""",
    "sends the first words with the connection": """
import socket
for port, family, host in ((PORT, socket.AF_INET, '127.0.0.1'), (globals().get('PORT6', 1), socket.AF_INET6, '::1')):
    tried(lambda: socket.socket(family).sendto(b'x', socket.MSG_FASTOPEN, (host, port)))
""",
    "takes another road of the same protocol": """
import socket
for protocol in (socket.IPPROTO_TCP, 262):
    def connect():
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        made.setblocking(False)
        made.connect_ex(('127.0.0.1', PORT))
        made.connect_ex(('0.0.0.0', PORT))
    tried(connect)
""",
    "sends datagrams over IPv4 and IPv6": """
import socket
for family, host, port in ((socket.AF_INET, '127.0.0.1', UDP), (socket.AF_INET6, '::1', globals().get('UDP6', 1)),
                           (socket.AF_INET6, '::ffff:127.0.0.1', UDP)):
    tried(lambda: socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', (host, port)))
    tried(lambda: socket.socket(family, socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, (host, port)))
""",
    "connects to sockets that are files": """
import socket
for path, kind in ((UNIX, socket.SOCK_STREAM), (UNIX_DGRAM, socket.SOCK_DGRAM), (UNIX_PACKET, socket.SOCK_SEQPACKET)):
    def connect():
        made = socket.socket(socket.AF_UNIX, kind)
        made.connect(path)
        made.send(b'x')
    tried(connect)
""",
    "connects to sockets that are files, by a link and by a descriptor": """
import socket
for path, kind in ((UNIX, socket.SOCK_STREAM), (UNIX_DGRAM, socket.SOCK_DGRAM)):
    tried(os.symlink, path, 'link')
    fd = tried(os.open, path, os.O_PATH)
    for way in ('link', f'/proc/self/fd/{fd}'):
        tried(lambda: socket.socket(socket.AF_UNIX, kind).connect(way))
    tried(os.unlink, 'link')
""",
    "connects to sockets without a file": """
import socket
tried(lambda: socket.socket(socket.AF_UNIX).connect(ABSTRACT))
tried(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', ABSTRACT_DGRAM))
""",
    "has one end of a pair send elsewhere": """
import socket
for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
    pair = tried(socket.socketpair, socket.AF_UNIX, kind)
    for end in pair or ():
        for address in (UNIX, UNIX_DGRAM, UNIX_PACKET, ABSTRACT, ABSTRACT_DGRAM):
            tried(end.sendto, b'x', address)
            tried(end.sendmsg, [b'x'], [], 0, address)
""",
    "makes the pair by the kernel's call": """
import socket
for kind in (2, 3, 2 | 0o2000000, 3 | 0o4000, 2 | 0o2004000):
    ends = (ctypes.c_int * 2)()
    if syscall('socketpair', 1, kind, 0, ends) == 0:
        for address in (UNIX_DGRAM, ABSTRACT_DGRAM):
            tried(socket.socket(fileno=os.dup(ends[0])).sendto, b'x', address)
    for family in (2, 10, 16, 30, 40):
        if syscall('socketpair', family, kind, 0, ends) == 0:
            reached(family)
""",
    "has one end of a pair connect anew": """
import socket
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
    for end in tried(socket.socketpair, socket.AF_UNIX, kind) or ():
        libc.connect(end.fileno(), (0).to_bytes(2, 'little') + bytes(14), 16)
        for address in (UNIX, UNIX_DGRAM, UNIX_PACKET, ABSTRACT, ABSTRACT_DGRAM):
            tried(end.connect, address)
            tried(end.send, b'x')
""",
    "turns its channel to someone else": """
import socket, stat
for fd in range(256):
    if tried(lambda: stat.S_ISSOCK(os.fstat(fd).st_mode)):
        end = socket.socket(fileno=os.dup(fd))
        for address in (UNIX, ABSTRACT):
            tried(end.connect, address)
            tried(end.bind, address)
            tried(end.listen)
            tried(end.accept)
""",
    "passes descriptors to itself and goes on with what arrives": """
import socket
left, right = socket.socketpair()
for fd in (0, 1, 2):
    socket.send_fds(left, [b'x'], [fd])
    _, fds, _, _ = socket.recv_fds(right, 1, 4)
    tried(lambda: socket.socket(fileno=fds[0]).connect(('127.0.0.1', PORT)))
""",
    "takes the caller's sockets": """
for pid in [CALLER, VICTIM, *OTHERS]:
    for flag in (0, 0o200):
        pidfd = syscall(434, pid, flag)
        for fd in range(40) if pidfd >= 0 else ():
            if syscall(438, pidfd, fd, 0) >= 0:
                reached(pid, fd)
""",
    "opens sockets in a ring": """
parameters = ctypes.create_string_buffer(120)
for entries in (1, 8):
    if syscall(425, entries, parameters) >= 0:
        reached(entries)
if ctypes.get_errno() not in (1, 38) or syscall(426, -1, 0, 0, 0, None, 0) >= 0 and ctypes.get_errno() not in (1, 38):
    reached(ctypes.get_errno())
""",
    "has the shell connect and send": """
import subprocess
words = f'exec 3<>/dev/tcp/127.0.0.1/{PORT}; echo x >&3; exec 4<>/dev/udp/127.0.0.1/{UDP}; echo x >&4'
for shell in ('bash', 'ksh', 'zsh'):
    tried(lambda: subprocess.run([shell, '-c', words], capture_output=True))
""",
    "has a fresh interpreter connect": """
import subprocess, sys
code = f'''
import socket
internet = (2, 1, ("127.0.0.1", {PORT})), (2, 2, ("127.0.0.1", {UDP}))
for family, kind, address in (*internet, (1, 1, {UNIX!r}), (1, 1, {ABSTRACT!r})):
    try:
        made = socket.socket(family, kind)
        made.connect(address)
        made.send(b"x")
    except OSError:
        pass
'''
subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True)
""",
    "has another language connect": """
import subprocess
code = f'''
use IO::Socket::INET;
IO::Socket::INET->new(PeerAddr => "127.0.0.1:{PORT}");
socket(S, 1, 1, 0);
connect(S, pack("S a*", 1, "{UNIX}"));
'''
tried(lambda: subprocess.run(['perl', '-e', code], capture_output=True))
for tool in (f'curl -s http://127.0.0.1:{PORT}', f'nc -z 127.0.0.1 {PORT}', 'ping -c1 ::1'):
    tried(lambda: subprocess.run(tool.split(), capture_output=True, timeout=0.3))
""",
    "asks for the machine's addresses": """
import socket, uuid
if [name for _, name in tried(socket.if_nameindex) or () if name != 'lo']:
    reached()
""",
    "waits for callers": """
import asyncio
async def serve():
    server = await asyncio.start_server(lambda r, w: None, '127.0.0.1', 0)
    if server.sockets:
        reached()
try:
    asyncio.run(serve())
except OSError:
    pass
""",
}


@pytest.mark.parametrize("code", SEND.values(), ids=SEND)
def test_nobody_is_reached(attack, code):
    attack(code)


def test_what_libraries_need_of_sockets_is_left(attack):
    result = attack("""
import asyncio, socket
left, right = socket.socketpair()
left.send(b'through')
print(right.recv(7).decode())
async def main():
    return await asyncio.to_thread(lambda: 'answered')
asyncio.run(main())
""")
    assert result.text == "through\n'answered'"


@pytest.mark.parametrize("number", [359, 102, 5, 11], ids=["socket", "socketcall", "open", "execve"])
def test_the_door_of_32_bit_programs_is_shut(attack, number):
    attack(f"""
import mmap, struct
if os.uname().machine == 'x86_64':
    # push rbx; eax = number; ebx = 2; ecx = 1; edx = 0; int 0x80; pop rbx; ret
    rest = bytes.fromhex('bb02000000 b901000000 ba00000000 cd80 5b c3')
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex('53 b8') + struct.pack('<I', {number}) + rest)
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    if (result := call()) >= 0 or result not in (-1, -38):
        reached(result)
""")


def test_two_sessions_do_not_meet_in_a_socket(sandbox):
    bind = """
import socket
kept = []
for kind, name in ((socket.SOCK_STREAM, '\\0meet'), (socket.SOCK_DGRAM, '\\0meet-too'), (socket.SOCK_STREAM, 'meet')):
    try:
        end = socket.socket(socket.AF_UNIX, kind)
        end.bind(name)
        kept.append(end)
        end.listen()
    except OSError:
        pass
"""
    meet = bind.replace("end.bind(name)", "end.connect(name)\n        print('MET')")
    with sandbox.session() as first, sandbox.session() as second:
        assert first.run_sync(bind).status == "ok"
        assert second.run_sync(meet).text == "[no output]"
