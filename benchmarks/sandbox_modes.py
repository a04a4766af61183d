"""The ways to run a command that the sandbox benchmark compares."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rootbound_lda.outbox import Outbox
from rootbound_lda.policy import Policy
from rootbound_lda.reports import RunAudit
from rootbound_lda.sandbox import Sandbox, base_env, probe

TIMEOUT_S = 120.0
_SANDLOCK = """
import json, sys, time
import sandlock
writable, readable = json.loads(sys.argv[1])
for line in sys.stdin:
    argv, cwd, env = json.loads(line)
    start = time.perf_counter()
    box = sandlock.Sandbox(fs_writable=writable, fs_readable=readable, cwd=cwd, env=env,
                           clean_env=True)
    result = box.run(argv)
    spent = time.perf_counter() - start
    out = result.stdout if isinstance(result.stdout, str) else (result.stdout or b"").decode()
    print(json.dumps([spent, out, result.exit_code]), flush=True)
"""


class ModeError(Exception):
    """A command failed where it must not."""


class Mode(Protocol):
    """One way to run a command."""

    name: str

    async def run(self, argv: Sequence[str]) -> tuple[float, str]:
        """Run to the end; returns the wall time in seconds and the output."""


class Direct:
    """A plain child process, or one behind another program's command line."""

    def __init__(self, name: str, policy: Policy, prefix: Sequence[str] = ()) -> None:
        self.name = name
        self._policy = policy
        self._prefix = tuple(prefix)

    async def run(self, argv: Sequence[str]) -> tuple[float, str]:
        env = base_env(self._policy)
        start = time.perf_counter()
        done = subprocess.run(  # noqa: ASYNC221 - nothing else happens meanwhile
            [*self._prefix, *argv], cwd=self._policy.worktree, env=env, capture_output=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        spent = time.perf_counter() - start
        if done.returncode:
            raise ModeError(f"{self.name}: {done.stderr.decode(errors='replace')[-400:]}")
        return spent, done.stdout.decode()


class Ours:
    """Rootbound's sandbox, its records in a real outbox on the disk."""

    def __init__(self, name: str, sandbox: Sandbox, policy: Policy, outbox: Outbox) -> None:
        self.name = name
        self._policy = policy
        audit = RunAudit(outbox, name, name)
        self._runner = sandbox.runner(policy, audit)

    async def close(self) -> None:
        await self._runner.close()

    async def run(self, argv: Sequence[str]) -> tuple[float, str]:
        start = time.perf_counter()
        result = await self._runner.run(
            argv, cwd=self._policy.worktree, env=base_env(self._policy), network=False,
            timeout_s=TIMEOUT_S,
        )  # fmt: skip
        spent = time.perf_counter() - start
        text = result.output.decode(errors="replace")
        if result.exit_code:
            raise ModeError(f"{self.name}: {text[-400:]}")
        return spent, text


class FirstCommand:
    """A run's first command where each run stands behind bubblewrap, the wall put up for it."""

    name = "Rootbound, a run's first command, behind bubblewrap"

    def __init__(self, sandbox: Sandbox, policy: Policy, outbox: Outbox) -> None:
        self._sandbox, self._policy, self._outbox = sandbox, policy, outbox

    async def run(self, argv: Sequence[str]) -> tuple[float, str]:
        once = Ours(self.name, self._sandbox, self._policy, self._outbox)
        try:
            return await once.run(argv)
        finally:
            await once.close()


class Sandlock:
    """Sandlock in an interpreter that has it, kept running."""

    name = "sandlock (no audit)"

    def __init__(self, python: str, policy: Policy) -> None:
        self._policy = policy
        writable = [str(path) for path in (*policy.writable, policy.private_home,
                                           policy.private_tmp)]  # fmt: skip
        readable = [str(path) for path in (*policy.readable, "/dev")]
        places = json.dumps([[*writable, "/dev/null"], readable])
        self._process = subprocess.Popen(
            [python, "-c", _SANDLOCK, places],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    async def run(self, argv: Sequence[str]) -> tuple[float, str]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ModeError("sandlock has no pipes")
        request = [list(argv), str(self._policy.worktree), base_env(self._policy)]
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise ModeError("sandlock ended")
        spent, text, code = json.loads(answer)
        if code:
            raise ModeError(f"sandlock: exit code {code}")
        return spent, text

    def close(self) -> None:
        self._process.communicate()


def modes(
    sandboxes: dict[str, Sandbox], policy: Policy, outbox: Outbox, sandlock: str | None
) -> tuple[list[Mode], list[str]]:
    """Return the modes that this machine has, plain first, and a sentence for each absent one."""
    untraced = dataclasses.replace(
        policy, audit=dataclasses.replace(policy.audit, trace_reads=False)
    )
    found: list[Mode] = [Direct("plain", policy)]
    absent = []
    for label, sandbox in sandboxes.items():
        found.append(Ours(f"Rootbound{label}", sandbox, policy, outbox))
        if not label:
            found.append(Ours("Rootbound, reads untraced", sandbox, untraced, outbox))
    if shutil.which("bwrap"):
        found.append(Direct("bubblewrap (no audit)", policy, _bubblewrap(policy)))
    else:
        absent.append("bubblewrap is not installed (Debian package bubblewrap).")
    if sandlock:
        found.append(Sandlock(sandlock, policy))
    else:
        absent.append("sandlock was not given (--sandlock PYTHON, an interpreter that has it).")
    if shutil.which("strace"):
        log = Path(tempfile.gettempdir()) / f"strace-{os.getpid()}"
        found.append(Direct("strace -f --seccomp-bpf (no enforcement)", policy, [
            "strace", "-f", "--seccomp-bpf", "-qq", "-o", str(log), "-e",
            "trace=%file,fchmod,fchown,ftruncate",
        ]))  # fmt: skip
    else:
        absent.append("strace is not installed (Debian package strace).")
    return found, absent


async def first_command(policy: Policy, outbox: Outbox) -> FirstCommand | None:
    """Return the mode with a wall for each command, where bubblewrap works."""
    wall = (await probe()).wall
    return None if wall is None else FirstCommand(Sandbox(wall=wall), policy, outbox)


def _bubblewrap(policy: Policy) -> list[str]:
    binds = []
    for path in (*policy.writable, policy.private_home, policy.private_tmp):
        binds += ["--bind", str(path), str(path)]
    return ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", *binds, "--unshare-net",
            "--die-with-parent"]  # fmt: skip
