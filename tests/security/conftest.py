"""A small world to attack: a run's folders, a victim beside them, and services of this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rootbound_lda.audit import MemorySink, verify_chain
from rootbound_lda.policy import Policy, build_policy
from rootbound_lda.sandbox import CommandResult, Sandbox, base_env

PYTHON = os.path.realpath(sys.executable)
SECRET = "the-secret-text"
ORIGINAL = "original"

_PRELUDE = """
import errno, os, signal, sys, time
A = eval(sys.argv[1])
victim, tree, outside = A["victim"], A["tree"], A["outside"]
"""
# Only where the code needs them: an interpreter starts three times as fast without.
_MODULES = ("ctypes", "socket", "threading")
_SYS_CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def sys_call(number, *args):
    result = libc.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""


def _program(code: str) -> str:
    imports = "".join(f"import {name}\n" for name in _MODULES if name in code)
    return _PRELUDE + imports + (_SYS_CALL if "sys_call" in code else "") + code


@dataclass
class World:
    sandbox: Sandbox
    base: Path
    policy: Policy
    victim_process: subprocess.Popen[bytes]
    unix_path: str
    tcp: int
    tcp6: int
    udp: int
    hits: list[str] = field(default_factory=list)
    output: str = ""
    entries: list[dict[str, object]] = field(default_factory=list)

    @property
    def tree(self) -> Path:
        return self.policy.worktree

    @property
    def outside(self) -> Path:
        return self.base / "outside"

    @property
    def victim(self) -> Path:
        return self.outside / "victim.txt"

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def repo(self) -> Path:
        return self.base / "proj" / "repo"

    @property
    def reference(self) -> Path:
        return self.base / "reference" / "ref.txt"

    def _command(self, code: str) -> list[str]:
        places = {
            "victim": str(self.victim), "tree": str(self.tree), "outside": str(self.outside),
            "state": str(self.state), "home": str(self.home), "repo": str(self.repo),
            "reference": str(self.reference), "pid": self.victim_process.pid, "lda": os.getpid(),
            "unix": self.unix_path, "tcp": self.tcp, "tcp6": self.tcp6, "udp": self.udp,
        }  # fmt: skip
        return [PYTHON, "-I", "-S", "-c", _program(code), repr(places)]

    async def attack(self, code: str, *, network: bool = False) -> CommandResult:
        """Run the code as a command of the run."""
        sink = MemorySink()
        result = await self.sandbox.runner(self.policy, sink).run(
            self._command(code), cwd=self.tree, env=base_env(self.policy), network=network,
            timeout_s=20,
        )  # fmt: skip
        self.output = result.output.decode("utf-8", "replace")
        self.entries = sink.entries
        assert verify_chain(self.entries) is None
        return result

    def attack_plainly(self, code: str) -> None:
        """Run the same code without the sandbox."""
        done = subprocess.run(
            self._command(code), cwd=self.tree, capture_output=True, timeout=20, check=False
        )
        self.output = (done.stdout + done.stderr).decode("utf-8", "replace")

    def denied(self, operation: str) -> set[str]:
        """Return the paths of the refused operations of a kind."""
        return {
            str(entry["path"])
            for entry in self.entries
            if entry["result"] == "DENIED" and entry["operation"] == operation
        }


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


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox()
    asyncio.run(started.start())
    yield started
    asyncio.run(started.stop())


@pytest.fixture
def world(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    base = tmp_path.resolve()
    state, repo, tree = base / "state", base / "proj" / "repo", base / "state/worktrees/a1"
    for folder in (
        repo / ".git" / "hooks", tree / "vendor" / ".git" / "hooks", base / "outside" / "folder",
        base / "home" / ".ssh", base / "reference", state / "secrets", state / "worktrees" / "a2",
    ):  # fmt: skip
        folder.mkdir(parents=True)
    (base / "outside" / "victim.txt").write_text(ORIGINAL)
    (base / "reference" / "ref.txt").write_text(ORIGINAL)
    (repo / ".git" / "config").write_text(ORIGINAL)
    (tree / ".git").write_text(f"gitdir: {repo}/.git/worktrees/a1\n")
    (tree / "vendor" / ".git" / "config").write_text(ORIGINAL)
    for secret in ("home/.ssh/id_ed25519", "state/secrets/django.key", "state/worktrees/a2/other"):
        (base / secret).write_text(SECRET)
    monkeypatch.setenv("HOME", str(base / "home"))
    monkeypatch.setenv("ROOTBOUND_TEST_SECRET", SECRET)
    policy = build_policy(
        run_id="r1", worktree=tree, repo_path=repo, git_common_dir=repo / ".git",
        private_dir=state / "runs" / "a1", state_dir=state, writable_roots=[str(base / "proj")],
        readable_paths=[str(base / "reference")], network={}, limits={},
    )  # fmt: skip
    hits: list[str] = []
    servers = {
        "unix": socket.socket(socket.AF_UNIX),
        "tcp": socket.create_server(("", 0)),
        "tcp6": socket.create_server(("::1", 0), family=socket.AF_INET6),
        "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    }
    # The name must be short, whatever the test's folder.
    unix_path = f"/tmp/rb-test-{os.getpid()}.sock"
    Path(unix_path).unlink(missing_ok=True)
    servers["unix"].bind(unix_path)
    servers["unix"].listen()
    servers["udp"].bind(("127.0.0.1", 0))
    threads = [
        threading.Thread(target=_serve, args=(server, name, hits), daemon=True)
        for name, server in servers.items()
    ]
    for thread in threads:
        thread.start()
    victim = subprocess.Popen(
        ["sleep", "60"], env={"PATH": os.defpath, "ROOTBOUND_TEST_SECRET": SECRET}
    )
    try:
        yield World(
            sandbox, base, policy, victim, unix_path, servers["tcp"].getsockname()[1],
            servers["tcp6"].getsockname()[1], servers["udp"].getsockname()[1], hits,
        )  # fmt: skip
    finally:
        for server in servers.values():
            if server.type & 0xF != socket.SOCK_DGRAM:
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        Path(unix_path).unlink(missing_ok=True)
        victim.kill()
        victim.wait()
