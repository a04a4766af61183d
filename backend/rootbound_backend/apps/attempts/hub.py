"""One reader per attempt and process, which serves all sockets that follow the attempt."""

from __future__ import annotations

import uuid
from collections import deque
from datetime import datetime

from rootbound_backend.announce import attempt_group
from rootbound_backend.apps.attempts.events import EventPage, read_stream
from rootbound_backend.readers import SharedReader
from rootbound_backend.websockets import run_in_db

__all__ = ["PAGE", "TAIL_S", "StreamHub"]

PAGE = 250
"""Events per database read."""

TAIL_S = 1.0
"""How often to look without an announcement, in seconds."""

KEPT_EVENTS = 2000
KEPT_CHARS = 4 * 1024 * 1024


class StreamHub(SharedReader):
    """Follows one attempt's stream and keeps its recent end in memory.

    Attributes
    ----------
    status, last_seq, first_seq
        Where the attempt stands, as far as the hub has read.
    head
        The attempt's highest event, which the hub may have yet to read.
    lag_s
        From the announcement of the latest news to their being read, in seconds; None when they
        were found without one.
    """

    def __init__(self, key: uuid.UUID) -> None:
        super().__init__(key)
        self.status = ""
        self.last_seq = 0
        self.first_seq = 1
        self.head = 0
        self.is_terminal = False
        self.lag_s: float | None = None
        self._created_at: datetime | None = None
        self._kept: deque[tuple[int, str]] = deque()
        self._kept_chars = 0

    @property
    def group(self) -> str:
        """The channel layer's group that announces news."""
        return attempt_group(self.key)

    @property
    def tail_s(self) -> float:
        """How often to look without an announcement, in seconds."""
        return TAIL_S

    async def wait_behind(self, seq: int) -> None:
        """Wait until there is something behind `seq`, or the end."""
        async with self.news:
            await self.news.wait_for(lambda: self.last_seq > seq or self.is_terminal or self.gone)

    async def events_behind(self, seq: int) -> list[tuple[int, str]]:
        """Return the next events behind `seq`: from memory, or from the database if older."""
        if self._kept and self._kept[0][0] <= seq + 1:
            skip = seq + 1 - self._kept[0][0]
            return [self._kept[index] for index in range(skip, min(skip + PAGE, len(self._kept)))]
        page = await self._read(seq, PAGE)
        return page.events if page is not None else []

    async def _read(self, after: int, limit: int) -> EventPage | None:
        page: EventPage | None = await run_in_db(
            read_stream, self.key, after, limit, self._created_at
        )
        return page

    async def look(self) -> bool:
        """Take in the next page; return whether there is more at once."""
        # At the start only where the stream ends: each socket catches up by itself.
        first = self._created_at is None
        after, limit = (0, 0) if first else (self.last_seq, PAGE)
        page = await self._read(after, limit)
        async with self.news:
            if page is None:
                self.gone = True
            else:
                self._take(page, first=first)
            self.news.notify_all()
        # A page without events where there should be some: a deletion is at work, no hurry.
        if page is None or not (first or page.events):
            return False
        return self.last_seq < page.last_seq

    def _take(self, page: EventPage, *, first: bool) -> None:
        self._created_at = page.created_at
        for seq, text in page.events:
            self._keep(seq, text)
        if page.events or first:
            self.last_seq = page.last_seq if first else page.events[-1][0]
            self.lag_s = self.take_announcement()
        self.head, self.first_seq = page.last_seq, page.first_seq
        if self.last_seq < self.first_seq - 1:
            # Retention removed what was still to be read.
            self.last_seq = self.first_seq - 1
        # The status belongs to page.last_seq; it counts once we have got there.
        self.status = page.status
        self.is_terminal = page.is_terminal and self.last_seq >= page.last_seq

    def _keep(self, seq: int, text: str) -> None:
        self._kept.append((seq, text))
        self._kept_chars += len(text)
        while len(self._kept) > KEPT_EVENTS or self._kept_chars > KEPT_CHARS:
            _, dropped = self._kept.popleft()
            self._kept_chars -= len(dropped)
            if not self._kept:
                break
