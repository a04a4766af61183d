"""The WebSocket of an attempt's stream."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import datetime
from urllib.parse import parse_qs

import msgspec

from rootbound_backend import metrics
from rootbound_backend.apps.attempts.hub import StreamHub
from rootbound_backend.apps.attempts.selectors import get_attempt
from rootbound_backend.problems import Problem
from rootbound_backend.readers import shared_reader
from rootbound_backend.websockets import (
    CLOSE_BAD_FRAME,
    CLOSE_NOT_FOUND,
    FollowingConsumer,
    SendWindow,
    run_in_db,
)

__all__ = ["FRAME_INTERVAL_S", "MAX_UNACKED_BYTES", "MAX_UNACKED_EVENTS", "AttemptConsumer"]

MAX_UNACKED_EVENTS = 1000
MAX_UNACKED_BYTES = 1024 * 1024
FRAME_INTERVAL_S = 1 / 30
"""Shortest time between two frames of events; the first after a pause leaves at once.

Half of it after a frame of a single event: a slow stream costs little and is watched closely.
"""

HELD_LOOK_S = 0.25
"""How often a held socket looks whether there is something to say past the events."""

MIN_AFTER_HELD = MAX_UNACKED_EVENTS // 4
"""Events for which a held socket waits to have room, for at most `HELD_LOOK_S`."""

PROGRESS_S = 1.0
MAX_UNHEARD_PROGRESS = 30


class _Stamp(msgspec.Struct):
    """The part of an encoded event that says when it happened."""

    timestamp: datetime


_STAMP = msgspec.json.Decoder(_Stamp)


class AttemptConsumer(FollowingConsumer):
    """Sends an attempt's events behind ``?after=``, in order, each once, then follows it.

    Only one task sends and moves the cursor, so nothing can be doubled or overtaken. There are
    three lanes: control (hello, status, end) does not wait for acknowledgements; events do, within
    a bounded window; progress, of which only the latest counts, leaves when events are held.
    """

    stream = "attempt"

    async def may_follow(self) -> bool:
        """Return whether the attempt is the user's and ``after`` makes sense."""
        self._window = SendWindow(MAX_UNACKED_EVENTS, MAX_UNACKED_BYTES)
        query = parse_qs(self.scope.get("query_string", b"").decode("latin-1"))
        self._attempt_id: uuid.UUID = self.scope["url_route"]["kwargs"]["attempt_id"]
        self._cursor = _number(query, "after") or 0
        self._tail = _number(query, "tail")
        self._told = ""
        self._progress = (0.0, 0)
        self._unheard = 0
        try:
            await run_in_db(get_attempt, user=self.user, attempt_id=self._attempt_id)
        except Problem:
            return False
        return True

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take an acknowledgement; anything else ends the connection."""
        seq = self.acknowledged(text_data)
        if seq is None:
            await self.close(CLOSE_BAD_FRAME)
            return
        self._unheard = 0
        self._window.acknowledge(seq)

    async def follow(self) -> None:
        """Send hello, the events, and the end."""
        async with shared_reader(StreamHub, self._attempt_id) as hub:
            # A client that knows more than there is has the wrong attempt's number.
            self._cursor = min(max(self._cursor, hub.first_seq - 1), hub.last_seq)
            if self._tail is not None:
                self._cursor = max(self._cursor, hub.last_seq - self._tail)
            self._live_from = hub.last_seq
            self._progress = (0.0, hub.head)
            hello = {"type": "hello", "last_seq": hub.last_seq, "status": hub.status}
            await self._control(
                {**hello, "first_seq": hub.first_seq, "after": self._cursor}, hub.status
            )
            await self._send_all(hub)
            if hub.gone:
                await self.close(CLOSE_NOT_FOUND)
                return
            end = {"type": "end", "status": hub.status, "last_seq": self._cursor}
            await self._control(end, hub.status)
            await self.close(1000)

    async def _control(self, document: dict[str, object], status: str) -> None:
        self._told = status
        metrics.FRAMES.labels("control").inc()
        await self.send_document(document)

    async def _send_all(self, hub: StreamHub) -> None:
        earliest = 0.0
        while not hub.gone:
            # Events that retention removed are not waited for.
            self._cursor = max(self._cursor, hub.first_seq - 1)
            if self._cursor >= hub.last_seq:
                if hub.is_terminal:
                    return
                self._told = hub.status
                await hub.wait_behind(self._cursor)
                continue
            if (pause := earliest - time.monotonic()) > 0:
                # Meanwhile more may come; all of it leaves in one frame.
                await asyncio.sleep(pause)
            events = await hub.events_behind(self._cursor)
            if not events:
                # The database is behind what was announced only while a deletion is at work.
                await asyncio.sleep(FRAME_INTERVAL_S)
                continue
            sent = await self._send_frame(hub, events)
            earliest = time.monotonic() + FRAME_INTERVAL_S / (2 if sent == 1 else 1)

    async def _send_frame(self, hub: StreamHub, events: list[tuple[int, str]]) -> int:
        """Send as many of the events as the window lets through, at least one; say how many."""
        await self._until_fits(hub, len(events[0][1]))
        leaving: list[str] = []
        for seq, text in events:
            if not self._window.fits(len(text)):
                break
            self._window.add(seq, len(text))
            leaving.append(text)
            self._cursor = seq
        lag = self._lag(hub, leaving[-1])
        told = f',"lag_s":{lag:.1f}' if lag >= metrics.LAG_WARNING_S else ""
        metrics.FRAMES.labels("events").inc()
        metrics.DELIVERED.inc(len(leaving))
        await self.send(text_data=f'{{"type":"events","events":[{",".join(leaving)}]{told}}}')
        return len(leaving)

    def _lag(self, hub: StreamHub, newest: str) -> float:
        """Return how late the newest event of a frame is, in seconds; 0 for history."""
        if self._cursor <= self._live_from:
            return 0.0
        if hub.lag_s is not None and self._cursor == hub.last_seq:
            metrics.DELIVERY_LAG.observe(hub.lag_s)
        return max(0.0, time.time() - _STAMP.decode(newest).timestamp.timestamp())

    async def _until_fits(self, hub: StreamHub, size: int) -> None:
        """Wait for room in the window; what may overtake the events leaves meanwhile."""
        if self._window.fits(size):
            return
        with metrics.HELD.track_inprogress():
            while not await self._window.room(size, within_s=HELD_LOOK_S):
                if hub.gone:
                    return
                if hub.status != self._told:
                    status = {"type": "status", "status": hub.status, "last_seq": hub.head}
                    await self._control(status, hub.status)
                elif self._may_tell_progress(hub.head):
                    metrics.FRAMES.labels("progress").inc()
                    await self.send_document(
                        {"type": "progress", "last_seq": hub.head, "sent_seq": self._cursor}
                    )
            # Who is sent each crumb that it has made room for, reads crumbs ever after (RFC 813).
            await self._window.room(size, within_s=HELD_LOOK_S, items=MIN_AFTER_HELD)

    def _may_tell_progress(self, head: int) -> bool:
        """Return whether there is progress to tell, at most once a second, and not for ever."""
        at, told = self._progress
        now = time.monotonic()
        if head == told or now - at < PROGRESS_S or self._unheard >= MAX_UNHEARD_PROGRESS:
            return False
        self._progress = (now, head)
        self._unheard += 1
        return True


def _number(query: dict[str, list[str]], name: str) -> int | None:
    text = query.get(name, [""])[-1]
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 18 else None
