# ruff: noqa: E501
"""Attacks of a command on what lies outside its policy, each also shown to work without it."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

Effect = Callable[..., bool]


def _changed(path: str) -> Effect:
    def check(world) -> bool:
        target = world.base / path
        return not target.is_file() or target.read_text() != "original"

    return check


def _exists(path: str) -> Effect:
    return lambda world: os.path.lexists(world.base / path)


def _gone(path: str) -> Effect:
    return lambda world: not os.path.lexists(world.base / path)


def _mode_changed(path: str) -> Effect:
    return lambda world: (world.base / path).stat().st_mode & 0o777 == 0o711


def _old(path: str) -> Effect:
    return lambda world: (world.base / path).stat().st_mtime < 1000


def _told(world) -> bool:
    return "the-secret-text" in world.output


def _said(word: str) -> Effect:
    return lambda world: word in world.output.split()


def _hit(name: str) -> Effect:
    def check(world) -> bool:
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            if name in world.hits:
                return True
            time.sleep(0.01)
        return name in world.hits

    return check


def _victim_dead(world) -> bool:
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        if world.victim_process.poll() is not None:
            return True
        time.sleep(0.01)
    return False


def _victim_limited(world) -> bool:
    return resource.prlimit(world.victim_process.pid, resource.RLIMIT_NOFILE)[0] == 17


def _xattr(path: str) -> Effect:
    return lambda world: "user.evil" in os.listxattr(world.base / path)


def _survived(world) -> bool:
    numbers = [int(word) for word in world.output.split() if word.isdigit()]
    assert numbers, world.output
    alive = []
    for number in numbers:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            alive.append(number)
    for number in alive:
        os.kill(number, 9)
    return bool(alive)


@dataclass(frozen=True)
class Attack:
    """Code, how to see that it worked, and the refusal that must be on record."""

    name: str
    code: str
    happened: Effect
    operation: str | None = None
    path: str | None = None
    network: bool = False
    needs: str | None = None


VICTIM = "outside/victim.txt"
TREE = "state/worktrees/a1"

# fmt: off
ATTACKS = [
    Attack("dotdot", "open('../../../outside/victim.txt', 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("absolute", "open(victim, 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("append", "open(victim, 'a').write('x')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("read_write", "os.write(os.open(victim, os.O_RDWR), b'x')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("create", "open(outside + '/new', 'w')", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("create_read_only", "os.open(outside + '/new', os.O_RDONLY | os.O_CREAT)", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("shell_redirect", "os.system('echo x > ' + victim)", _changed(VICTIM), "WRITE", VICTIM),
    Attack("symlink_file", "os.symlink(victim, 'l'); open('l', 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("symlink_dangling", "os.symlink(outside + '/new', 'l'); open('l', 'w')", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("symlink_folder", "os.symlink(outside, 'd'); open('d/new', 'w')", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("hard_link", "os.link(victim, 'h'); open('h', 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("proc_self_root", "open('/proc/self/root' + victim, 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("proc_self_cwd", "open('/proc/self/cwd/../../../outside/victim.txt', 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("proc_self_fd", "fd = os.open(A['reference'], os.O_RDONLY); open(f'/proc/self/fd/{fd}', 'w')", _changed("reference/ref.txt"), "WRITE", "reference/ref.txt"),
    Attack("dev_fd", "fd = os.open(A['reference'], os.O_RDONLY); open(f'/dev/fd/{fd}', 'w')", _changed("reference/ref.txt"), "WRITE", "reference/ref.txt"),
    Attack("o_path_fd", "fd = os.open(victim, os.O_PATH); open(f'/proc/self/fd/{fd}', 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("folder_fd", "fd = os.open(outside, os.O_PATH); os.open('victim.txt', os.O_WRONLY | os.O_TRUNC, dir_fd=fd)", _changed(VICTIM), "WRITE", VICTIM),
    Attack("chdir", "os.chdir(outside); open('victim.txt', 'w')", _changed(VICTIM), "WRITE", VICTIM),
    Attack("truncate", "os.truncate(victim, 0)", _changed(VICTIM), "WRITE", VICTIM),
    Attack("tmpfile", "fd = os.open(outside, os.O_TMPFILE | os.O_WRONLY); os.link(f'/proc/self/fd/{fd}', 'new', dst_dir_fd=os.open(outside, os.O_PATH), follow_symlinks=True)", _exists("outside/new"), "WRITE", "outside"),
    Attack("chmod", "os.chmod(victim, 0o711)", _mode_changed(VICTIM), "WRITE", VICTIM),
    Attack("fchmod", "os.fchmod(os.open(A['reference'], os.O_RDONLY), 0o711)", _mode_changed("reference/ref.txt"), "WRITE", "reference/ref.txt"),
    Attack("chmod_by_link", "os.symlink(victim, 'l'); os.chmod('l', 0o711)", _mode_changed(VICTIM), "WRITE", VICTIM),
    Attack("chmod_proc_fd", "fd = os.open(victim, os.O_PATH); os.chmod(f'/proc/self/fd/{fd}', 0o711)", _mode_changed(VICTIM), "WRITE", VICTIM),
    Attack("utime", "os.utime(victim, (1, 1))", _old(VICTIM), "WRITE", VICTIM),
    Attack("futime", "os.utime(os.open(A['reference'], os.O_RDONLY), (1, 1))", _old("reference/ref.txt"), "WRITE", "reference/ref.txt"),
    Attack("xattr", "os.setxattr(victim, 'user.evil', b'1')", _xattr(VICTIM), "WRITE", VICTIM, needs="xattr"),
    Attack("fxattr", "os.setxattr(os.open(A['reference'], os.O_RDONLY), 'user.evil', b'1')", _xattr("reference/ref.txt"), "WRITE", "reference/ref.txt", needs="xattr"),
    Attack("unlink", "os.unlink(victim)", _gone(VICTIM), "DELETE", VICTIM),
    Attack("rmdir", "os.rmdir(outside + '/folder')", _gone("outside/folder"), "DELETE", "outside/folder"),
    Attack("mkdir", "os.mkdir(outside + '/new')", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("symlink_outside", "os.symlink('x', outside + '/new')", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("link_outside", "open('mine', 'w'); os.link('mine', outside + '/new')", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("fifo_outside", "os.mkfifo(outside + '/new')", _exists("outside/new"), "WRITE", "outside/new"),
    Attack("rename_out", "open('mine', 'w'); os.rename('mine', victim)", _changed(VICTIM), "WRITE", VICTIM),
    Attack("rename_in", "os.rename(victim, 'stolen')", _gone(VICTIM), "DELETE", VICTIM),
    Attack("user_checkout", "open(A['repo'] + '/planted', 'w')", _exists("proj/repo/planted"), "WRITE", "proj/repo/planted"),
    Attack("git_file", "open('.git', 'a').write('x')", lambda w: (w.tree / ".git").read_text().endswith("x"), "WRITE", f"{TREE}/.git"),
    Attack("git_file_unlink", "os.unlink('.git')", _gone(f"{TREE}/.git"), "DELETE", f"{TREE}/.git"),
    Attack("git_file_replace", "open('g', 'w'); os.rename('g', '.git')", lambda w: (w.tree / ".git").read_text() == "", "WRITE", f"{TREE}/.git"),
    Attack("git_file_hard_link", "os.link('.git', 'g'); open('g', 'a').write('x')", lambda w: (w.tree / ".git").read_text().endswith("x"), "WRITE", f"{TREE}/.git"),
    Attack("git_common_config", "open(A['repo'] + '/.git/config', 'w')", _changed("proj/repo/.git/config"), "WRITE", "proj/repo/.git/config"),
    Attack("git_nested_config", "open('vendor/.git/config', 'w')", _changed(f"{TREE}/vendor/.git/config"), "WRITE", f"{TREE}/vendor/.git/config"),
    Attack("git_nested_hook", "open('vendor/.git/hooks/pre-commit', 'w')", _exists(f"{TREE}/vendor/.git/hooks/pre-commit"), "WRITE", f"{TREE}/vendor/.git/hooks/pre-commit"),
    Attack("git_nested_rename", "os.rename('vendor/.git', 'vendor/g'); open('vendor/g/config', 'w')", _gone(f"{TREE}/vendor/.git"), "DELETE", f"{TREE}/vendor/.git"),
    Attack("git_parent_rename", "os.rename('vendor', 'v2'); open('v2/.git/config', 'w')", lambda w: any(p.read_text() != "original" for p in w.tree.glob("*/.git/config")), "WRITE", f"{TREE}/v2/.git/config"),
    Attack("git_exchange", "os.mkdir('e'); sys_call(316, -100, b'vendor/.git', -100, b'e', 2)", lambda w: not (w.tree / "vendor/.git/config").exists(), "WRITE", f"{TREE}/vendor/.git", needs="x86_64"),
    Attack("git_by_symlink", "os.symlink('vendor/.git', 's'); open('s/config', 'w')", _changed(f"{TREE}/vendor/.git/config"), "WRITE", f"{TREE}/vendor/.git/config"),
    Attack("git_by_folder_fd", "fd = os.open('vendor/.git', os.O_PATH); os.open('config', os.O_WRONLY | os.O_TRUNC, dir_fd=fd)", _changed(f"{TREE}/vendor/.git/config"), "WRITE", f"{TREE}/vendor/.git/config"),
    Attack("git_chmod", "os.chmod('vendor/.git/config', 0o711)", _mode_changed(f"{TREE}/vendor/.git/config"), "WRITE", f"{TREE}/vendor/.git/config"),
    Attack("git_planted", "os.mkdir('sub'); os.mkdir('sub/.git')", _exists(f"{TREE}/sub/.git"), "WRITE", f"{TREE}/sub/.git"),
    Attack("git_moved_in", "t = os.environ.get('TMPDIR', '/tmp') + '/x%d' % os.getpid(); os.makedirs(t + '/.git'); os.rename(t, 'sub')", _exists(f"{TREE}/sub/.git"), needs="same_disk"),
    Attack("read_ssh", "print(open(A['home'] + '/.ssh/id_ed25519').read())", _told, "READ", "home/.ssh/id_ed25519"),
    Attack("read_state", "print(open(A['state'] + '/secrets/django.key').read())", _told, "READ", "state/secrets/django.key"),
    Attack("read_other_worktree", "print(open('../a2/other').read())", _told, "READ", "state/worktrees/a2/other"),
    Attack("read_by_symlink", "os.symlink(A['home'] + '/.ssh', 's'); print(open('s/id_ed25519').read())", _told, "READ", "home/.ssh/id_ed25519"),
    Attack("read_by_proc_root", "print(open('/proc/self/root' + A['home'] + '/.ssh/id_ed25519').read())", _told, "READ", "home/.ssh/id_ed25519"),
    Attack("read_by_o_path", "fd = os.open(A['home'] + '/.ssh/id_ed25519', os.O_PATH); print(open(f'/proc/self/fd/{fd}').read())", _told, "READ", "home/.ssh/id_ed25519"),
    Attack("list_ssh", "print('id_ed25519' in os.listdir(A['home'] + '/.ssh') and 'the-secret-text')", _told, "READ", "home/.ssh"),
    Attack("environ_of_others", "print(open(f\"/proc/{A['pid']}/environ\").read())", _told),
    Attack("signal", "os.kill(A['pid'], signal.SIGKILL)", _victim_dead),
    Attack("signal_by_pidfd", "signal.pidfd_send_signal(os.pidfd_open(A['pid']), signal.SIGKILL)", _victim_dead),
    Attack("ptrace", "sys_call(101, 16, A['pid'], 0, 0); print('ATTACHED')", _said("ATTACHED"), needs="x86_64"),
    Attack("prlimit", "import resource; resource.prlimit(A['pid'], resource.RLIMIT_NOFILE, (17, 17))", _victim_limited),
    Attack("unix_socket", "s = socket.socket(socket.AF_UNIX); s.connect(A['unix'])", _hit("unix")),
    Attack("unix_socket_with_network", "s = socket.socket(socket.AF_UNIX); s.connect(A['unix'])", _hit("unix"), network=True),
    Attack("tcp", "socket.create_connection(('127.0.0.1', A['tcp']), 2)", _hit("tcp")),
    Attack("tcp_with_network", "socket.create_connection(('127.0.0.1', A['tcp']), 2)", _hit("tcp"), network=True),
    Attack("tcp_any_address", "socket.create_connection(('0.0.0.0', A['tcp']), 2)", _hit("tcp"), network=True),
    Attack("tcp_other_loopback", "socket.create_connection(('127.1.2.3', A['tcp']), 2)", _hit("tcp"), network=True),
    Attack("tcp_mapped", "s = socket.socket(socket.AF_INET6); s.connect(('::ffff:127.0.0.1', A['tcp']))", _hit("tcp"), network=True),
    Attack("tcp6", "s = socket.socket(socket.AF_INET6); s.connect(('::1', A['tcp6']))", _hit("tcp6"), network=True),
    Attack("mptcp", "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.connect(('127.0.0.1', A['tcp']))", _hit("tcp"), network=True, needs="mptcp"),
    Attack("fast_open", "s = socket.socket(); s.sendto(b'x', 0x20000000, ('127.0.0.1', A['tcp'])); time.sleep(0.1)", _hit("tcp"), network=True),
    Attack("udp", "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', A['udp']))", _hit("udp"), network=True),
    Attack("udp_connected", "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', A['udp'])); s.send(b'x')", _hit("udp"), network=True),
    Attack("udp_message", "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendmsg([b'x'], [], 0, ('127.0.0.1', A['udp']))", _hit("udp"), network=True),
    Attack("server", "s = socket.create_server(('127.0.0.1', 0)); print('LISTENING')", _said("LISTENING"), network=True),
    Attack("setsid_survivor", """
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.closerange(0, 3)
    time.sleep(30)
time.sleep(0.2)
os._exit(0)
""", _survived),
    Attack("double_fork_survivor", """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        os.closerange(0, 3)
        time.sleep(30)
    os._exit(0)
time.sleep(0.2)
os._exit(0)
""", _survived),
    Attack("file_flags", """
import fcntl
fd = os.open(A['reference'], os.O_RDONLY)
flags = bytearray(8)
fcntl.ioctl(fd, 0x80086601, flags)
flags[0] |= 0x40
fcntl.ioctl(fd, 0x40086602, flags)
print('SET')
""", _said("SET"), needs="file_flags"),
]
# fmt: on

RACE = """
os.mkdir('real'); os.symlink(outside, 'fake')
stop = time.monotonic() + 1.0
def swap():
    while time.monotonic() < stop:
        for name in ('real', 'fake'):
            os.rename(name, 'slot'); os.rename('slot', name)
thread = threading.Thread(target=swap)
thread.start()
while time.monotonic() < stop and not os.path.exists(outside + '/won'):
    try:
        open('slot/won', 'w').close()
    except OSError:
        pass
"""


def _skip_unless(need: str | None, world) -> None:
    if need == "x86_64" and platform.machine() != "x86_64":
        pytest.skip("the number of the call is of x86-64")
    if need == "xattr":
        try:
            os.setxattr(world.tree, "user.test", b"1")
        except OSError:
            pytest.skip("this file system has no extended attributes")
    if need == "mptcp" and not Path("/proc/sys/net/mptcp").exists():
        pytest.skip("this kernel has no MPTCP")
    if need == "same_disk" and os.stat("/tmp").st_dev != world.tree.stat().st_dev:
        pytest.skip("the control needs one file system")


@pytest.mark.asyncio
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_attack_is_stopped_and_recorded(attack: Attack, world) -> None:
    _skip_unless(attack.needs, world)
    await world.attack(attack.code, network=attack.network)
    assert not attack.happened(world), world.output
    if attack.operation is not None:
        assert str(world.base / str(attack.path)) in world.denied(attack.operation), world.entries


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_works_without_the_sandbox(attack: Attack, world) -> None:
    _skip_unless(attack.needs, world)
    world.attack_plainly(attack.code)
    if attack.needs == "file_flags" and not attack.happened(world):
        pytest.skip("this file system has no file flags")
    assert attack.happened(world), world.output


@pytest.mark.asyncio
async def test_swapping_a_folder_for_a_link_never_wins(world) -> None:
    await world.attack(RACE)
    assert not (world.outside / "won").exists(), world.output
    assert str(world.outside / "won") in world.denied("WRITE")


def test_swapping_a_folder_for_a_link_wins_without_the_sandbox(world) -> None:
    world.attack_plainly(RACE)
    assert (world.outside / "won").exists()


@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() != 0, reason="others cannot read it anyway")
async def test_shadow_is_unreadable_for_root(world) -> None:
    await world.attack("print(open('/etc/shadow').read()[:4])")
    assert "root" not in world.output.splitlines()
    assert "/etc/shadow" in world.denied("READ")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "number", "args"),
    [
        ("io_uring_setup", 425, "8, ctypes.create_string_buffer(256)"),
        ("userns", 272, "0x10000000"),
        ("bpf", 321, "0, None, 0"),
        ("keyctl", 250, "0, -3, 1"),
        ("perf_event_open", 298, "None, 0, -1, -1, 0"),
        ("pidfd_getfd", 438, "os.pidfd_open(os.getpid()), 1, 0"),
        ("process_vm_writev", 311, "A['pid'], None, 0, None, 0, 0"),
        ("open_by_handle_at", 304, "-100, None, 0"),
        ("mount", 165, "None, None, None, 0, None"),
        ("chroot", 161, "b'.'"),
        ("setxattrat", 463, "-100, b'x', 0, b'user.x', None, 0"),
        ("file_setattr", 469, "-100, b'x', None, 0, 0"),
        ("openat2", 437, "-100, b'x', None, 0"),
        ("shmget", 29, "1234, 4096, 0o1600"),
        ("mq_open", 240, "b'x', 0o102, 0o600, None"),
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
async def test_calls_that_never_run(name: str, number: int, args: str, world) -> None:
    await world.attack(
        f"""
try:
    sys_call({number}, {args})
    print('RAN')
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    )
    assert world.output.split()[-1] in ("EPERM", "ENOSYS"), (name, world.output)


@pytest.mark.asyncio
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has two ways in")
async def test_the_32_bit_entry_kills(world) -> None:
    result = await world.attack(
        """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print('RAN', ctypes.CFUNCTYPE(ctypes.c_int)(address)())
"""
    )
    assert "RAN" not in world.output
    assert result.signal == 31
