"""Finding and killing every descendant of this process."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process, of all its threads; none if it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names alone
    except OSError:
        return found
    for thread in threads:
        try:
            fd = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            text = b""
            while part := os.read(fd, 65536):
                text += part
        except OSError:
            text = b""
        finally:
            os.close(fd)
        found += [int(number) for number in text.split()]
    return found


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process, parents before children."""
    found: list[int] = []
    queue = [pid]
    while queue:
        for child in children_of(queue.pop()):
            found.append(child)
            queue.append(child)
    return found


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 if it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = os.read(fd, 4096)
    except OSError:
        return 0
    finally:
        os.close(fd)
    # The name in brackets may hold anything, brackets as well.
    return int(text[text.rindex(b")") + 2 :].split()[1])


def kill_descendants(*, reap_except: int | None = None, keep: frozenset[int] = frozenset()) -> None:
    """Kill every descendant and reap what becomes a direct child, until none is left.

    The caller must be a subreaper: then whoever leaves its parent comes here, and a process that
    forks faster than it is killed is stopped first.

    Parameters
    ----------
    reap_except
        A direct child that is killed but left for the caller to wait for.
    keep
        Direct children that are left alone, with their descendants.
    """
    me = os.getpid()
    pause = 0.0
    while True:
        tops = [pid for pid in children_of(me) if pid not in keep]
        victims = [*tops, *(pid for top in tops for pid in descendants(top))]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in victims:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        for pid in tops:
            if pid != reap_except:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        left = [pid for pid in children_of(me) if pid not in keep]
        others = [pid for pid in left if pid != reap_except]
        if not others and (reap_except is None or not children_of(reap_except)):
            return
        time.sleep(pause)
        pause = min(pause + 0.0005, 0.01)
