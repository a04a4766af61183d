"""A small world to attack: a run's folders, a victim beside them, services of this machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from rootbound_lda.audit import MemorySink, verify_chain
from rootbound_lda.policy import Policy, build_policy
from rootbound_lda.sandbox import CommandResult, Sandbox, base_env
from tests.security.attack_model import NUMBERS, ORIGINAL, SECRET, TREE, VICTIM, Attack

PYTHON = os.path.realpath(sys.executable)
SERVICES = ("docker", "dbus", "x11", "ssh_agent")

# Imports only where the code needs them: an interpreter starts three times as fast without.
_MODULES = ("ctypes", "fcntl", "mmap", "resource", "socket", "struct", "threading")
_PRELUDE = """
import errno, os, signal, sys, time
A = eval(sys.argv[1])
victim, tree, outside, NR = A["victim"], A["tree"], A["outside"], A["nr"]
"""
_SYS_CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def sys_call(name, *args):
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = libc.syscall(ctypes.c_long(NR[name]), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""
_RUN = """
try:
    exec(compile(CODE, "attack", "exec"), globals())
except OSError as error:
    print("REFUSED", errno.errorcode.get(error.errno), error, flush=True)
"""


def program(code: str) -> str:
    imports = "".join(f"import {name}\n" for name in _MODULES if name in code)
    calls = _SYS_CALL if "sys_call" in code or "libc" in code else ""
    return f"{_PRELUDE}{imports}{calls}CODE = {code!r}\n{_RUN}"


@dataclass
class World:
    """Everything one attack sees; also what is known of it afterwards."""

    base: Path
    attack: Attack
    policy: Policy
    victim_process: subprocess.Popen[bytes]
    before: dict[str, bytes]
    hits: list[str] = field(default_factory=list)
    output: str = ""
    entries: list[dict[str, object]] = field(default_factory=list)
    result: CommandResult | None = None
    addresses: dict[str, object] = field(default_factory=dict)
    _servers: list[socket.socket] = field(default_factory=list)

    @property
    def tree(self) -> Path:
        return self.policy.worktree

    def paths(self, result: str, operation: str) -> set[str]:
        """Return the paths of the rows of a kind."""
        return {
            str(row["path"])
            for row in self.entries
            if (row["result"], row["operation"]) == (result, operation)
        }

    def command(self) -> list[str]:
        base = self.base
        places = {
            "victim": str(base / VICTIM), "tree": str(self.tree), "outside": str(base / "outside"),
            "state": str(base / "state"), "home": str(base / "home"), "base": str(base),
            "repo": str(base / "proj" / "repo"), "reference": str(base / "reference" / "ref.txt"),
            "pid": self.victim_process.pid, "lda": os.getpid(), "nr": NUMBERS, **self.addresses,
        }  # fmt: skip
        return [PYTHON, "-I", "-S", "-c", program(self.attack.code), repr(places)]

    async def confined(self, sandbox: Sandbox) -> None:
        """Run the attack as a command of the run."""
        sink = MemorySink()
        self.addresses["boss"] = 0
        self.result = await sandbox.runner(self.policy, sink).run(
            self.command(), cwd=self.tree, env=base_env(self.policy),
            network=self.attack.network, timeout_s=self.attack.timeout_s,
            max_output=self.attack.max_output,
        )  # fmt: skip
        self.output = self.result.output.decode("utf-8", "replace")
        self.entries = sink.entries
        if verify_chain(self.entries) is not None:
            raise AssertionError("the chain of the audit is broken")

    def plainly(self) -> None:
        """Run the same code with nothing in its way."""
        # Stands for what supervises a confined command.
        self.addresses["boss"] = self.victim_process.pid
        process = subprocess.Popen(
            self.command(),
            cwd=self.tree,
            env={**os.environ, "TMPDIR": str(self.policy.private_tmp)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=self.attack.timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        self.output = output.decode("utf-8", "replace")

    # -- its making and end --------------------------------------------------------------------

    def serve(self, place: Path) -> None:
        """Put up the servers that an attacker may want to reach."""
        for name in SERVICES:
            server = socket.socket(socket.AF_UNIX)
            self.addresses[name] = str(place / name)
            server.bind(str(place / name))
            self._listen(server, name)
        abstract = socket.socket(socket.AF_UNIX)
        self.addresses["abstract"] = f"\0rb-{os.getpid()}-{id(self)}"
        abstract.bind(str(self.addresses["abstract"]))
        self._listen(abstract, "abstract")
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addresses["unix_dgram"] = str(place / "log")
        datagrams.bind(str(place / "log"))
        self._listen(datagrams, "unix_dgram")
        self._listen_at_port("tcp", socket.create_server(("", 0)))
        self._listen_at_port("tcp6", socket.create_server(("::1", 0), family=socket.AF_INET6))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        self._listen_at_port("udp", udp)

    def share(self) -> None:
        """Have what another program of this user shares by number: all who know it may use it."""
        libc = ctypes.CDLL(None)
        self.addresses["queue"] = libc.msgget(0, 0o600)
        message = struct.pack("@l", 1) + SECRET.encode()
        libc.msgsnd(self.addresses["queue"], message, len(SECRET), 0)
        self.addresses["semaphore"] = libc.semget(0, 1, 0o600)
        self.addresses["memory"] = libc.shmget(0, 4096, 0o600)

    def shared(self, what: str) -> bool:
        """Whether it is still there: the queue, the semaphore or the memory."""
        libc, facts = ctypes.CDLL(None), ctypes.create_string_buffer(256)
        ask = {"queue": libc.msgctl, "memory": libc.shmctl}.get(what)
        number = self.addresses[what]
        if ask is None:
            return bool(libc.semctl(number, 0, 12) >= 0)
        return bool(ask(number, 2, facts) >= 0)

    def _unshare(self) -> None:
        libc = ctypes.CDLL(None)
        libc.msgctl(self.addresses["queue"], 0, None)
        libc.semctl(self.addresses["semaphore"], 0, 0)
        libc.shmctl(self.addresses["memory"], 0, None)

    def _listen_at_port(self, name: str, server: socket.socket) -> None:
        self.addresses[name] = server.getsockname()[1]
        self._listen(server, name)

    def _listen(self, server: socket.socket, name: str) -> None:
        if server.type & 0xF != socket.SOCK_DGRAM:
            server.listen()
        self._servers.append(server)
        threading.Thread(target=_serve, args=(server, name, self.hits), daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            # Closing alone would leave the thread waiting.
            server.shutdown(socket.SHUT_RDWR) if server.type & 0xF != socket.SOCK_DGRAM else None
            server.close()
        if self.attack.shares:
            self._unshare()
        self.victim_process.kill()
        self.victim_process.wait()
        shutil.rmtree(self.base, ignore_errors=True)


def _serve(server: socket.socket, name: str, hits: list[str]) -> None:
    while True:
        try:
            if server.type & 0xF == socket.SOCK_DGRAM:
                server.recv(64)
            else:
                server.accept()[0].close()
        except OSError:
            return
        hits.append(name)


def make_world(folder: Path, attack: Attack) -> World:
    """Lay out the folders of a run in `folder`, with a victim and secrets beside them."""
    base = folder.resolve()
    state, repo, tree = base / "state", base / "proj" / "repo", base / TREE
    for part in (
        repo / ".git" / "hooks", tree / "vendor" / ".git" / "hooks", base / "outside" / "folder",
        base / "home" / ".ssh", base / "reference", state / "secrets", state / "worktrees" / "a2",
        state / "outbox", state / "runs" / "a1",
    ):  # fmt: skip
        part.mkdir(parents=True)
    for path in (
        VICTIM, "reference/ref.txt", "proj/repo/.git/config", f"{TREE}/vendor/.git/config",
        "state/outbox/outbox.sqlite3", "state/runs/a1/journal.jsonl",
    ):  # fmt: skip
        (base / path).write_text(ORIGINAL)
    (tree / ".git").write_text(f"gitdir: {repo}/.git/worktrees/a1\n")
    (tree / "mine.txt").write_text("mine")
    for secret in ("home/.ssh/id_ed25519", "state/secrets/django.key", "state/worktrees/a2/other"):
        (base / secret).write_text(SECRET)
    # Read at once by what follows; nothing waits in between.
    os.environ["HOME"] = str(base / "home")
    os.environ["ROOTBOUND_TEST_SECRET"] = SECRET
    policy = build_policy(
        run_id="r1", worktree=tree, repo_path=repo, git_common_dir=repo / ".git",
        private_dir=state / "runs" / "a1", state_dir=state, writable_roots=[str(base / "proj")],
        readable_paths=[str(base / "reference")], network={}, limits=attack.limits,
    )  # fmt: skip
    with (base / VICTIM).open("ab") as held:
        process = subprocess.Popen(
            ["sleep", "60"],
            env={"PATH": os.defpath, "ROOTBOUND_TEST_SECRET": SECRET},
            cwd=base / "outside",
            stdin=subprocess.DEVNULL,
            stdout=held,
        )
    before = {path: (base / path).read_bytes() for path in (f"{TREE}/.git", VICTIM)}
    world = World(base, attack, policy, process, before)
    if attack.services:
        world.serve(folder)
    if attack.shares:
        world.share()
    return world
