"""The thread that writes the outbox: groups, back-pressure, and what to do when space runs out."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from .outbox_store import ROW_COST, Store, Stream

BULK_BYTES: Final = 1024
"""Size from which on the body of a log event is shortened when the disk's bound is reached."""

_GROUP: Final = 2_000
_RETRY_S: Final = 0.5
_KEPT_CHARS: Final = 100
_TRIM_TO: Final = 0.9


def now() -> str:
    """Return the time as RFC 3339, UTC, microseconds, ending in ``Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True, eq=False)
class Append:
    """A numbered entry that is not on the disk yet."""

    stream: Stream
    epoch: int
    seq: int
    hash: str
    terminal: bool
    bulk: int
    body: bytes


@dataclass(slots=True, eq=False)
class Call:
    """An action on the store, which returns the bytes that it freed.

    Attributes
    ----------
    frees
        Whether it may overtake what needs space when there is none.
    """

    action: Callable[[], int]
    done: Future[None]
    frees: bool = False
    freed: int = 0


Group = list[Append | Call]


class _CallError(Exception):
    """An action failed for a reason that waiting does not mend; its caller hears of it."""

    def __init__(self, call: Call, cause: Exception) -> None:
        super().__init__(str(cause))
        self.call = call
        self.cause = cause


def _act(call: Call) -> int:
    try:
        return call.action()
    except (sqlite3.Error, OSError):
        raise
    except Exception as error:
        raise _CallError(call, error) from error


class Writer:
    """Commits what is put into it, in order and in groups; all counters are under its lock.

    Parameters
    ----------
    store
        The file; nobody else writes to it.
    max_bytes
        Bytes of reports that may wait for the backend.
    on_commit
        Called from the thread with the owners that have new rows.

    Attributes
    ----------
    lock
        Guards the counters, and whatever its owner guards by it.
    room
        Notified whenever there is more room, or no hope of any.
    pending, pending_bytes
        Appends that wait for the disk, and their size.
    stored
        Bytes that the rows take on the disk.
    failure
        Why nothing can be written at the moment, as one sentence.
    closing
        Whether nothing more is taken.
    exhausted
        Whether the disk's bound is reached and no log body is left to shorten.
    """

    def __init__(
        self, store: Store, max_bytes: int, on_commit: Callable[[set[str]], None] | None
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self.on_commit = on_commit
        self.lock = threading.Lock()
        self.room = threading.Condition(self.lock)
        self.pending = self.pending_bytes = 0
        self.stored = store.stored_bytes()
        self.failure: str | None = None
        self.closing = False
        self.exhausted = False
        self._queue: queue.SimpleQueue[Append | Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of reports that wait for the backend, in memory and on the disk."""
        return self.stored + self.pending_bytes

    @property
    def full(self) -> bool:
        """Whether as much waits for the backend as may."""
        return self.waiting_bytes >= self._max_bytes

    def append(self, item: Append) -> None:
        """Queue an entry; the caller holds the lock."""
        self.pending += 1
        self.pending_bytes += len(item.body) + ROW_COST
        self._queue.put(item)

    def call(self, action: Callable[[], int], *, frees: bool = False) -> Future[None]:
        """Queue an action, in order with the appends."""
        done: Future[None] = Future()
        self._queue.put(Call(action, done, frees))
        return done

    def close(self) -> bool:
        """Write what waits and end the thread; false when that was done before."""
        with self.lock:
            if self.closing:
                return False
            self.closing = True
            self.room.notify_all()
        self._queue.put(None)
        self._thread.join(timeout=10)
        return True

    # The thread

    def _run(self) -> None:
        while True:
            group = [self._queue.get()]
            while len(group) < _GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            stop = None in group
            self._commit([item for item in group if item is not None])
            if stop:
                return

    def _commit(self, group: Group) -> None:
        """Commit one group; waits out a full disk instead of losing what was numbered."""
        while group:
            try:
                stored = self._write(group)
            except _CallError as error:
                self._roll_back()
                group = [item for item in group if item is not error.call]
                if error.call.done.set_running_or_notify_cancel():
                    error.call.done.set_exception(error.cause)
                continue
            except (sqlite3.Error, OSError) as error:
                self._fail(error)
                if self.closing:
                    return
                group = self._relieve(group)
                self._wait_for_space()
                continue
            self.failure = None
            self._finish(group, stored)
            break
        try:
            self._trim()
            while self._queue.empty() and self._store.give_back(self.stored):
                pass
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    def _wait_for_space(self) -> None:
        """Wait before the disk is tried again; the end of the process does not wait for it."""
        with self.lock:
            self.room.wait_for(lambda: self.closing, _RETRY_S)

    def _fail(self, error: Exception) -> None:
        with self.lock:
            self.failure = (
                f"The outbox cannot be written ({error}); free disk space under "
                f"{self._store.path.parent}."
            )
            self.room.notify_all()
        self._roll_back()

    def _roll_back(self) -> None:
        if self._store.writer.in_transaction:
            self._store.writer.execute("ROLLBACK")

    def _relieve(self, group: Group) -> Group:
        """Carry out what frees space before what needs some; returns the rest."""
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            group.append(item)
        freeing: Group = [item for item in group if isinstance(item, Call) and item.frees]
        if not freeing or len(freeing) == len(group):
            return group
        try:
            stored = self._write(freeing)
        except _CallError:
            self._roll_back()  # the whole group meets it again
            return group
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return group
        self._finish(freeing, stored)
        return [item for item in group if not (isinstance(item, Call) and item.frees)]

    def _write(self, group: Group) -> int:
        """Commit a group; returns the bytes that were stored."""
        db = self._store.writer
        durable = any(isinstance(item, Append) and item.terminal for item in group)
        db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        rows: list[tuple[int, int, int, str, bytes]] = []
        stored = 0
        for item in group:
            if isinstance(item, Call):
                self._store.insert(rows)
                rows = []
                item.freed = _act(item)
            elif item.epoch == item.stream.epoch:
                key = item.stream.key(item.seq)
                rows.append((key, int(item.terminal), item.bulk, item.hash, item.body))
                stored += len(item.body) + ROW_COST
        self._store.insert(rows)
        db.execute("COMMIT")
        return stored

    def _finish(self, group: Group, stored: int) -> None:
        """Count and tell what was committed."""
        appended = [item for item in group if isinstance(item, Append)]
        calls = [item for item in group if isinstance(item, Call)]
        with self.lock:
            self.pending -= len(appended)
            self.pending_bytes -= sum(len(item.body) + ROW_COST for item in appended)
            self.stored += stored - sum(call.freed for call in calls)
            self.room.notify_all()
        for call in calls:
            # Whoever waited may have been cancelled; the action was carried out all the same.
            if call.done.set_running_or_notify_cancel():
                call.done.set_result(None)
        if appended and self.on_commit is not None:
            self.on_commit({item.stream.owner for item in appended})

    def _trim(self) -> None:
        """Bring what is stored beneath the bound, at the cost of large log bodies."""
        if self.stored < self._max_bytes:
            self.exhausted = False
            return
        while self.stored >= _TRIM_TO * self._max_bytes:
            self._store.writer.execute("BEGIN IMMEDIATE")
            count, freed = self._store.trim(_shorten)
            self._store.writer.execute("COMMIT")
            with self.lock:
                self.stored -= freed
                self.exhausted = not count
                self.room.notify_all()
            if not count:
                return


def notice(seq: int, text: str) -> bytes:
    """Return an event that only says something."""
    payload = {"kind": "notice", "text": text}
    return msgspec.json.encode({"seq": seq, "timestamp": now(), "type": "LOG", "payload": payload})


def _shorten(body: bytes) -> bytes:
    """Cut the long texts of an event; what it is stays."""
    event = msgspec.json.decode(body)
    event["payload"] = _cut(event["payload"])
    shorter = msgspec.json.encode(event)
    if len(shorter) < BULK_BYTES:
        return shorter
    text = f"An event of {len(body)} bytes was left out here: the outbox was full."
    return msgspec.json.encode({**event, "payload": {"kind": "notice", "text": text}})


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > 2 * _KEPT_CHARS:
        left_out = len(value) - _KEPT_CHARS
        return f"{value[:_KEPT_CHARS]}[... {left_out} characters left out: the outbox was full]"
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item) for item in value]
    return value
