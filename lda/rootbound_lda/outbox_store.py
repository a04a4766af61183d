"""The outbox's file: its tables, and the statements on them.

A row's key is its stream's number and its own in one integer, so that rows lie on the disk in the
order in which they are sent, in one tree and without a second index.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

StreamKind = Literal["event", "audit", "plan"]
Subject = Literal["attempt", "decomposition", "kernel"]

ZERO_HASH: Final = "0" * 64
ROW_COST: Final = 120
"""Bytes that a row takes beside its body: key, hash, and its share of the pages."""

_SEQ_BITS: Final = 40
_VERSION: Final = 2
_WAL_LIMIT: Final = 64 * 1024 * 1024
_TRIM_STEP: Final = 50
_VACUUM_PAGES: Final = 4096
_FEW_BYTES: Final = 1024 * 1024
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owners (
  owner TEXT PRIMARY KEY, subject TEXT NOT NULL, generation INTEGER NOT NULL,
  base_url TEXT NOT NULL, token TEXT NOT NULL, live INTEGER NOT NULL, fenced INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS streams (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
  acked_seq INTEGER NOT NULL, acked_hash TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS rows (
  key INTEGER PRIMARY KEY, terminal INTEGER NOT NULL, bulk INTEGER NOT NULL,
  hash TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS rows_bulk ON rows (bulk) WHERE bulk > 0;
"""
_FROM_VERSION_1: Final = """
ALTER TABLE owners RENAME TO owners_1;
ALTER TABLE streams RENAME TO streams_1;
ALTER TABLE rows RENAME TO rows_1;
"""
_MOVE_VERSION_1: Final = f"""
INSERT INTO owners SELECT owner, subject, generation, base_url, token, live, 0 FROM owners_1;
INSERT INTO streams SELECT id, kind, owner, name, acked_seq, acked_hash FROM streams_1;
INSERT INTO rows SELECT (stream << {_SEQ_BITS}) | seq, terminal, 0, hash, body FROM rows_1;
DROP TABLE owners_1; DROP TABLE streams_1; DROP TABLE rows_1;
"""  # noqa: S608 - a number of ours
_OWNER: Final = "owner, subject, generation, base_url, token, live, fenced"


class OutboxUnavailable(Exception):  # noqa: N818 - it reads as what it says
    """Reports cannot be kept; the text is one sentence for the user."""


@dataclass(slots=True)
class Stream:
    """One numbered sequence; mutable, guarded by the outbox's lock.

    Attributes
    ----------
    acked_seq
        The backend has everything up to here.
    unsure_seq
        The backend may have everything up to here: the answer to a post got lost.
    closed
        Whether it was dropped: nothing is sent, and nothing more is taken.
    epoch
        Grows with every drop; what was queued before belongs to the past.
    """

    id: int
    kind: StreamKind
    owner: str
    name: str
    acked_seq: int = 0
    acked_hash: str = ZERO_HASH
    last_seq: int = 0
    last_hash: str = ZERO_HASH
    unsure_seq: int = 0
    closed: bool = False
    epoch: int = 0

    def key(self, seq: int) -> int:
        """Return the key of the row with this number."""
        return self.id << _SEQ_BITS | seq


@dataclass(frozen=True, slots=True)
class Owner:
    """Where the streams of one attempt or decomposition are sent.

    Attributes
    ----------
    fenced
        Whether the backend refused this hand-over; a later one opens the owner again.
    """

    owner: str
    subject: Subject
    generation: int
    base_url: str
    token: str
    live: bool
    fenced: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One stored entry."""

    seq: int
    terminal: bool
    body: bytes


class Store:
    """The file; one connection writes, from one thread, another one reads.

    Parameters
    ----------
    path
        The database; its folder must exist.

    Raises
    ------
    OutboxUnavailable
        When the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_lock = threading.Lock()
        try:
            self.writer = self._connect()
            self._prepare()
            self._reader = self._connect()
        except sqlite3.Error as error:
            raise OutboxUnavailable(f"The outbox {path} cannot be opened: {error}.") from error
        path.chmod(0o600)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        # Only heeded before the first table is made: pages that get free go back to the disk.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT}")
        return connection

    def _prepare(self) -> None:
        """Make the tables, or those of the version before into ours."""
        found = int(self.writer.execute("PRAGMA user_version").fetchone()[0])
        tables = self.writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and found not in (1, _VERSION):
            raise OutboxUnavailable(
                f"The outbox {self.path} was written by another version of Rootbound (format "
                f"{found}, this one writes {_VERSION}); send what is in it with that version, or "
                "move the file away."
            )
        before, after = (_FROM_VERSION_1, _MOVE_VERSION_1) if tables and found == 1 else ("", "")
        self.writer.executescript(
            f"BEGIN IMMEDIATE;{before}{_SCHEMA}{after}PRAGMA user_version={_VERSION};COMMIT;"
        )

    def close(self) -> None:
        """Close both connections."""
        self._reader.close()
        self.writer.close()

    # Reading, from any thread

    def load(self, unsure_rows: int) -> list[Stream]:
        """Return every stream as it stands.

        Parameters
        ----------
        unsure_rows
            So many rows of each may have reached the backend without our knowing.
        """
        fenced = {row[0] for row in self._select("SELECT owner FROM owners WHERE fenced")}
        found = []
        for values in self._select(
            "SELECT id, kind, owner, name, acked_seq, acked_hash FROM streams"
        ):
            stream = Stream(*values)
            stream.last_seq, stream.last_hash = stream.acked_seq, stream.acked_hash
            last = self._select(
                "SELECT key, hash FROM rows WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1",
                (stream.key(0), stream.key((1 << _SEQ_BITS) - 1)),
            )
            if last:
                stream.last_seq, stream.last_hash = last[0][0] - stream.key(0), last[0][1]
            stream.unsure_seq = min(stream.last_seq, stream.acked_seq + unsure_rows)
            stream.closed = stream.owner in fenced
            found.append(stream)
        return found

    def stored_bytes(self) -> int:
        """Return what the rows take on the disk, about."""
        found = self._select("SELECT count(*) * ? + total(length(body)) FROM rows", (ROW_COST,))
        return int(found[0][0])

    def owners(self) -> list[Owner]:
        """Return every owner that is live or has rows to send."""
        rows = self._select(
            f"SELECT {_OWNER} FROM owners o WHERE NOT fenced AND (live OR EXISTS (SELECT 1 FROM "  # noqa: S608
            f"streams s JOIN rows r ON r.key > s.id << {_SEQ_BITS} AND r.key < s.id + 1 << "
            f"{_SEQ_BITS} WHERE s.owner=o.owner))"
        )
        return [_owner(row) for row in rows]

    def owner(self, owner: str) -> Owner | None:
        """Return where an owner's streams go."""
        rows = self._select(f"SELECT {_OWNER} FROM owners WHERE owner=?", (owner,))  # noqa: S608
        return _owner(rows[0]) if rows else None

    def rows(self, stream: Stream, *, limit: int, max_bytes: int, after_seq: int = 0) -> list[Row]:
        """Return a stream's first rows after a number; at least one, if there is one."""
        found: list[Row] = []
        size = 0
        with self._read_lock:
            cursor = self._reader.execute(
                "SELECT key, terminal, body FROM rows WHERE key > ? AND key < ? ORDER BY key "
                "LIMIT ?",
                (stream.key(after_seq), (stream.id + 1) << _SEQ_BITS, limit),
            )
            for key, terminal, body in cursor:
                size += len(body)
                if found and size > max_bytes:
                    break
                found.append(Row(key - stream.key(0), bool(terminal), body))
            cursor.close()
        return found

    def _select(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._read_lock:
            return self._reader.execute(query, tuple(values)).fetchall()

    # Writing, within the writer thread's transaction; each returns the bytes that it freed

    def insert(self, rows: Sequence[tuple[int, int, int, str, bytes]]) -> None:
        """Store rows: key, terminal, bulk, hash, body."""
        self.writer.executemany("INSERT INTO rows VALUES (?,?,?,?,?)", rows)

    def add_stream(self, stream: Stream) -> int:
        """Store a new stream."""
        values = (stream.id, stream.kind, stream.owner, stream.name, 0, ZERO_HASH)
        self.writer.execute("INSERT INTO streams VALUES (?,?,?,?,?,?)", values)
        return 0

    def put_owner(self, owner: Owner) -> int:
        """Store an owner or its new address; it is not fenced any more."""
        self.writer.execute(
            "INSERT INTO owners VALUES (?,?,?,?,?,?,0) ON CONFLICT (owner) DO UPDATE SET "
            "generation=excluded.generation, base_url=excluded.base_url, token=excluded.token, "
            "live=excluded.live, fenced=0",
            (owner.owner, owner.subject, owner.generation, owner.base_url, owner.token,
             int(owner.live)),
        )  # fmt: skip
        return 0

    def set_live(self, owner: str, *, live: bool) -> int:
        """Store whether an owner still runs."""
        self.writer.execute("UPDATE owners SET live=? WHERE owner=?", (int(live), owner))
        return 0

    def set_fenced(self, owner: str) -> int:
        """Store that the backend does not want an owner's reports."""
        self.writer.execute("UPDATE owners SET live=0, fenced=1 WHERE owner=?", (owner,))
        return 0

    def generation(self, owner: str) -> int:
        """Return the hand-over that an owner is at, 0 for one that is not known."""
        query = "SELECT generation FROM owners WHERE owner=?"
        found = self.writer.execute(query, (owner,)).fetchone()
        return int(found[0]) if found else 0

    def hash_of(self, stream: Stream, seq: int) -> str | None:
        """Return the hash of a stored row."""
        query = "SELECT hash FROM rows WHERE key=?"
        found = self.writer.execute(query, (stream.key(seq),)).fetchone()
        return str(found[0]) if found else None

    def delete(self, stream: Stream, first: int, last: int | None) -> int:
        """Delete rows by number, to the end when `last` is None."""
        end = stream.key((1 << _SEQ_BITS) - 1 if last is None else last)
        bounds = (stream.key(first), end)
        count, size = self.writer.execute(
            "SELECT count(*), total(length(body)) FROM rows WHERE key BETWEEN ? AND ?", bounds
        ).fetchone()
        self.writer.execute("DELETE FROM rows WHERE key BETWEEN ? AND ?", bounds)
        return int(count) * ROW_COST + int(size)

    def mark_acked(self, stream: Stream) -> None:
        """Store how far the backend is."""
        values = (stream.acked_seq, stream.acked_hash, stream.id)
        self.writer.execute("UPDATE streams SET acked_seq=?, acked_hash=? WHERE id=?", values)

    def replace(self, stream: Stream, seq: int, body: bytes) -> int:
        """Put another body in place of a row's."""
        key = stream.key(seq)
        found = self.writer.execute("SELECT length(body) FROM rows WHERE key=?", (key,)).fetchone()
        self.writer.execute("UPDATE rows SET terminal=0, bulk=0, body=? WHERE key=?", (body, key))
        return int(found[0]) - len(body) if found else 0

    def trim(self, shorten: Callable[[bytes], bytes]) -> tuple[int, int]:
        """Shorten the largest log bodies; returns how many, and the bytes that it freed."""
        freed = 0
        largest = self.writer.execute(
            "SELECT key, body FROM rows WHERE bulk > 0 ORDER BY bulk DESC LIMIT ?", (_TRIM_STEP,)
        ).fetchall()
        for key, body in largest:
            shorter = shorten(body)
            self.writer.execute("UPDATE rows SET bulk=0, body=? WHERE key=?", (shorter, key))
            freed += len(body) - len(shorter)
        return len(largest), freed

    def give_back(self, stored: int) -> bool:
        """Return some free pages to the disk, once there are many and few rows are left.

        Parameters
        ----------
        stored
            Bytes that the rows take.

        Returns
        -------
        bool
            Whether it did; there may be more.
        """
        if stored > _FEW_BYTES:
            return False
        free = int(self.writer.execute("PRAGMA freelist_count").fetchone()[0])
        if free < _VACUUM_PAGES:
            return False
        self.writer.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES // 2})").fetchall()
        return int(self.writer.execute("PRAGMA freelist_count").fetchone()[0]) < free


def _owner(row: Sequence[Any]) -> Owner:
    owner, subject, generation, base_url, token, live, fenced = row
    return Owner(owner, subject, generation, base_url, token, bool(live), bool(fenced))
