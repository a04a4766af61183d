"""A limit on the processes of a tree for root, whom the kernel's own limit does not bind."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._notify import Call, Handler, Listener
from rootbound_lda.sandbox._tree import descendants

FORK_CALLS = ("fork", "vfork", "clone")


class ForkBroker:
    """Answers the calls that make processes and threads.

    Parameters
    ----------
    listener
        Where the calls come from.
    limit
        Most processes and threads that the tree may have at a time.
    """

    def __init__(self, listener: Listener, limit: int) -> None:
        self._listener = listener
        self._limit = limit
        # A fork adds one at most, so the tree need not be counted before this many more.
        self._room = 0
        self.handlers: Mapping[str, Handler] = dict.fromkeys(FORK_CALLS, self._fork)

    def _fork(self, call: Call) -> None:
        if self._room < 1:
            self._room = self._limit - sum(_threads(pid) for pid in descendants(os.getpid()))
        if self._room < 1:
            raise _sys.raise_errno(errno.EAGAIN)
        self._room -= 1
        self._listener.let_run(call)


def _threads(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - names alone
    return 0
