"""The WebSocket of an attempt's stream."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from urllib.parse import parse_qs

from rootbound_backend.apps.attempts.hub import StreamHub, stream_hub
from rootbound_backend.apps.attempts.selectors import get_attempt
from rootbound_backend.problems import Problem
from rootbound_backend.websockets import (
    CLOSE_BAD_FRAME,
    CLOSE_NOT_FOUND,
    FollowingConsumer,
    run_in_db,
)

__all__ = ["FRAME_INTERVAL_S", "MAX_UNACKED_BYTES", "MAX_UNACKED_EVENTS", "AttemptConsumer"]

MAX_UNACKED_EVENTS = 1000
MAX_UNACKED_BYTES = 1024 * 1024
FRAME_INTERVAL_S = 1 / 30
"""Shortest time between two frames of events; the first after a pause leaves at once."""


class _Window:
    """What is on its way to the client and not acknowledged.

    The server below does not push back, so without this a client that never reads would make it
    hold everything in memory.
    """

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._freed = asyncio.Event()

    def fits(self, size: int) -> bool:
        """Return whether one more event may leave; a single one always may."""
        if not self._sent:
            return True
        return len(self._sent) < MAX_UNACKED_EVENTS and self._bytes + size <= MAX_UNACKED_BYTES

    def add(self, seq: int, size: int) -> None:
        """Note that an event leaves."""
        self._sent.append((seq, size))
        self._bytes += size

    def acknowledge(self, seq: int) -> None:
        """Note that the client has everything up to `seq`."""
        while self._sent and self._sent[0][0] <= seq:
            self._bytes -= self._sent.popleft()[1]
        self._freed.set()

    async def until_fits(self, size: int) -> None:
        """Wait until an event of `size` bytes may leave."""
        while not self.fits(size):
            self._freed.clear()
            await self._freed.wait()


class AttemptConsumer(FollowingConsumer):
    """Sends an attempt's events behind ``?after=``, in order, each once, then follows it.

    Only one task sends and moves the cursor, so nothing can be doubled or overtaken.
    """

    async def may_follow(self) -> bool:
        """Return whether the attempt is the user's and ``after`` makes sense."""
        self._window = _Window()
        query = parse_qs(self.scope.get("query_string", b"").decode("latin-1"))
        after = query.get("after", ["0"])[-1]
        self._attempt_id: uuid.UUID = self.scope["url_route"]["kwargs"]["attempt_id"]
        self._cursor = int(after) if after.isdecimal() and len(after) <= 18 else 0
        try:
            await run_in_db(get_attempt, user=self.user, attempt_id=self._attempt_id)
        except Problem:
            return False
        return True

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take an acknowledgement; anything else ends the connection."""
        frame = self.decoded_frame(text_data)
        seq = frame.get("seq") if frame is not None and frame.get("type") == "ack" else None
        if not isinstance(seq, int) or isinstance(seq, bool):
            await self.close(CLOSE_BAD_FRAME)
            return
        self._window.acknowledge(seq)

    async def follow(self) -> None:
        """Send hello, the events, and the end."""
        async with stream_hub(self._attempt_id) as hub:
            await self.send_document(
                {"type": "hello", "last_seq": hub.last_seq, "status": hub.status}
            )
            # A client that knows more than there is has the wrong attempt's number.
            self._cursor = min(self._cursor, hub.last_seq)
            await self._send_all(hub)
            if hub.gone:
                await self.close(CLOSE_NOT_FOUND)
                return
            await self.send_document(
                {"type": "end", "status": hub.status, "last_seq": self._cursor}
            )
            await self.close(1000)

    async def _send_all(self, hub: StreamHub) -> None:
        earliest = 0.0
        while not hub.gone:
            if self._cursor >= hub.last_seq:
                if hub.is_terminal:
                    return
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
            await self._send_frame(events)
            earliest = time.monotonic() + FRAME_INTERVAL_S

    async def _send_frame(self, events: list[tuple[int, str]]) -> None:
        """Send as many of the events as the window lets through, at least one."""
        await self._window.until_fits(len(events[0][1]))
        leaving: list[str] = []
        for seq, text in events:
            if not self._window.fits(len(text)):
                break
            self._window.add(seq, len(text))
            leaving.append(text)
            self._cursor = seq
        await self.send(text_data=f'{{"type":"events","events":[{",".join(leaving)}]}}')
