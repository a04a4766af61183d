"""Start, find and stop the stack of a state folder; for the CLI and the Jupyter extension.

The services belong to a guard (`rootbound_server_ext.stack.guard`), a process of its own that
outlives the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from rootbound import paths
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.guard import acquire_lock, guard_socket
from rootbound_server_ext.stack.leftovers import find_leftovers, stop_leftovers, wait_ended
from rootbound_server_ext.stack.process import base_environment, log_tail, open_log
from rootbound_server_ext.stack.services import MODEL_KEYS, lda_environment
from rootbound_server_ext.stack.state import (
    ServiceInfo,
    StackInfo,
    read_stack,
    stack_id,
    write_stack,
)

__all__ = [
    "ServiceInfo",
    "StackError",
    "StackInfo",
    "down",
    "ensure_up",
    "restart",
    "start",
    "status",
]

Progress = Callable[[str], None]

MINIMUM_FREE_BYTES = 300 * 1024 * 1024
"""Disk space below which nothing is started: a database must not run into a full disk."""

_GUARD_ARGV = ("-m", "rootbound_server_ext.stack.guard")
_STOP_TIMEOUT_S = 120.0
_LOCK_PATIENCE_S = 15.0
_GUARD_TRIES = 3


def _quiet(_: str) -> None:
    return None


def _canonical(home: Path | str | None) -> Path:
    chosen = paths.state_dir() if home is None else Path(home).absolute()
    return chosen.resolve()


async def ensure_up(
    home: Path | str | None,
    *,
    stop_with_pid: int | None = None,
    timeout_s: float = 180,
    progress: Progress = _quiet,
) -> StackInfo:
    """Start the stack, or adopt the running one, and wait until every service is ready.

    Parameters
    ----------
    home
        State folder; None for the default.
    stop_with_pid
        Bind a stack that is started now to this process: it stops when the process ends. A running
        stack that is bound to nobody (``rootbound up``) stays so.
    timeout_s
        Limit in seconds.
    progress
        Called on the event loop with one sentence per step.

    Returns
    -------
    StackInfo
        With every service ready.

    Raises
    ------
    StackError
        With one sentence that says what is wrong and what to do.

    Notes
    -----
    Cancelling stops the waiting, not the guard: a stack that is starting goes on starting.
    """
    loop = asyncio.get_running_loop()

    def relay(text: str) -> None:
        loop.call_soon_threadsafe(progress, text)

    return await asyncio.to_thread(
        start, home, stop_with_pid=stop_with_pid, timeout_s=timeout_s, progress=relay
    )


def start(
    home: Path | str | None = None,
    *,
    stop_with_pid: int | None = None,
    timeout_s: float = 180,
    progress: Progress = _quiet,
    guard_argv: Sequence[str] = _GUARD_ARGV,
) -> StackInfo:
    """Do what `ensure_up` does, blocking.

    Parameters
    ----------
    home, stop_with_pid, timeout_s, progress
        As in `ensure_up`; ``progress`` is called on the calling thread.
    guard_argv
        Python arguments that run the guard.

    Raises
    ------
    StackError
        As in `ensure_up`.
    """
    folder = _prepare_home(home)
    deadline = time.monotonic() + timeout_s
    started = 0
    while True:
        with contextlib.suppress(_NoGuardError), _connected(folder, deadline) as guard:
            info = _wait_ready(guard, stop_with_pid, progress)
            if info is not None:
                paths.stopped_file(folder).unlink(missing_ok=True)
                return info
        if time.monotonic() > deadline:
            raise StackError(
                f"The stack was not ready within {timeout_s:.0f} seconds; see the logs in "
                f"{paths.logs_dir(folder)}."
            )
        if started >= _GUARD_TRIES:
            log = paths.logs_dir(folder) / "guard.log"
            raise StackError(
                f"The stack's guard ended without a reason; see {log}.", log_tail=log_tail(log)
            )
        if _spawn_guard(folder, stop_with_pid, guard_argv):
            started += 1
        else:
            time.sleep(0.1)  # another guard starts or stops just now


def status(home: Path | str | None = None) -> StackInfo | None:
    """Return the state of the running stack, or None when no guard runs.

    Raises
    ------
    StackError
        When a guard runs but does not answer.
    """
    folder = _canonical(home)
    try:
        with _connected(folder, time.monotonic() + 5) as guard:
            answer = guard.ask({"op": "status"})
            return StackInfo.from_json(answer["stack"])
    except _NoGuardError:
        return None


def restart(home: Path | str | None, service: str, *, timeout_s: float = 90) -> StackInfo:
    """Stop and start one service of the running stack, and wait until it is ready.

    Parameters
    ----------
    home
        State folder; None for the default.
    service
        One of `SERVICE_NAMES`.
    timeout_s
        Limit in seconds.

    Raises
    ------
    StackError
        When no stack runs, there is no such service, it is not ours, or it does not start.
    """
    try:
        with _connected(_canonical(home), time.monotonic() + timeout_s) as guard:
            answer = guard.ask({"op": "restart", "service": service})
            return StackInfo.from_json(answer["stack"])
    except _NoGuardError as error:
        raise StackError("The stack is not running; start it first.") from error


def down(home: Path | str | None = None, *, progress: Progress = _quiet) -> bool:
    """Stop everything of this state folder, also when its guard is dead or hangs.

    Parameters
    ----------
    home
        State folder; None for the default.
    progress
        Called with one sentence per step.

    Returns
    -------
    bool
        Whether anything was running.

    Raises
    ------
    StackError
        When something cannot be stopped.
    """
    folder = _canonical(home)
    if not paths.run_dir(folder).is_dir():
        return False
    try:
        # Before it ends: a Jupyter server that sees it go leaves it so.
        paths.stopped_file(folder).touch(mode=0o600)
        running, patience_s = _ask_to_stop(folder, progress)
        return _stop_rest(folder, patience_s, progress) or running
    except OSError as error:
        raise StackError(f"The state folder {folder} cannot be used: {error}.") from error


class _NoGuardError(Exception):
    """No guard answers on the socket."""


class _Guard:
    """A conversation with a guard."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._file = connection.makefile("rb")

    def send(self, request: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(request).encode() + b"\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield messages until the guard closes the connection."""
        while True:
            self._connection.settimeout(max(0.1, self._deadline - time.monotonic()))
            try:
                line = self._file.readline()
            except TimeoutError as error:
                raise StackError(
                    "The stack's guard did not answer in time; `rootbound down` stops it."
                ) from error
            except ConnectionError:
                return
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its one answer."""
        try:
            self.send(request)
        except ConnectionError as error:
            raise _NoGuardError from error
        for message in self.messages():
            if message["event"] == "failed":
                raise _error(message)
            return message
        raise _NoGuardError


def _error(message: dict[str, Any]) -> StackError:
    return StackError(
        str(message.get("message")),
        service=message.get("service"),
        log_tail=str(message.get("log_tail") or ""),
    )


@contextlib.contextmanager
def _connected(home: Path, deadline: float) -> Iterator[_Guard]:
    recorded = read_stack(home)
    addresses = [recorded.guard_socket] if recorded else []
    with contextlib.suppress(OSError):
        addresses.append(str(guard_socket(home)))
    for address in dict.fromkeys(addresses):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5)
        try:
            connection.connect(address)
        except OSError:  # missing, refused: nobody listens there
            connection.close()
            continue
        with connection:
            yield _Guard(connection, deadline)
            return
    raise _NoGuardError


def _wait_ready(guard: _Guard, stop_with_pid: int | None, progress: Progress) -> StackInfo | None:
    only_if_bound = stop_with_pid is not None
    guard.ask({"op": "bind", "pid": stop_with_pid, "only_if_bound": only_if_bound})
    try:
        guard.send({"op": "wait"})
    except ConnectionError:
        return None
    for message in guard.messages():
        match message["event"]:
            case "progress":
                progress(message["text"])
            case "failed":
                _wait_ended(message.get("ending_pid"))
                raise _error(message)
            case "ready":
                _mention_keys(message.get("keys", []), progress)
                return StackInfo.from_json(message["stack"])
    return None  # it stopped meanwhile


def _mention_keys(known: list[str], progress: Progress) -> None:
    unknown = [name for name in MODEL_KEYS if os.environ.get(name) and name not in known]
    if unknown:
        progress(
            f"{' and '.join(unknown)} is set here but was not when the stack was started; "
            "run `rootbound down` and `rootbound up` to use it"
        )


def _prepare_home(home: Path | str | None) -> Path:
    try:
        folder = _canonical(home)
        paths.ensure_state_dir(folder)
        paths.ensure_private_dir(paths.socket_dir(folder))
        free = shutil.disk_usage(folder).free
    except PermissionError as error:
        reason = str(error) if error.errno is None else f"{error.filename}: permission denied."
        raise StackError(
            f"The state folder cannot be used: {reason} Set ROOTBOUND_HOME to a folder of yours."
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StackError(
                "No space is left on the disk of the state folder; free some, then run "
                "`rootbound up`."
            ) from error
        raise StackError(
            f"The state folder cannot be used: {error}; set ROOTBOUND_HOME to another folder."
        ) from error
    if free < MINIMUM_FREE_BYTES:
        raise StackError(
            f"Only {free // 2**20} MiB are free on the disk of {folder}, and "
            f"{MINIMUM_FREE_BYTES // 2**20} MiB are needed; free some space or set ROOTBOUND_HOME "
            "to a folder on another disk."
        )
    return folder


def _guard_environment() -> dict[str, str]:
    # Not the caller's whole environment: Jupyter's holds its token, and the services inherit this.
    own = {name: value for name, value in os.environ.items() if name.startswith("ROOTBOUND_")}
    return base_environment(own | lda_environment())


def _spawn_guard(home: Path, stop_with_pid: int | None, guard_argv: Sequence[str]) -> bool:
    """Start a guard; True when it listens, False when another one has the lock."""
    reading, writing = os.pipe()
    log_path = paths.logs_dir(home) / "guard.log"
    argv = [sys.executable, "-P", *guard_argv, "--home", str(home), "--detach"]
    argv += ["--announce-fd", str(writing)]
    if stop_with_pid is not None:
        argv += ["--with-pid", str(stop_with_pid)]
    try:
        with open_log(log_path) as log:
            before = os.fstat(log.fileno()).st_size
            subprocess.run(
                argv,
                env=_guard_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(writing,),
                check=False,
            )
        os.close(writing)
        writing = -1
        news = _read_line(reading, timeout_s=60)
    except OSError as error:
        raise StackError(f"The stack's guard cannot be started: {error}") from error
    finally:
        for descriptor in (reading, writing):
            if descriptor >= 0:
                os.close(descriptor)
    if not news:
        raise StackError(
            f"The stack's guard ended before it could work; see {log_path}.",
            log_tail=log_tail(log_path) if log_path.stat().st_size > before else "",
        )
    message = json.loads(news)
    if message["event"] == "failed":
        raise _error(message)
    return bool(message["event"] == "listening")


def _read_line(descriptor: int, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    data = b""
    while not data.endswith(b"\n"):
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([descriptor], [], [], remaining)[0]:
            return b""
        chunk = os.read(descriptor, 4096)
        if not chunk:
            return b""
        data += chunk
    return data


def _ask_to_stop(home: Path, progress: Progress) -> tuple[bool, float]:
    """Ask the guard to stop; whether there was one, and how long it may keep its lock."""
    try:
        with _connected(home, time.monotonic() + 5) as guard:
            answer = guard.ask({"op": "status"})  # a guard that hangs shows here, soon
        with _connected(home, time.monotonic() + _STOP_TIMEOUT_S) as guard:
            guard.send({"op": "stop"})
            for message in guard.messages():
                if message["event"] == "progress":
                    progress(message["text"])
        _wait_ended(answer["stack"]["guard_pid"])
    except (_NoGuardError, ConnectionError):
        return False, _LOCK_PATIENCE_S
    except StackError:
        progress("The stack's guard does not answer and is killed")
        return True, 0
    return True, _LOCK_PATIENCE_S


def _wait_ended(guard_pid: int | None) -> None:
    """Wait for a guard that has said its last word, so that the caller finds nothing running."""
    if guard_pid is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            wait_ended([psutil.Process(guard_pid)], _LOCK_PATIENCE_S)


def _stop_rest(home: Path, patience_s: float, progress: Progress) -> bool:
    deadline = time.monotonic() + patience_s
    killed = False
    # A guard that was told to stop lets its lock go in a moment.
    while (lock := acquire_lock(home)) is None:
        if time.monotonic() > deadline:
            if killed:
                raise StackError("The stack's guard cannot be stopped; see `rootbound status`.")
            killed = _kill_guard(home)
            deadline = time.monotonic() + _LOCK_PATIENCE_S
        time.sleep(0.05)
    with lock:
        known_id = stack_id(home)
        running = bool(find_leftovers(home, known_id))
        for name in stop_leftovers(home, known_id):
            progress(f"{name} was left without a guard and is stopped")
        _record_stopped(home)
    return running or killed


def _record_stopped(home: Path) -> None:
    info = read_stack(home)
    if info is None or (info.guard_pid is None and not info.ready):
        return
    info.guard_pid = None
    info.services = {name: ServiceInfo() for name in info.services}
    write_stack(home, info)


def _kill_guard(home: Path) -> bool:
    """Kill the guard that holds the lock but does not answer; only on proof that it is that one."""
    lock_file = paths.run_dir(home) / "guard.lock"
    try:
        process = psutil.Process(int(lock_file.read_text(encoding="ascii").strip() or 0))
        holds_lock = any(Path(one.path) == lock_file for one in process.open_files())
    except (psutil.Error, ValueError, OSError):
        holds_lock = False
    if not holds_lock:
        raise StackError(
            f"A process that cannot be found out holds {lock_file}; end it, then run "
            "`rootbound down` again."
        )
    process.send_signal(signal.SIGKILL)
    return True
