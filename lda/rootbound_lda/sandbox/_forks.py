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

_UNDER_WAY_S = 0.1

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
        Most processes and threads that the tree may have at a time.
    """

    def __init__(self, listener: Listener, limit: int) -> None:
        self._listener = listener
        self._limit = limit
        # A fork adds one at most, so the tree need not be counted before this many more; what a
        # fresh tree has is the child alone.
        self._room = limit - 1
        self._refused = 0
        self._full_until = 0.0
        # When each thread was last allowed to fork: a fork that is under way is not seen yet.
        self._allowed: dict[int, float] = {}
        self.handlers: Mapping[str, Handler] = dict.fromkeys(FORK_CALLS, self._fork)

    def _fork(self, call: Call) -> None:
        # Whoever asks again has forked.
        self._allowed.pop(call.tid, None)
        if self._room < 1 and time.monotonic() >= self._full_until:
            self._count()
        if self._room < 1:
            self._refused += 1
            if self._refused > PATIENCE:
                raise StopError("The tree goes on asking for more processes than it may have.")
            raise _sys.raise_errno(errno.EAGAIN)
        self._room -= 1
        self._allowed[call.tid] = time.monotonic()
        self._listener.let_run(call)

    def _count(self) -> None:
        began = time.monotonic()
        since = began - _UNDER_WAY_S
        self._allowed = {tid: at for tid, at in self._allowed.items() if at > since}
        self._room = self._limit - _tree_size() - len(self._allowed)
        if self._room < 1 and self._allowed:
            # What is under way comes to its end, and nobody else begins meanwhile.
            time.sleep(max(self._allowed.values()) - since)
            self._allowed.clear()
            began = time.monotonic()
            self._room = self._limit - _tree_size()
        if self._room < 1:
            # A bomb would have the supervisor do nothing but count.
            now = time.monotonic()
            self._full_until = now + 10 * (now - began)


def _tree_size() -> int:
    return sum(_threads(pid) for pid in descendants(os.getpid()))


def _threads(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - names alone
    return 0
