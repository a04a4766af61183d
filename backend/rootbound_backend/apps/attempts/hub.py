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

MAX_TOLD = 32
"""Pages that wait to be taken in; when there are more, the database is read."""

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
        self._told: deque[EventPage] = deque()
        self._has_to_read = True

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

    def told(self, news: object) -> None:
        """Take events that this process has just stored, so that they need not be read again."""
        if isinstance(news, EventPage) and len(self._told) < MAX_TOLD:
            self._told.append(news)
        else:
            self._has_to_read = True

    def _next_told(self) -> EventPage | None:
        """Return the next page that was told of, None when only the database knows how to go on."""
        while self._told and not self._has_to_read:
            page = self._told.popleft()
            if page.events[0][0] == self.last_seq + 1:
                return page
            if page.last_seq > self.last_seq:
                break  # what lies between is told by nobody
        # All that was told so far is committed, so a look from now on sees it.
        self._told.clear()
        self._has_to_read = False
        return None

    async def look(self) -> bool:
        """Take in the next page; return whether there is more at once."""
        told = self._next_told()
        if told is not None:
            async with self.news:
                self._take(told, first=False)
                self.news.notify_all()
            return bool(self._told)
        # At the start only where the stream ends: each socket catches up by itself.
        first = self._created_at is None
        after, limit = (0, 0) if first else (self.last_seq, PAGE)
        try:
            page = await self._read(after, limit)
        except Exception:
            self._has_to_read = True
            raise
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
