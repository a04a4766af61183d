"""A limit on the processes of a command's tree.

The kernel's own limit counts everything that the user runs and does not bind root.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from contextlib import suppress

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._notify import Call, Handler, Listener
from rootbound_lda.sandbox._records import StopError
from rootbound_lda.sandbox._tree import descendants

FORK_CALLS = ("fork", "vfork", "clone")

PATIENCE = 1000
"""Refused calls after which the tree is killed: whoever goes on asking that long is a bomb, and
would keep the machine busy until the time limit."""


class ForkBroker:
    """Answers the calls that make processes and threads.

    Parameters
    ----------
    listener
        Where the calls come from.
    limit
        Most processes and threads that the tree may have at a time; those that are being made
        while the tree is counted may come on top.
    """

    def __init__(self, listener: Listener, limit: int) -> None:
        self._listener = listener
        self._limit = limit
        # A fork adds one at most, so the tree need not be counted before this many more; what a
        # fresh tree has is the child alone.
        self._room = limit - 1
        self._refused = 0
        self._full_until = 0.0
        self.handlers: Mapping[str, Handler] = dict.fromkeys(FORK_CALLS, self._fork)

    def _fork(self, call: Call) -> None:
        if self._room < 1 and time.monotonic() >= self._full_until:
            self._count()
        if self._room < 1:
            self._refused += 1
            if self._refused > PATIENCE:
                raise StopError("The tree goes on asking for more processes than it may have.")
            raise _sys.raise_errno(errno.EAGAIN)
        self._room -= 1
        self._listener.let_run(call)

    def _count(self) -> None:
        began = time.monotonic()
        self._room = self._limit - sum(_threads(pid) for pid in descendants(os.getpid()))
        if self._room < 1:
            # A bomb would have the supervisor do nothing but count.
            now = time.monotonic()
            self._full_until = now + 10 * (now - began)


def _threads(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - names alone
    return 0
