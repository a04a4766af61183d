"""The durable outbox: what the LDA reports is on disk before it is anywhere else.

One writer thread owns the database and commits in groups. Numbers are given under a lock at
the moment of the append, so every stream is without holes in the order of the appends.
A commit survives the death of the process; a terminal report also survives a power cut.

It is bounded in memory and on the disk. When as much waits for the backend as the disk may hold,
the largest bodies of log events go first, each replaced by its beginning and a sentence that says
so; then new log events are left out and counted. A status, an error or an artifact is always
taken. Audit entries are never dropped: an operation that cannot be recorded is refused.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from .outbox_store import (
    ZERO_HASH,
    OutboxUnavailable,
    Owner,
    Row,
    Store,
    Stream,
    StreamKind,
    Subject,
)
from .outbox_writer import BULK_BYTES, Append, Writer, notice, now

__all__ = [
    "BULK_BYTES",
    "DEFAULT_MAX_BYTES",
    "MAX_BATCH_ROWS",
    "MAX_PENDING",
    "MAX_PENDING_BYTES",
    "PATIENCE_S",
    "ZERO_HASH",
    "Build",
    "Lane",
    "Outbox",
    "OutboxUnavailable",
    "Owner",
    "Row",
    "Stream",
    "StreamKind",
    "Subject",
    "now",
]

Lane = Literal["audit", "log", "keep", "end"]
"""What may happen to an entry when there is no room: ``audit`` waits, then is refused; ``log`` is
left out; ``keep`` is taken beyond the bound; ``end`` is taken whatever else waits."""

DEFAULT_MAX_BYTES: Final = 1 << 30
"""Bytes of reports that may wait for the backend."""

MAX_PENDING: Final = 50_000
"""Appends that may wait for the disk before the next one has to."""

MAX_PENDING_BYTES: Final = 32 << 20
"""Bytes of appends that may wait for the disk, in memory, before the next one has to."""

PATIENCE_S: Final = 2.0
"""Longest wait for room, in seconds; after it an append is refused, and the operation with it."""

MAX_BATCH_ROWS: Final = 5_000
"""Rows that one post carries at most; no more of a stream can be under way at a time."""

_SUPERSEDED: Final = "A report of an earlier hand-over of this attempt was left out."


@dataclass(slots=True)
class _Past:
    """What a run that is over leaves of each stream: up to where it is acknowledged and kept."""

    known: bool = False
    ends: list[tuple[Stream, int, int]] = field(default_factory=list)


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
    max_bytes
        Bytes of reports that may wait for the backend. Default 1 GiB.

    Raises
    ------
    OutboxUnavailable
        When the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        on_commit: Callable[[set[str]], None] | None = None,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self._store = Store(path)
        try:
            streams = self._store.load(MAX_BATCH_ROWS)
            self._writer = Writer(self._store, max_bytes, on_commit)
        except sqlite3.Error as error:
            raise OutboxUnavailable(f"The outbox {path} cannot be read: {error}.") from error
        self._lock = self._writer.lock
        self._streams = {(stream.kind, stream.name): stream for stream in streams}
        self._next_id = max((stream.id for stream in streams), default=0) + 1

    def set_on_commit(self, on_commit: Callable[[set[str]], None] | None) -> None:
        """Say who is told, from the writer thread, of the owners that have new rows."""
        self._writer.on_commit = on_commit

    @property
    def failure(self) -> str | None:
        """Why nothing can be written at the moment, as one sentence, or ``None``."""
        return self._writer.failure

    @property
    def waiting_bytes(self) -> int:
        """Bytes of reports that wait for the backend, in memory and on the disk."""
        return self._writer.waiting_bytes

    @property
    def full(self) -> bool:
        """Whether as much waits for the backend as may."""
        return self._writer.full

    # Appending

    def open_owner(self, owner: Owner) -> Future[None]:
        """Store where an owner's streams go; a known owner gets the new address and token.

        A later hand-over than the stored one supersedes it: what the earlier run reported and the
        backend does not have is dropped, but for its audit, which is sent under the new one.
        """
        past = _Past()

        def action() -> int:
            if not past.known and self._store.generation(owner.owner) < owner.generation:
                self._end(past, [one for one in self._of(owner.owner) if one.kind != "audit"])
            for stream in self._of(owner.owner):
                stream.closed = False
            return self._clear(past) + self._store.put_owner(owner)

        return self._writer.call(action)

    def stream(self, kind: StreamKind, owner: str, name: str) -> Stream:
        """Return a stream, made on first use; its numbers go on where they were."""
        with self._lock:
            stream = self._streams.get((kind, name))
            if stream is not None:
                return stream
            stream = made = Stream(self._next_id, kind, owner, name)
            self._next_id += 1
            self._streams[kind, name] = made
            self._writer.call(lambda: self._store.add_stream(made))
            return stream

    def append(self, stream: Stream, build: Build, *, lane: Lane = "audit") -> int:
        """Give an entry its number and queue it for the disk, without waiting for the disk.

        Only when `MAX_PENDING` entries or `MAX_PENDING_BYTES` wait already, or the disk's bound is
        reached, does the caller wait, at most `PATIENCE_S`.

        Parameters
        ----------
        stream
            Where it belongs.
        build
            Makes the entry's bytes once its number is known.
        lane
            What may happen to it when there is no room. Default ``"audit"``. The row of an
            ``"end"`` is synced to the disk itself.

        Returns
        -------
        int
            The entry's number, or 0 when it was not taken: the stream was dropped (the backend
            refused it), or a log entry found the outbox full.

        Raises
        ------
        OutboxUnavailable
            When too much waits for the disk or for the backend.
        """
        with self._lock:
            if lane != "end" and not self._has_room(lane):
                self._writer.room.wait_for(lambda: self._may_go_on(lane), PATIENCE_S)
            if stream.closed or (lane == "log" and self._writer.full):
                return 0
            if self._writer.closing or (lane != "end" and not self._has_room(lane)):
                raise OutboxUnavailable(self._why_not(lane))
            seq = stream.last_seq + 1
            body, digest = build(seq, stream.last_hash)
            stream.last_seq, stream.last_hash = seq, digest
            bulk = len(body) if lane == "log" and len(body) >= BULK_BYTES else 0
            terminal = lane == "end"
            self._writer.append(Append(stream, stream.epoch, seq, digest, terminal, bulk, body))
            return seq

    def _has_room(self, lane: Lane) -> bool:
        writer = self._writer
        in_memory = writer.pending < MAX_PENDING and writer.pending_bytes < MAX_PENDING_BYTES
        return in_memory and (lane == "keep" or not writer.full)

    def _may_go_on(self, lane: Lane) -> bool:
        """Whether there is room, or no hope of any."""
        writer = self._writer
        if writer.closing or writer.failure is not None:
            return True
        # A log entry is left out at once when there is nothing to shorten any more.
        return self._has_room(lane) or (lane == "log" and writer.full and writer.exhausted)

    def _why_not(self, lane: Lane) -> str:
        if self.failure is not None:
            return self.failure
        if lane == "audit" and self.full:
            return (
                f"{self.waiting_bytes >> 20} MiB of reports wait for the backend, as much as may; "
                "start it with `rootbound up`, or raise ROOTBOUND_LDA_OUTBOX_MAX_BYTES."
            )
        return "The outbox cannot keep up with the run."

    def call(self, action: Callable[[sqlite3.Connection], Any]) -> Future[None]:
        """Run ``action`` on the writer's connection, in order with the appends."""

        def run() -> int:
            action(self._store.writer)
            return 0

        return self._writer.call(run)

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait, in a thread, until everything appended so far is committed.

        Parameters
        ----------
        timeout_s
            Seconds to wait. Default 30.

        Raises
        ------
        OutboxUnavailable
            When it did not get there, usually for want of disk space.
        """
        try:
            self._writer.call(lambda: 0).result(timeout_s)
        except TimeoutError as error:
            raise OutboxUnavailable(self.failure or "The outbox does not answer.") from error

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
        done = self._writer.call(lambda: 0)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(asyncio.wrap_future(done))
        except TimeoutError as error:
            raise OutboxUnavailable(self.failure or "The outbox does not answer.") from error

    # Acknowledging

    def acknowledge(self, stream: Stream, seq: int) -> Future[None]:
        """Delete a stream's rows up to ``seq``; the backend has them."""

        def action() -> int:
            digest = self._store.hash_of(stream, seq)
            with self._lock:
                if seq > stream.acked_seq:
                    stream.acked_seq = min(seq, stream.last_seq)
                    stream.acked_hash = digest or stream.acked_hash
            self._store.mark_acked(stream)
            return self._store.delete(stream, 0, seq)

        return self._writer.call(action, frees=True)

    def drop(self, owner: str) -> Future[None]:
        """Forget an owner's unsent rows and take no more; the backend does not want them."""
        with self._lock:
            for stream in self._of(owner):
                stream.closed = True

        past = _Past()

        def action() -> int:
            if not past.known:
                self._end(past, self._of(owner))
            return self._clear(past) + self._store.set_fenced(owner)

        return self._writer.call(action)

    def _of(self, owner: str) -> list[Stream]:
        return [stream for stream in list(self._streams.values()) if stream.owner == owner]

    def _end(self, past: _Past, streams: list[Stream]) -> None:
        """Give up what the backend surely lacks; the numbers go on after the rest.

        Done once, in memory; the disk follows in `_clear`, again if its commit fails.
        """
        with self._lock:
            for stream in streams:
                stream.epoch += 1  # what is still queued belongs to the past
                last = stream.acked_seq
                if stream.kind != "plan":
                    last = max(last, min(stream.unsure_seq, stream.last_seq))
                digest = self._store.hash_of(stream, last)
                if digest is None:
                    last, digest = stream.acked_seq, stream.acked_hash
                stream.last_seq, stream.last_hash = last, digest
                past.ends.append((stream, stream.acked_seq, last))
            past.known = True

    def _clear(self, past: _Past) -> int:
        """Delete what was given up.

        What the backend may have, because an answer got lost, keeps its number: an audit entry
        as it is, an event as a notice.
        """
        freed = 0
        for stream, acked, last in past.ends:
            freed += self._store.delete(stream, last + 1, None)
            if stream.kind == "event":
                for seq in range(acked + 1, last + 1):
                    freed += self._store.replace(stream, seq, notice(seq, _SUPERSEDED))
        return freed

    def replace(self, stream: Stream, seq: int, body: bytes) -> Future[None]:
        """Put another body in place of a row that the backend will never take."""
        return self._writer.call(lambda: self._store.replace(stream, seq, body))

    def set_live(self, owner: str, *, live: bool) -> Future[None]:
        """Record whether an owner still runs."""
        return self._writer.call(lambda: self._store.set_live(owner, live=live))

    # Reading

    def owners(self) -> list[Owner]:
        """Return every owner that is live or has rows to send."""
        return self._store.owners()

    def owner(self, owner: str) -> Owner | None:
        """Return where an owner's streams go."""
        return self._store.owner(owner)

    def streams_of(self, owner: str) -> list[Stream]:
        """Return an owner's streams."""
        with self._lock:
            return self._of(owner)

    def rows(
        self, stream: Stream, *, limit: int, max_bytes: int = 1 << 62, after_seq: int = 0
    ) -> list[Row]:
        """Return a stream's first unsent rows, in order.

        Parameters
        ----------
        stream
            Whose rows.
        limit
            At most so many.
        max_bytes
            At most so many bytes of bodies, but at least one row. Default no bound.
        after_seq
            Only rows with a greater number.
        """
        return self._store.rows(stream, limit=limit, max_bytes=max_bytes, after_seq=after_seq)

    def depth(self) -> int:
        """Return how many rows wait for the backend."""
        with self._lock:
            open_ = [stream for stream in self._streams.values() if not stream.closed]
            return sum(stream.last_seq - stream.acked_seq for stream in open_)

    def close(self) -> None:
        """Write what waits and close the file."""
        if self._writer.close():
            self._store.close()
