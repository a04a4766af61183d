"""Attacks from within a confined kernel: its sockets, its folder, its neighbours."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootbound_lda.audit import MemorySink
from rootbound_lda.kernel_policy import build_kernel_policy
from rootbound_lda.pins import GRANTED
from rootbound_lda.sandbox import Sandbox, base_env, probe

pytestmark = pytest.mark.asyncio

PRELUDE = """
import ctypes, errno, json, os, socket, sys
A = json.loads(sys.argv[1])
UNIX, STREAM, DGRAM = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM
def bound(path):
    found = socket.socket(UNIX)
    found.bind(path)
    return found
def fail(_):
    raise OSError(ctypes.get_errno(), 'refused')
"""
# Each must end in this error, and leave a record where one is named.
ATTACKS: dict[str, tuple[str, str, str | None]] = {
    "bind_in_a_root": ("bound(A['root'] + '/s')", "EACCES", "{root}/s"),
    "bind_outside": ("bound(A['outside'] + '/s')", "EACCES", "{outside}/s"),
    "bind_by_dots": ("bound(A['own'] + '/../s')", "EACCES", "{own}/../s"),
    "bind_in_a_link": (
        "os.symlink(A['outside'], A['root'] + '/link'); bound(A['root'] + '/link/s')",
        "EACCES", "{root}/link/s",
    ),
    "bind_abstract": ("bound('\\0rootbound-attack')", "EACCES", None),
    "bind_over_the_door": ("bound(A['own'] + '/backend')", "EACCES", "{own}/backend"),
    "bind_relative": ("os.chdir(A['own']); bound('s')", "EACCES", None),
    "connect_to_a_service": ("socket.socket(UNIX).connect(A['service'])", "EACCES", "{service}"),
    "connect_by_dots": (
        "socket.socket(UNIX).connect(A['own'] + '/../neighbour/kernel-1')", "EACCES ENOENT",
        "{own}/../neighbour/kernel-1",
    ),
    "connect_to_a_neighbour": (
        "socket.socket(UNIX).connect(A['neighbour'] + '/kernel-1')", "EACCES ENOENT",
        "{neighbour}/kernel-1",
    ),
    "connect_abstract": ("socket.socket(UNIX).connect(A['abstract'])", "EACCES", None),
    "datagram_socket": ("socket.socket(UNIX, DGRAM)", "EACCES", None),
    "udp": ("socket.socket(socket.AF_INET, DGRAM)", "EACCES", None),
    "mptcp": ("socket.socket(socket.AF_INET, STREAM, 262)", "EACCES", None),
    "write_the_connection_file": (
        "open(A['own'] + '/connection.json', 'w')", "EACCES", "{own}/connection.json",
    ),
    "replace_the_connection_file": (
        "open(A['root'] + '/c', 'w'); os.rename(A['root'] + '/c', A['own'] + '/connection.json')",
        "EACCES", "{own}/connection.json",
    ),
    "write_the_startup_file": ("open(A['own'] + '/startup.py', 'a')", "EACCES", "{own}/startup.py"),
    "remove_the_door": ("os.unlink(A['own'] + '/backend')", "EACCES", "{own}/backend"),
    "link_in_the_folder": (
        "os.symlink(A['service'], A['own'] + '/kernel-1')", "EACCES", "{own}/kernel-1",
    ),
    "replace_a_bound_socket": (
        "bound(A['own'] + '/kernel-1'); os.rename(A['own'] + '/kernel-1', A['own'] + '/kernel-2')",
        "EACCES", "{own}/kernel-1",
    ),
    "open_a_bound_socket_to_others": (
        "bound(A['own'] + '/kernel-1'); os.chmod(A['own'] + '/kernel-1', 0o777)", "EACCES",
        "{own}/kernel-1",
    ),
    "move_the_folder": ("os.rename(A['own'], A['root'] + '/own')", "EACCES", "{own}"),
    "read_a_neighbours_key": (
        "open(A['neighbour'] + '/connection.json').read()", "EACCES ENOENT", None,
    ),
    "read_jupyters_key": ("open(A['runtime'] + '/kernel-1.json').read()", "EACCES ENOENT", None),
    "read_the_stacks_secrets": ("open(A['secrets'] + '/django.key').read()", "EACCES ENOENT", None),
    "trace_the_supervisor": (
        "c = ctypes.CDLL(None, use_errno=True); c.ptrace(16, os.getppid(), 0, 0); fail(c)",
        "EPERM", None,
    ),
    "type_into_a_terminal": (
        "open(A['terminal'], 'w').write('typed')", "EACCES ENOENT", "{terminal}",
    ),
    "put_a_key_press_into_a_terminal": (
        "import fcntl; fcntl.ioctl(os.open(A['terminal'], os.O_RDWR), 0x5412, b'x')",
        "EACCES ENOENT", "{terminal}",
    ),
    "kill_the_lda": ("os.kill(A['lda'], 9)", "EPERM ESRCH", None),
    # What starts a kernel outside of the sandbox lies in a root: it could carry code out of it.
    "startup_in_the_environment": (
        "open(A['environment'] + '/lib/python3.11/site-packages/x.pth', 'w')", "EACCES",
        "{environment}/lib/python3.11/site-packages/x.pth",
    ),
    "interpreter_of_the_environment": (
        "os.unlink(A['environment'] + '/bin/python')", "EACCES", "{environment}/bin/python",
    ),
    "environment_moved_away": (
        "os.rename(A['environment'], A['root'] + '/gone')", "EACCES", "{environment}",
    ),
    "environment_by_a_link": (
        "os.symlink('venv/lib', A['root'] + '/l'); open(A['root'] + '/l/x.pth', 'w')", "EACCES",
        "{environment}/lib/x.pth",
    ),
    "startup_of_ipython": (
        "open(A['ipython'] + '/profile_default/startup/x.py', 'w')", "EACCES",
        "{ipython}/profile_default/startup/x.py",
    ),
    "schedule_of_another": (
        "os.sched_setscheduler(os.getppid(), os.SCHED_OTHER, os.sched_param(0))", "EPERM", None,
    ),
}  # fmt: skip
# Refused on the machine's network; a network of its own has nothing else in it.
ON_THE_MACHINES_NETWORK = {
    "connect_to_loopback": (
        "socket.create_connection(('127.0.0.1', A['port']), 5)", "EACCES ECONNREFUSED", None,
    ),
    "connect_to_loopback_by_another_name": (
        "socket.create_connection(('127.0.0.2', A['port']), 5)", "EACCES ECONNREFUSED", None,
    ),
    "connect_outwards": ("socket.create_connection(('192.0.2.1', 80), 5)", "EACCES", None),
    "bind_to_another_address": ("socket.create_server(('192.0.2.1', 0))", "EACCES", None),
}  # fmt: skip


class World:
    """A kernel's folders, a neighbour's, and services that must not be reached."""

    def __init__(self, base: Path) -> None:
        for part in ("home", "root/venv/bin", "root/venv/lib/python3.11/site-packages",
                     "root/ipython/profile_default/startup", "outside", "runtime", "state/secrets",
                     "state/run/k/own", "state/run/k/neighbour", "state/kernels/1"):  # fmt: skip
            (base / part).mkdir(parents=True)
        self.base = base
        self.own, self.neighbour = base / "state/run/k/own", base / "state/run/k/neighbour"
        for folder in (self.own, self.neighbour):
            (folder / "connection.json").write_text('{"key": "secret"}')
            (folder / "startup.py").write_text("")
        (base / "root/venv/pyvenv.cfg").write_text("")
        (base / "root/venv/bin/python").symlink_to(sys.executable)
        (base / "runtime/kernel-1.json").write_text('{"key": "secret"}')
        (base / "state/secrets/django.key").write_text("secret")
        self.hits: list[str] = []
        self._servers: list[socket.socket] = []
        self.abstract = f"\0rb-kernel-{os.getpid()}"
        for name in (str(base / "outside/service"), str(self.neighbour / "kernel-1"),
                     str(self.own / "backend"), self.abstract):  # fmt: skip
            server = socket.socket(socket.AF_UNIX)
            server.bind(name)
            self._serve(server, name)
        self.terminal, self._slave = os.openpty()
        os.set_blocking(self.terminal, False)
        tcp = socket.create_server(("", 0))
        self._serve(tcp, "tcp")
        self.places = {
            "own": str(self.own), "neighbour": str(self.neighbour), "root": str(base / "root"),
            "outside": str(base / "outside"), "service": str(base / "outside/service"),
            "runtime": str(base / "runtime"), "secrets": str(base / "state/secrets"),
            "abstract": self.abstract, "lda": os.getpid(), "port": tcp.getsockname()[1],
            "terminal": os.ttyname(self._slave), "environment": str(base / "root/venv"),
            "ipython": str(base / "root/ipython"),
        }  # fmt: skip

    def _serve(self, server: socket.socket, name: str) -> None:
        server.listen()
        self._servers.append(server)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    self.hits.append(name)
                    connection.close()

        threading.Thread(target=accept, daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        os.close(self.terminal)
        os.close(self._slave)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Sockets have short paths.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="rb-k-") as folder:
        made = World(Path(folder).resolve())
        monkeypatch.setenv("HOME", str(made.base / "home"))
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(made.base / "runtime"))
        monkeypatch.setenv("IPYTHONDIR", str(made.base / "root/ipython"))
        GRANTED.grant(made.base / "root")
        yield made
        made.close()


@contextlib.asynccontextmanager
async def runs(world: World, bubblewrap: str, sink: MemorySink) -> AsyncIterator[Any]:
    """Yield what runs code as the kernel of the world would."""
    facts = await probe(bubblewrap=bubblewrap)
    loopback = facts.wall is not None and facts.wall.has_loopback()
    policy = build_kernel_policy(
        session_id="s", private_dir=world.base / "state/kernels/1", sockets=world.own,
        state_dir=world.base / "state", writable_roots=[str(world.base / "root")],
        programs=[sys.executable, str(world.base / "root/venv/bin/python")], readable_paths=[],
        shared=None, network=False, loopback=loopback, terminals=facts.wall is not None, limits={},
    )  # fmt: skip
    sandbox = Sandbox(wall=facts.wall)
    await sandbox.start()
    runner = sandbox.runner(policy, sink)

    async def run(code: str) -> str:
        program = (
            f"{PRELUDE}\ntry:\n    exec({code!r})\n    print('DONE')\n"
            "except OSError as error:\n    print(errno.errorcode[error.errno])\n"
        )
        result = await runner.run(
            [sys.executable, "-I", "-S", "-c", program, json.dumps(world.places)],
            cwd=world.base / "root", env=base_env(policy), network=False, timeout_s=30,
        )  # fmt: skip
        return result.output.decode().strip()

    try:
        yield run
    finally:
        await runner.close()
        await sandbox.stop()


@pytest.mark.parametrize("bubblewrap", ["auto", "off"])
async def test_a_kernel_has_its_own_sockets_and_nothing_else(world: World, bubblewrap: str) -> None:
    sink = MemorySink()
    async with runs(world, bubblewrap, sink) as run:
        for name, (code, wanted, path) in {**ATTACKS, **ON_THE_MACHINES_NETWORK}.items():
            seen = len(sink.entries)
            said = await run(code)
            assert said in wanted.split(), (name, said)
            # What a wall hides is not there to be refused.
            if path is not None and said == "EACCES":
                place = path.format(**world.places)
                denied = [row["path"] for row in sink.entries[seen:] if row["result"] == "DENIED"]
                assert place in denied, (name, denied)
            for left in ("kernel-1", "kernel-2"):
                (world.own / left).unlink(missing_ok=True)
        assert world.hits == [], "nothing was reached"
        assert not os.path.lexists(world.base / "root/s")
        with pytest.raises(BlockingIOError):
            os.read(world.terminal, 1)

        # What a kernel needs works, and is on record: its sockets, which are its user's alone,
        # and the door.
        said = await run(
            "s = bound(A['own'] + '/kernel-1'); s.listen(); c = socket.socket(UNIX); "
            "c.connect(A['own'] + '/kernel-1'); s.accept(); "
            "print(oct(os.stat(A['own'] + '/kernel-1').st_mode)); "
            "socket.socket(UNIX).connect(A['own'] + '/backend'); "
            "os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)); "
            "os.unlink(A['own'] + '/kernel-1')"
        )
        assert said == f"{oct(stat.S_IFSOCK | 0o600)}\nDONE"
        made = {"operation": "WRITE", "result": "ALLOWED", "path": str(world.own / "kernel-1")}
        assert any(made.items() <= row.items() for row in sink.entries)
        assert world.hits == [str(world.own / "backend")]
        assert (world.own / "connection.json").read_text() == '{"key": "secret"}'
        # Terminals of its own are there where the machine's are not.
        said = await run("m, s = os.openpty(); os.write(s, b'own'); print(os.read(m, 3))")
        walled = (await probe(bubblewrap=bubblewrap)).wall is not None
        assert said == ("b'own'\nDONE" if walled else "EACCES")
