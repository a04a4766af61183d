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

from sandbox_work import Work

from rootbound_lda.outbox import Outbox
from rootbound_lda.policy import Policy
from rootbound_lda.reports import RunAudit
from rootbound_lda.sandbox import CommandRunner, Sandbox, base_env

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

    async def run(self, work: Work) -> tuple[float, str]:
        """Run to the end; returns the wall time in seconds and the output."""

    def fits(self, work: Work) -> bool:
        """Tell whether this way can do this work."""


class Direct:
    """A plain child process, or one behind another program's command line."""

    def __init__(
        self, name: str, policy: Policy, prefix: Sequence[str] = (), only: str = ""
    ) -> None:
        self.name = name
        self._policy = policy
        self._prefix = tuple(prefix)
        self._only = only

    def fits(self, work: Work) -> bool:
        return not self._only or self._only in work.name

    async def run(self, work: Work) -> tuple[float, str]:
        env = base_env(self._policy)
        start = time.perf_counter()
        done = subprocess.run(  # noqa: ASYNC221 - nothing else happens meanwhile
            [*self._prefix, *work.argv], cwd=self._policy.worktree, env=env, capture_output=True,
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
        self._sandbox = sandbox
        self._policy = policy
        self._audit = RunAudit(outbox, name, name)
        self._runner = sandbox.runner(policy, self._audit)

    def fits(self, work: Work) -> bool:
        return True

    async def run(self, work: Work) -> tuple[float, str]:
        if not work.fresh:
            return await self._timed(self._runner, work)
        runner = self._sandbox.runner(self._policy, self._audit)
        try:
            return await self._timed(runner, work)
        finally:
            await runner.close()

    async def _timed(self, runner: CommandRunner, work: Work) -> tuple[float, str]:
        start = time.perf_counter()
        result = await runner.run(
            work.argv, cwd=self._policy.worktree, env=base_env(self._policy), network=False,
            timeout_s=TIMEOUT_S,
        )  # fmt: skip
        spent = time.perf_counter() - start
        text = result.output.decode(errors="replace")
        if result.exit_code:
            raise ModeError(f"{self.name}: {text[-400:]}")
        return spent, text


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

    def fits(self, work: Work) -> bool:
        return True

    async def run(self, work: Work) -> tuple[float, str]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ModeError("sandlock has no pipes")
        request = [list(work.argv), str(self._policy.worktree), base_env(self._policy)]
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
    sandboxes: dict[str, Sandbox],
    policy: Policy,
    outbox: Outbox,
    sandlock: str | None,
    scratch: Path,
) -> tuple[list[Mode], list[str]]:
    """Return the modes that this machine has, plain first, and a sentence for each absent one."""
    untraced = dataclasses.replace(
        policy, audit=dataclasses.replace(policy.audit, trace_reads=False)
    )
    found: list[Mode] = [Direct("plain", policy)]
    absent = []
    for label, sandbox in sandboxes.items():
        found.append(Ours(f"Rootbound{label}", sandbox, policy, outbox))
        if label == "":
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
    floor = _floor(scratch)
    if floor:
        found.append(Direct("a supervisor that does nothing", policy, [floor], only="open for"))
    else:
        absent.append("There is no C compiler for the supervisor that does nothing.")
    return found, absent


def _floor(scratch: Path) -> str | None:
    """Compile the supervisor that does nothing; None without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    target = scratch / "floor"
    source = Path(__file__).with_name("sandbox_floor.c")
    subprocess.run([compiler, "-O2", "-o", str(target), str(source)], check=True)
    return str(target)


def _bubblewrap(policy: Policy) -> list[str]:
    binds = []
    for path in (*policy.writable, policy.private_home, policy.private_tmp):
        binds += ["--bind", str(path), str(path)]
    return ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", *binds, "--unshare-net",
            "--die-with-parent"]  # fmt: skip
