"""Find and stop processes that a stack left behind.

A process counts as ours only on proof: the stack's id and state folder in its environment, or, for
the two servers that may overwrite their environment, the state folder's data as working folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from rootbound_server_ext.stack.postgres import PostgresServer
from rootbound_server_ext.stack.redis import RedisServer
from rootbound_server_ext.stack.state import SERVICE_NAMES

__all__ = [
    "HOME_VARIABLE",
    "ID_VARIABLE",
    "SERVICE_VARIABLE",
    "find_leftovers",
    "is_alive",
    "marker_environment",
    "stop_leftovers",
    "terminate",
    "wait_ended",
]

ID_VARIABLE = "ROOTBOUND_STACK_ID"
HOME_VARIABLE = "ROOTBOUND_HOME"
SERVICE_VARIABLE = "ROOTBOUND_SERVICE"

_STOP_SIGNALS = {"postgres": signal.SIGINT}


def marker_environment(home: Path, stack_id: str, service: str) -> dict[str, str]:
    """Return the variables that mark a service's process as ours."""
    return {HOME_VARIABLE: str(home), ID_VARIABLE: stack_id, SERVICE_VARIABLE: service}


def is_alive(process: psutil.Process) -> bool:
    """Whether a process exists and is not a zombie (same start time, so not a reused id)."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def find_leftovers(home: Path, stack_id: str) -> dict[str, list[psutil.Process]]:
    """Return live processes of this stack by service name.

    Parameters
    ----------
    home
        State folder.
    stack_id
        Its persistent id.
    """
    found: dict[str, list[psutil.Process]] = {name: [] for name in SERVICE_NAMES}
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            if (
                environment.get(ID_VARIABLE) == stack_id
                and environment.get(HOME_VARIABLE) == str(home)
                and is_alive(process)
            ):
                found.setdefault(environment.get(SERVICE_VARIABLE, "other"), []).append(process)
    found["postgres"] = _union(found["postgres"], PostgresServer(home).leftovers())
    found["redis"] = _union(found["redis"], RedisServer(home).leftovers())
    return {name: processes for name, processes in found.items() if processes}


def _union(
    first: Iterable[psutil.Process], second: Iterable[psutil.Process]
) -> list[psutil.Process]:
    return list({process.pid: process for process in [*first, *second]}.values())


def stop_leftovers(home: Path, stack_id: str, *, timeout_s: float = 10) -> list[str]:
    """Stop everything that an earlier guard of this state folder left running.

    Parameters
    ----------
    home
        State folder; the caller holds its guard lock.
    stack_id
        Its persistent id.
    timeout_s
        Time each service gets to end by itself, in seconds.

    Returns
    -------
    list of str
        Names of the services of which something was stopped.
    """
    found = find_leftovers(home, stack_id)
    order = [name for name in found if name not in SERVICE_NAMES]
    order += [name for name in reversed(SERVICE_NAMES) if name in found]
    for name in order:
        stop_signal = _STOP_SIGNALS.get(name, signal.SIGTERM)
        targets = _with_descendants(found[name])
        terminate(targets, first_signal=stop_signal, timeout_s=timeout_s)
    return order


def _with_descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    targets = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            targets += process.children(recursive=True)
    return _union(targets, [])


def terminate(
    processes: list[psutil.Process],
    *,
    first_signal: int = signal.SIGTERM,
    timeout_s: float = 10,
) -> None:
    """Signal processes, wait, and kill those that stay.

    Parameters
    ----------
    processes
        Reused process ids are recognised by their start time and left alone.
    first_signal
        The polite signal.
    timeout_s
        Seconds until SIGKILL.
    """
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(first_signal)
    alive = wait_ended(processes, timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    wait_ended(alive, 5)


def wait_ended(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until processes have ended and return those that have not.

    A zombie has ended: who reaps it, and when, is its parent's affair.
    """
    deadline = time.monotonic() + timeout_s
    alive = [one for one in processes if is_alive(one)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [one for one in alive if is_alive(one)]
    return alive
