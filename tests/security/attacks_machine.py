# ruff: noqa: E501
"""Sockets, resources, and what a command leaves behind."""

from __future__ import annotations

from functools import partial

from tests.security.attack_model import (
    SURVIVED,
    TREE,
    Attack,
    Effect,
    denied,
    hit,
    refused,
    said,
    shown,
)

_socket = partial(Attack, category="Sockets", services=True)
_use = partial(Attack, category="Resources")
NO = refused("EACCES", "EPERM")
LEFT = shown("no file operation; the whole tree ends with the command", lambda w: True)


def _service(name: str, words: str, *, network: bool) -> Attack:
    code = f"s = socket.socket(socket.AF_UNIX); s.connect(A[{name!r}]); s.send(b'x')"
    tail = "_with_network" if network else ""
    return _socket(
        name=f"socket_of_{name}{tail}",
        code=code,
        effect=hit(name, words),
        evidence=NO,
        network=network,
    )


# fmt: off
SOCKETS = [
    *(_service("docker", "the container service takes a connection", network=on) for on in (False, True)),
    _service("dbus", "the desktop's bus takes a connection", network=True),
    _service("x11", "the display takes a connection", network=True),
    _service("ssh_agent", "the SSH agent takes a connection", network=True),
    _service("abstract", "an abstract socket takes a connection", network=True),
    _socket(name="unix_datagram", code="s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'x', A['unix_dgram'])", effect=hit("unix_dgram", "the system's log takes a message"), evidence=NO, network=True),
    _socket(name="unix_datagram_pair", code="s, t = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'x', A['unix_dgram'])", effect=hit("unix_dgram", "the system's log takes a message"), evidence=NO),
    _socket(name="unix_pair_reconnected", code="s, t = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(A['unix_dgram']); s.send(b'x')", effect=hit("unix_dgram", "the system's log takes a message"), evidence=NO, network=True),
    _socket(name="tcp", code="socket.create_connection(('127.0.0.1', A['tcp']), 2)", effect=hit("tcp", "a local service takes a connection"), evidence=NO),
    _socket(name="tcp_with_network", code="socket.create_connection(('127.0.0.1', A['tcp']), 2)", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="tcp_any_address", code="socket.create_connection(('0.0.0.0', A['tcp']), 2)", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="tcp_other_loopback", code="socket.create_connection(('127.1.2.3', A['tcp']), 2)", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="tcp_mapped", code="s = socket.socket(socket.AF_INET6); s.connect(('::ffff:127.0.0.1', A['tcp']))", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="tcp6_loopback", code="s = socket.socket(socket.AF_INET6); s.connect(('::1', A['tcp6']))", effect=hit("tcp6", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="tcp6_any_address", code="s = socket.socket(socket.AF_INET6); s.connect(('::', A['tcp6']))", effect=hit("tcp6", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="tcp_not_blocking", code="s = socket.socket(); s.setblocking(False); print(s.connect_ex(('127.0.0.1', A['tcp']))); s.connect(('127.0.0.1', A['tcp'])); time.sleep(0.05)", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="tcp_address_changed_in_memory", code="""
sys.setswitchinterval(1e-6)
libc = ctypes.CDLL(None, use_errno=True)
good = struct.pack('<H', 2) + struct.pack('>H', A['tcp']) + bytes([192, 0, 2, 1]) + bytes(8)
bad = struct.pack('<H', 2) + struct.pack('>H', A['tcp']) + bytes([127, 0, 0, 1]) + bytes(8)
address = ctypes.create_string_buffer(good, 16)
start, denied = time.monotonic(), False
def flip():
    while True:
        # The other thread has its turn at the end of a round, so each value needs its own.
        for value in (bad, good):
            address.raw = value
threading.Thread(target=flip, daemon=True).start()
while time.monotonic() < start + (0.3 if denied or A['boss'] else 8):
    s = socket.socket()
    s.setblocking(False)
    if libc.connect(s.fileno(), address, 16) and ctypes.get_errno() == errno.EACCES:
        denied = True
    s.close()
print('REFUSED EACCES' if denied else 'NEVER')
""", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="mptcp", code="""
try:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
except OSError as error:
    if error.errno != errno.EPROTONOSUPPORT:
        raise
    s = socket.socket()
s.connect(('127.0.0.1', A['tcp']))
""", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="fast_open", code="s = socket.socket(); s.sendto(b'x', 0x20000000, ('127.0.0.1', A['tcp'])); time.sleep(0.1)", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="fast_open_message", code="s = socket.socket(); s.sendmsg([b'x'], [], 0x20000000, ('127.0.0.1', A['tcp'])); time.sleep(0.1)", effect=hit("tcp", "a local service takes a connection"), evidence=NO, network=True),
    _socket(name="udp", code="s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', A['udp']))", effect=hit("udp", "a local service takes a packet"), evidence=NO, network=True),
    _socket(name="udp_connected", code="s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', A['udp'])); s.send(b'x')", effect=hit("udp", "a local service takes a packet"), evidence=NO, network=True),
    _socket(name="udp_message", code="s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendmsg([b'x'], [], 0, ('127.0.0.1', A['udp']))", effect=hit("udp", "a local service takes a packet"), evidence=NO, network=True),
    _socket(name="server", code="s = socket.create_server(('127.0.0.1', 0)); print('LISTENING')", effect=said("LISTENING", "the command waits for connections"), evidence=NO, network=True),
    _socket(name="listen_without_bind", code="s = socket.socket(); s.listen(); print('LISTENING')", effect=said("LISTENING", "the command waits for connections"), evidence=NO, network=True),
    _socket(name="netlink", code="socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); print('OPEN')", effect=said("OPEN", "a socket to the kernel's network tables"), evidence=refused("ENOTSUP"), network=True),
    _socket(name="raw_packets", code="socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); print('OPEN')", effect=said("OPEN", "a socket for raw packets"), evidence=NO, network=True, root_only=True),
    _socket(name="virtual_machine_host", code="""
try:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
except OSError as error:
    # A kernel without it says so; what must not happen is that it is asked at all.
    if error.errno != errno.EAFNOSUPPORT:
        raise
print('OPEN')
""", effect=said("OPEN", "the kernel is asked for a socket to the virtual machine's host"), evidence=NO, network=True),
    _socket(name="no_network_no_socket", code="socket.socket(); print('OPEN')", effect=said("OPEN", "a socket although the network is off"), evidence=NO),
]

_FORKS = """
pids = []
try:
    for _ in range(150):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        pids.append(pid)
except OSError as error:
    print('REFUSED', errno.errorcode[error.errno], flush=True)
print('COUNT', len(pids), 'MANY' if len(pids) == 150 else 'FEW', flush=True)
for pid in pids:
    os.kill(pid, 9)
"""
_THREADS = """
count = 0
go = threading.Event()
try:
    for count in range(150):
        threading.Thread(target=go.wait, daemon=True).start()
except RuntimeError:
    print('REFUSED EAGAIN', flush=True)
print('COUNT', count, 'MANY' if count == 149 else 'FEW', flush=True)
os._exit(0)
"""

RESOURCES = [
    _use(name="fork_bomb", code=_FORKS, effect=said("MANY", "as many processes as it likes"), evidence=refused("EAGAIN"), limits={"max_processes": 60}),
    _use(name="fork_bomb_that_goes_on", code="""
# Whoever is born does the same; where nothing stops it, it stops itself at 128.
def count():
    os.write(os.open('count', os.O_CREAT | os.O_APPEND | os.O_WRONLY), b'x')
bound, level = 7 if A['boss'] else 10 ** 9, 0
count()
while level < bound:
    try:
        child = os.fork()
    except OSError:
        continue
    level += 1
    if child == 0:
        count()
time.sleep(1)
""", effect=Effect("twice as many processes as the limit", lambda w: (w.tree / "count").stat().st_size > 120), evidence=shown("no file operation; the tree is killed long before its time is over, and other processes live", lambda w: w.result is not None and w.result.signal == 9 and not w.result.timed_out and w.victim_process.poll() is None), limits={"max_processes": 60}, timeout_s=60),
    _use(name="thread_bomb", code=_THREADS, effect=said("MANY", "as many threads as it likes"), evidence=refused("EAGAIN"), limits={"max_processes": 60}),
    _use(name="descriptors", code="kept = [os.open('mine.txt', os.O_RDONLY) for _ in range(300)]; print('MANY')", effect=said("MANY", "as many open files as it likes"), evidence=refused("EMFILE"), limits={"max_open_files": 64}),
    _use(name="descriptors_limit_raised", code="resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)); kept = [os.open('mine.txt', os.O_RDONLY) for _ in range(200)]; print('MANY')", effect=said("MANY", "as many open files as it likes"), evidence=shown("no file operation; the limit cannot be raised", lambda w: "REFUSED" in w.output or "not allowed" in w.output or "Error" in w.output), limits={"max_open_files": 64}),
    _use(name="file_size", code="""
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open('big', os.O_CREAT | os.O_WRONLY)
for _ in range(64):
    os.write(fd, b'x' * 65536)
print('BIG')
""", effect=said("BIG", "a file longer than the limit"), evidence=refused("EFBIG"), limits={"max_file_bytes": 1 << 20}),
    _use(name="file_size_by_truncate", code="signal.signal(signal.SIGXFSZ, signal.SIG_IGN); open('big', 'w'); os.truncate('big', 1 << 24); print('BIG')", effect=said("BIG", "a file longer than the limit"), evidence=refused("EFBIG"), limits={"max_file_bytes": 1 << 20}),
    _use(name="file_size_by_allocation", code="signal.signal(signal.SIGXFSZ, signal.SIG_IGN); os.posix_fallocate(os.open('big', os.O_CREAT | os.O_WRONLY), 0, 1 << 24); print('BIG')", effect=said("BIG", "a file longer than the limit"), evidence=refused("EFBIG"), limits={"max_file_bytes": 1 << 20}),
    _use(name="memory", code="""
try:
    kept = bytearray(1 << 29)
    print('BIG')
except MemoryError:
    print('REFUSED ENOMEM')
""", effect=said("BIG", "more memory than the limit"), evidence=refused("ENOMEM"), limits={"max_memory_bytes": 1 << 28}),
    _use(name="processor_time", code="""
end = time.process_time() + 2.0
while time.process_time() < end:
    pass
print('LONG')
""", effect=said("LONG", "more processor time than the limit"), evidence=shown("no file operation; the command is killed", lambda w: w.result is not None and w.result.signal in (9, 24)), limits={"cpu_seconds": 1}),
    _use(name="output_flood", code="""
for _ in range(160):
    os.write(1, b'x' * 65536)
""", effect=Effect("all of the output is kept in memory", lambda w: len(w.result.output if w.result else w.output) > 200_000), evidence=shown("no file operation; head and tail are kept, and the length", lambda w: w.result is not None and w.result.output_bytes == 160 * 65536), max_output=100_000),
    _use(name="locked_memory", code="import ctypes; ctypes.CDLL(None).mlock2; os.nice(-5); print('RAN')", effect=said("RAN", "the command takes precedence over others"), evidence=refused("EPERM"), root_only=True),
    _use(name="sleeps_past_its_time", code="""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
os.fork() == 0 and (os.setsid(), print(os.getpid(), flush=True), os.closerange(0, 3), time.sleep(30))
if A['boss']:
    os._exit(0)
time.sleep(30)
""", effect=SURVIVED, evidence=LEFT, timeout_s=1.0),
    _use(name="setsid_survivor", code="""
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.closerange(0, 3)
    time.sleep(30)
time.sleep(0.15)
os._exit(0)
""", effect=SURVIVED, evidence=LEFT),
    _use(name="double_fork_survivor", code="""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        os.closerange(0, 3)
        time.sleep(30)
    os._exit(0)
time.sleep(0.15)
os._exit(0)
""", effect=SURVIVED, evidence=LEFT),
    _use(name="adopting_survivor", code="""
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
if os.fork() == 0:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        os.closerange(0, 3)
        time.sleep(30)
    os.closerange(0, 3)
    time.sleep(30)
time.sleep(0.15)
os._exit(0)
""", effect=SURVIVED, evidence=LEFT),
    _use(name="stopped_survivor", code="""
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.closerange(0, 3)
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(0.15)
os._exit(0)
""", effect=SURVIVED, evidence=LEFT),
    _use(name="forks_faster_than_killed", code="""
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.closerange(0, 3)
    end = time.monotonic() + 8
    while time.monotonic() < end:
        # Each generation lives for a moment; killing one of them must not let the next one go.
        if os.fork():
            time.sleep(0.002)
            if os.getpid() % 2:
                os._exit(0)
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass
            time.sleep(8)
            os._exit(0)
        open('alive', 'w').write(str(os.getpid()))
time.sleep(0.15)
os._exit(0)
""", effect=Effect("a descendant goes on after the command's end", lambda w: _still_alive(w)), evidence=LEFT),
    _use(name="terminal_input", code="""
import pty
master, slave = pty.openpty()
os.setsid() if os.getpid() != os.getsid(0) else None
fcntl.ioctl(slave, 0x540E, 0)
fcntl.ioctl(slave, 0x5412, b'x')
print('TYPED')
""", effect=said("TYPED", "a key press is put into a terminal"), evidence=shown("WRITE DENIED the terminal", lambda w: any(path.startswith("/dev/pts/") for path in w.paths("DENIED", "WRITE")), is_audit=True), root_only=True),
    _use(name="audit_writes_denied_by_thousands", code="""
for n in range(3000):
    try:
        open(outside + f'/f{n}', 'w')
    except OSError:
        pass
""", effect=Effect("`outside` is filled with files", lambda w: len(list((w.base / "outside").iterdir())) > 100), evidence=shown("3,000 rows WRITE DENIED, numbered without a hole", lambda w: sum((row["operation"], row["result"]) == ("WRITE", "DENIED") for row in w.entries) == 3000, is_audit=True)),
]
# fmt: on


def _still_alive(world) -> bool:
    import os
    import signal
    import time
    from pathlib import Path

    mark = world.base / TREE / "alive"
    found = int(mark.read_text() or 0) if mark.exists() else 0
    time.sleep(0.1)
    later = int(mark.read_text() or 0) if mark.exists() else 0
    going = later != found
    for _ in range(200):
        group = [
            int(name.name)
            for name in Path("/proc").iterdir()
            if name.name.isdigit() and _cwd(name) == str(world.base / TREE)
        ]
        for pid in group:
            os.kill(pid, signal.SIGKILL)
        if not group:
            break
        going = True
    return going


def _cwd(process) -> str:
    import os

    try:
        return os.readlink(process / "cwd")
    except OSError:
        return ""


__all__ = ["RESOURCES", "SOCKETS", "denied"]
