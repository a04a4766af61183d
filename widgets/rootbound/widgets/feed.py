"""Live updates: a thread that reads the server, and the way back into the kernel's main loop."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

from ..errors import ConnectionFailedError, RootboundError

_log = logging.getLogger("rootbound.widgets")

_RETRY_S = 5.0
_WAKE_S = 0.5
_JOIN_S = 2.0

Source = Callable[[threading.Event], Iterator[Any]]
Dispatch = Callable[[Callable[[], None]], None]


def main_loop_dispatch() -> Dispatch:
    """Return the way to run a function where comm messages may be sent.

    Returns
    -------
    callable
        In a kernel: hands a function to the kernel's main event loop, from any thread. Without a
        kernel there is no front end either, and the function is called at once.
    """
    # Only a process that already runs ipykernel can be a kernel.
    base = sys.modules.get("ipykernel.kernelbase")
    if base is not None and base.Kernel.initialized():
        loop = getattr(base.Kernel.instance(), "io_loop", None)
        if loop is not None:
            return loop.add_callback  # type: ignore[no-any-return]
    return lambda function: function()


class Feed:
    """Reads a source in a daemon thread and delivers its items on the main loop, in batches.

    Items wait while the kernel is busy; when many do, the thread stops reading, so that the
    server holds the rest instead of our memory.

    Parameters
    ----------
    source : callable
        Given the stop event, returns the iterator to read.
    deliver : bound method
        Called on the main loop with a list of items. Held weakly: a collected owner ends the feed.
    failed : bound method
        Called on the main loop with the `RootboundError` that ended the feed. Held weakly.
    max_pending : int, default 2000
        Items waiting at most.
    dispatch : callable or None, default None
        Runs a function on the main loop; None finds the kernel's.
    """

    def __init__(
        self,
        source: Source,
        deliver: Callable[[list[Any]], None],
        failed: Callable[[RootboundError], None],
        *,
        max_pending: int = 2000,
        dispatch: Dispatch | None = None,
    ) -> None:
        self._source = source
        self._deliver = _weak(deliver)
        self._failed = _weak(failed)
        self._max_pending = max_pending
        self._dispatch = dispatch or main_loop_dispatch()
        self.backlog = 0
        """Items the owner took but could not pass on; they count as waiting."""
        self._stop = threading.Event()
        self._room = threading.Condition()
        self._pending: list[Any] = []
        self._scheduled = False
        self._thread = threading.Thread(target=self._read, name="rootbound-feed", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still reads."""
        return self._thread.is_alive() and not self._stop.is_set()

    def stop(self, *, wait: bool = False) -> None:
        """End the feed; nothing is delivered any more.

        Parameters
        ----------
        wait : bool, default False
            Wait up to two seconds for the thread to end.
        """
        self._stop.set()
        with self._room:
            self._pending.clear()
            self._room.notify_all()
        if wait and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                for item in self._source(self._stop):
                    if not self._put(item):
                        return
            except ConnectionFailedError as error:
                # The stack may be down for long; a view left open finds it again.
                self._report(error)
                self._stop.wait(_RETRY_S)
            except RootboundError as error:
                self._report(error)
                return
            except Exception as error:
                _log.exception("A live view of Rootbound stopped.")
                self._report(RootboundError(f"The live view stopped: {error}"))
                return
            else:
                return

    def _put(self, item: Any) -> bool:
        """Queue an item, waiting for room; return whether to go on."""
        with self._room:
            while self._is_full() and not self._stop.is_set():
                if self._deliver() is None:
                    return False
                self._room.wait(_WAKE_S)
            if self._stop.is_set() or self._deliver() is None:
                return False
            self._pending.append(item)
            if self._scheduled:
                return True
            self._scheduled = True
        self._dispatch(self._flush)
        return True

    def _is_full(self) -> bool:
        return len(self._pending) + self.backlog >= self._max_pending

    def _flush(self) -> None:
        """Deliver everything that waits; runs on the main loop."""
        with self._room:
            items, self._pending = self._pending, []
            self._scheduled = False
            self._room.notify_all()
        deliver = self._deliver()
        if items and deliver is not None and not self._stop.is_set():
            deliver(items)

    def _report(self, error: RootboundError) -> None:
        def tell() -> None:
            failed = self._failed()
            if failed is not None and not self._stop.is_set():
                failed(error)

        self._dispatch(tell)


def _weak(function: Callable[..., None]) -> Callable[[], Callable[..., None] | None]:
    """Return a weak reference to a bound method, a strong one to anything else."""
    if isinstance(function, MethodType):
        return weakref.WeakMethod(function)
    return lambda: function
