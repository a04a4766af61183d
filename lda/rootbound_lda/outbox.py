"""The durable outbox: what the LDA reports is on disk before it is anywhere else.

One writer thread owns the database and commits in groups. Numbers are given under a lock at
the moment of the append, so every stream is without holes in the order of the appends.
A commit survives the death of the process; a terminal report also survives a power cut.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

StreamKind = Literal["event", "audit", "plan"]
Subject = Literal["attempt", "decomposition"]
ZERO_HASH: Final = "0" * 64
MAX_PENDING: Final = 50_000
"""Appends that may wait for the disk before the next one has to."""

PATIENCE_S: Final = 2.0
"""Longest wait for room, in seconds; after it an append is refused, and the operation with it."""

_GROUP: Final = 2_000
_RETRY_S: Final = 0.5
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owners (
  owner TEXT PRIMARY KEY, subject TEXT NOT NULL, generation INTEGER NOT NULL,
  base_url TEXT NOT NULL, token TEXT NOT NULL, live INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS streams (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
  last_seq INTEGER NOT NULL, last_hash TEXT NOT NULL,
  acked_seq INTEGER NOT NULL, acked_hash TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS rows (
  id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, seq INTEGER NOT NULL,
  terminal INTEGER NOT NULL, hash TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (stream, seq));
"""


class OutboxUnavailable(Exception):  # noqa: N818 - it reads as what it says
    """Reports cannot be kept; the text is one sentence for the user."""


def now() -> str:
    """Return the time as RFC 3339, UTC, microseconds, ending in ``Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class Stream:
    """One numbered sequence; mutable, guarded by the outbox's lock."""

    id: int
    kind: StreamKind
    owner: str
    name: str
    last_seq: int = 0
    last_hash: str = ZERO_HASH
    acked_seq: int = 0
    acked_hash: str = ZERO_HASH
    closed: bool = False
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """Where the streams of one attempt or decomposition are sent."""

    owner: str
    subject: Subject
    generation: int
    base_url: str
    token: str
    live: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One stored entry."""

    id: int
    seq: int
    terminal: bool
    body: bytes


@dataclass(slots=True)
class _Append:
    stream: Stream
    epoch: int
    seq: int
    hash: str
    terminal: bool
    body: bytes


@dataclass(slots=True)
class _Call:
    action: Callable[[sqlite3.Connection], None]
    done: Future[None]


Build = Callable[[int, str], tuple[bytes, str]]
"""From the number and the hash of the entry before: the entry's bytes and its hash."""


class Outbox:
    """A SQLite file with every report that the backend has not acknowledged.

    Parameters
    ----------
    path
        The database; its folder must exist.
    on_commit
        Called from the writer thread with the owners that have new rows.

    Raises
    ------
    OutboxUnavailable
        When the file cannot be opened.
    """

    def __init__(self, path: Path, on_commit: Callable[[set[str]], None] | None = None) -> None:
        self._path = path
        self.on_commit = on_commit
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._read_lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Append | _Call | None] = queue.SimpleQueue()
        self._pending = 0
        self._failure: str | None = None
        self._closing = False
        try:
            self._writer = self._connect()
            self._check_version()
            self._writer.executescript(_SCHEMA)
            self._writer.execute(f"PRAGMA user_version={_VERSION}")
            self._reader = self._connect()
        except sqlite3.Error as error:
            raise OutboxUnavailable(f"The outbox {path} cannot be opened: {error}.") from error
        path.chmod(0o600)
        self._streams: dict[tuple[str, str], Stream] = {}
        columns = "id, kind, owner, name, last_seq, last_hash, acked_seq, acked_hash"
        for row in self._writer.execute(f"SELECT {columns} FROM streams"):  # noqa: S608
            self._streams[row[1], row[3]] = Stream(*row)
        self._next_id = max((stream.id for stream in self._streams.values()), default=0) + 1
        self._thread = threading.Thread(target=self._write_forever, name="outbox", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=10000")
        return connection

    def _check_version(self) -> None:
        found = self._writer.execute("PRAGMA user_version").fetchone()[0]
        tables = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and found != _VERSION:
            raise OutboxUnavailable(
                f"The outbox {self._path} was written by another version of Rootbound (format "
                f"{found}, this one writes {_VERSION}); send what is in it with that version, or "
                "move the file away."
            )

    @property
    def failure(self) -> str | None:
        """Why nothing can be written at the moment, as one sentence, or ``None``."""
        return self._failure

    # Appending

    def open_owner(self, owner: Owner) -> Future[None]:
        """Store where an owner's streams go; a known owner gets the new address and token."""
        return self.call(
            lambda db: db.execute(
                "INSERT INTO owners VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (owner) DO UPDATE SET "
                "generation=excluded.generation, base_url=excluded.base_url, "
                "token=excluded.token, live=excluded.live",
                (
                    owner.owner,
                    owner.subject,
                    owner.generation,
                    owner.base_url,
                    owner.token,
                    int(owner.live),
                ),
            )
        )

    def stream(self, kind: StreamKind, owner: str, name: str) -> Stream:
        """Return a stream, made on first use; its numbers go on where they were."""
        with self._lock:
            stream = self._streams.get((kind, name))
            if stream is not None:
                stream.closed = False
                return stream
            stream = Stream(self._next_id, kind, owner, name)
            self._next_id += 1
            self._streams[kind, name] = stream
            values = (stream.id, kind, owner, name, 0, ZERO_HASH, 0, ZERO_HASH)
            self._put_call(
                lambda db: db.execute("INSERT INTO streams VALUES (?,?,?,?,?,?,?,?)", values)
            )
            return stream

    def append(self, stream: Stream, build: Build, *, terminal: bool = False) -> int:
        """Give an entry its number and queue it for the disk, without waiting for the disk.

        Only when `MAX_PENDING` entries wait already does the caller wait, at most `PATIENCE_S`.

        Parameters
        ----------
        stream
            Where it belongs.
        build
            Makes the entry's bytes once its number is known.
        terminal
            Whether it ends the stream; such a row is synced to the disk itself.

        Returns
        -------
        int
            The entry's number, or 0 when the stream was dropped (the backend refused it).

        Raises
        ------
        OutboxUnavailable
            When too much waits for the disk.
        """
        with self._lock:
            if not terminal:
                self._drained.wait_for(self._may_go_on, PATIENCE_S)
            if stream.closed:
                return 0
            if self._closing or (self._pending >= MAX_PENDING and not terminal):
                raise OutboxUnavailable(self._failure or "The outbox cannot keep up with the run.")
            seq = stream.last_seq + 1
            body, digest = build(seq, stream.last_hash)
            stream.last_seq, stream.last_hash = seq, digest
            self._pending += 1
            self._queue.put(_Append(stream, stream.epoch, seq, digest, terminal, body))
            return seq

    def _may_go_on(self) -> bool:
        """Whether there is room, or no hope of any."""
        return self._pending < MAX_PENDING or self._closing or self._failure is not None

    def call(self, action: Callable[[sqlite3.Connection], Any]) -> Future[None]:
        """Run ``action`` on the writer's connection, in order with the appends."""
        with self._lock:
            return self._put_call(action)

    def _put_call(self, action: Callable[[sqlite3.Connection], Any]) -> Future[None]:
        done: Future[None] = Future()
        self._queue.put(_Call(action, done))
        return done

    async def sync(self, timeout_s: float = 10.0) -> None:
        """Wait until everything appended so far is committed.

        Parameters
        ----------
        timeout_s
            Seconds to wait. Default 10.

        Raises
        ------
        OutboxUnavailable
            When it did not get there, usually for want of disk space.
        """
        done = self.call(lambda _: None)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(asyncio.wrap_future(done))
        except TimeoutError as error:
            raise OutboxUnavailable(self._failure or "The outbox does not answer.") from error

    # Acknowledging

    def acknowledge(self, stream: Stream, seq: int) -> Future[None]:
        """Delete a stream's rows up to ``seq``; the backend has them."""

        def action(db: sqlite3.Connection) -> None:
            found = db.execute(
                "SELECT hash FROM rows WHERE stream=? AND seq=?", (stream.id, seq)
            ).fetchone()
            with self._lock:
                stream.acked_seq = max(stream.acked_seq, min(seq, stream.last_seq))
                stream.acked_hash = found[0] if found else stream.acked_hash
            db.execute("DELETE FROM rows WHERE stream=? AND seq<=?", (stream.id, seq))
            db.execute(
                "UPDATE streams SET acked_seq=?, acked_hash=? WHERE id=?",
                (stream.acked_seq, stream.acked_hash, stream.id),
            )

        return self.call(action)

    def drop(self, owner: str) -> Future[None]:
        """Forget an owner's unsent rows and take no more; the backend does not want them."""
        with self._lock:
            mine = [stream for stream in self._streams.values() if stream.owner == owner]
            for stream in mine:
                stream.closed = True
                stream.epoch += 1  # what is still queued belongs to the past
                # A later generation of the run goes on after what the backend has.
                stream.last_seq, stream.last_hash = stream.acked_seq, stream.acked_hash
            values = [(stream.acked_seq, stream.acked_hash, stream.id) for stream in mine]

        def action(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM rows WHERE stream=?", [(value[2],) for value in values])
            db.executemany("UPDATE streams SET last_seq=?, last_hash=? WHERE id=?", values)
            db.execute("UPDATE owners SET live=0 WHERE owner=?", (owner,))

        return self.call(action)

    def replace(self, stream: Stream, seq: int, body: bytes) -> Future[None]:
        """Put another body in place of a row that the backend will never take."""
        return self.call(
            lambda db: db.execute(
                "UPDATE rows SET body=? WHERE stream=? AND seq=?", (body, stream.id, seq)
            )
        )

    def set_live(self, owner: str, *, live: bool) -> Future[None]:
        """Record whether an owner still runs."""
        return self.call(
            lambda db: db.execute("UPDATE owners SET live=? WHERE owner=?", (int(live), owner))
        )

    # Reading

    def owners(self) -> list[Owner]:
        """Return every owner that is live or has rows to send."""
        rows = self._select(
            "SELECT o.owner, subject, generation, base_url, token, live FROM owners o "
            "WHERE live OR EXISTS (SELECT 1 FROM rows r JOIN streams s ON s.id=r.stream "
            "WHERE s.owner=o.owner)"
        )
        return [_owner(row) for row in rows]

    def owner(self, owner: str) -> Owner | None:
        """Return where an owner's streams go."""
        rows = self._select(
            "SELECT owner, subject, generation, base_url, token, live FROM owners WHERE owner=?",
            (owner,),
        )
        return _owner(rows[0]) if rows else None

    def streams_of(self, owner: str) -> list[Stream]:
        """Return an owner's streams."""
        with self._lock:
            return [stream for stream in self._streams.values() if stream.owner == owner]

    def rows(
        self, stream: Stream, *, limit: int, before_id: int | None = None, after_seq: int = 0
    ) -> list[Row]:
        """Return a stream's first unsent rows, in order.

        Parameters
        ----------
        stream
            Whose rows.
        limit
            At most so many.
        before_id
            Only rows that were stored before this one.
        after_seq
            Only rows with a greater number.
        """
        bound = before_id if before_id is not None else 1 << 62
        found = self._select(
            "SELECT id, seq, terminal, body FROM rows WHERE stream=? AND id<? AND seq>? "
            "ORDER BY seq LIMIT ?",
            (stream.id, bound, after_seq, limit),
        )
        return [Row(row[0], row[1], bool(row[2]), row[3]) for row in found]

    def depth(self) -> int:
        """Return how many rows wait for the backend."""
        return int(self._select("SELECT count(*) FROM rows")[0][0]) + self._pending

    def _select(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._read_lock:
            return self._reader.execute(query, tuple(values)).fetchall()

    # The writer thread

    def _write_forever(self) -> None:
        while True:
            first = self._queue.get()
            group = [first]
            while len(group) < _GROUP:
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            stop = None in group
            self._commit([item for item in group if item is not None])
            if stop:
                return

    def _commit(self, group: list[_Append | _Call]) -> None:
        """Commit one group; waits out a full disk instead of losing what was numbered."""
        while group:
            try:
                self._commit_once(group)
            except (sqlite3.Error, OSError) as error:
                with self._lock:
                    self._failure = (
                        f"The outbox cannot be written ({error}); free disk space under "
                        f"{self._path.parent}."
                    )
                    self._drained.notify_all()
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                if self._closing:
                    return
                time.sleep(_RETRY_S)
                continue
            self._failure = None
            break
        appended = [item for item in group if isinstance(item, _Append)]
        with self._lock:
            self._pending -= len(appended)
            self._drained.notify_all()
        for item in group:
            if isinstance(item, _Call):
                item.done.set_result(None)
        if appended and self.on_commit is not None:
            self.on_commit({item.stream.owner for item in appended})

    def _commit_once(self, group: list[_Append | _Call]) -> None:
        db = self._writer
        durable = any(isinstance(item, _Append) and item.terminal for item in group)
        db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        for item in group:
            if isinstance(item, _Call):
                item.action(db)
                continue
            if item.epoch != item.stream.epoch:
                continue
            values = (item.stream.id, item.seq, int(item.terminal), item.hash, item.body)
            db.execute(
                "INSERT INTO rows (stream, seq, terminal, hash, body) VALUES (?,?,?,?,?)", values
            )
            db.execute(
                "UPDATE streams SET last_seq=?, last_hash=? WHERE id=?",
                (item.seq, item.hash, item.stream.id),
            )
        db.execute("COMMIT")

    def close(self) -> None:
        """Write what waits and close the file."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._queue.put(None)
        self._thread.join(timeout=10)
        self._reader.close()
        self._writer.close()


def _owner(row: Sequence[Any]) -> Owner:
    owner, subject, generation, base_url, token, live = row
    return Owner(owner, subject, generation, base_url, token, live=bool(live))
