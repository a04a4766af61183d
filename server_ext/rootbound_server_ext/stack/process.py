"""How a service is started: command, environment, user, log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rootbound_server_ext.stack import launch
from rootbound_server_ext.stack.errors import StackError

__all__ = [
    "READY_LINE",
    "Command",
    "RunAs",
    "base_environment",
    "helper_pids",
    "kill_helpers",
    "log_tail",
    "open_log",
    "run",
    "spawn",
]

READY_LINE = "rootbound: service ready"
"""What a service without an address of its own writes to its log when it is ready."""

LOG_LIMIT_BYTES = 5 * 1024 * 1024
LOG_GENERATIONS = 3

_helpers: dict[int, subprocess.Popen[str]] = {}
_helpers_lock = threading.Lock()
_LAUNCHER = Path(launch.__file__)
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


@dataclass(frozen=True)
class RunAs:
    """The user of a service that must not run as root.

    Attributes
    ----------
    uid, gid
        Numeric ids.
    capabilities
        Capability numbers kept, so that this user can reach folders below a private one.
    """

    uid: int
    gid: int
    capabilities: tuple[int, ...] = ()


@dataclass(frozen=True)
class Command:
    """A program to start.

    Attributes
    ----------
    argv
        Program (absolute path) and arguments; never holds a secret.
    environment
        The whole environment of the program.
    cwd
        Working folder.
    run_as
        Another user, or None for the caller's.
    death_signal
        Signal that the program gets from the kernel when its starter dies.
    descriptors
        File descriptors the program inherits, under the same numbers.
    """

    argv: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    cwd: Path
    run_as: RunAs | None = None
    death_signal: int = signal.SIGTERM
    descriptors: tuple[int, ...] = ()


def base_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the small environment every service gets, with ``extra`` added."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment.setdefault("PATH", os.defpath)
    return environment | (extra or {})


def _launcher_argv(command: Command, *, bound: bool) -> list[str]:
    argv = [sys.executable, "-I", "-S", str(_LAUNCHER)]
    if bound:
        argv += ["--parent", str(os.getpid()), "--death-signal", str(int(command.death_signal))]
    if command.run_as is not None:
        argv += ["--uid", str(command.run_as.uid), "--gid", str(command.run_as.gid)]
        for number in command.run_as.capabilities:
            argv += ["--capability", str(number)]
    return [*argv, "--", *command.argv]


def spawn(command: Command, log: IO[bytes], *, bound: bool = True) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with its output in ``log``.

    Parameters
    ----------
    command
        What to start.
    log
        Open file for standard output and error.
    bound
        End the program when the calling *thread* ends; call from the main thread then.

    Raises
    ------
    StackError
        When the system cannot start a process.
    """
    try:
        return subprocess.Popen(
            _launcher_argv(command, bound=bound),
            env=command.environment,
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=command.descriptors,
        )
    except OSError as error:
        raise StackError(f"{command.argv[0]} cannot be started: {error}") from error


def run(
    command: Command, *, stdin: str = "", timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output (standard error joined in).

    Raises
    ------
    StackError
        When it cannot be started or takes longer than ``timeout_s`` seconds.
    """
    try:
        with _helpers_lock:
            process = subprocess.Popen(
                _launcher_argv(command, bound=False),
                env=command.environment,
                cwd=command.cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            _helpers[process.pid] = process
    except OSError as error:
        raise StackError(f"{command.argv[0]} cannot be started: {error}") from error
    try:
        output, _ = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise StackError(
            f"{Path(command.argv[0]).name} did not finish within {timeout_s:.0f} seconds."
        ) from error
    finally:
        _helpers.pop(process.pid, None)
    return subprocess.CompletedProcess(command.argv, process.returncode, output)


def helper_pids() -> set[int]:
    """Return the process ids of the programs that `run` runs at this moment."""
    with _helpers_lock:
        return set(_helpers)


def kill_helpers() -> None:
    """Kill the programs that `run` runs at this moment; `run` then returns their exit code."""
    with _helpers_lock:
        for process in list(_helpers.values()):
            process.kill()


def open_log(path: Path) -> IO[bytes]:
    """Open a service's log for appending (mode 0600), after rotating it when it has grown.

    Raises
    ------
    StackError
        When the log cannot be written.
    """
    try:
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            _rotate(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StackError(f"The log {path} cannot be written: {error.strerror}.") from error
    return os.fdopen(descriptor, "ab", buffering=0)


def _rotate(path: Path) -> None:
    for number in range(LOG_GENERATIONS - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))


def log_tail(path: Path, lines: int = 20, *, limit_bytes: int = 64 * 1024) -> str:
    """Return the last lines of a log, or an empty text when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            data = file.read()
    except FileNotFoundError:
        return ""
    return "\n".join(data.decode(errors="replace").splitlines()[-lines:])
