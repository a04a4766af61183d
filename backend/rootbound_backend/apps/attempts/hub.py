"""One reader per stream and process, which serves all sockets that follow the stream.

The database is what counts. An announcement only makes the reader look at once; without one it
looks every second, so a lost announcement delays events but never loses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
import weakref
from collections import deque
from collections.abc import AsyncIterator

from channels.layers import get_channel_layer

from rootbound_backend.announce import attempt_group
from rootbound_backend.apps.attempts.selectors import EventPage, read_stream
from rootbound_backend.websockets import end_task, run_in_db

__all__ = ["PAGE", "TAIL_S", "StreamHub", "stream_hub"]

logger = logging.getLogger(__name__)

PAGE = 250
"""Events per database read."""

TAIL_S = 1.0
"""How often to look without an announcement, in seconds."""

RESUBSCRIBE_S = 2.0

KEPT_EVENTS = 2000
KEPT_CHARS = 4 * 1024 * 1024


class StreamHub:
    """Follows one attempt's stream and keeps its recent end in memory.

    Attributes
    ----------
    status, last_seq
        Where the attempt stands, as far as the hub has read.
    gone
        Whether the attempt was deleted.
    """

    def __init__(self, attempt_id: uuid.UUID) -> None:
        self.attempt_id = attempt_id
        self.status = ""
        self.last_seq = 0
        self.is_terminal = False
        self.gone = False
        self.users = 0
        self._kept: deque[tuple[int, str]] = deque()
        self._kept_chars = 0
        self._news = asyncio.Condition()
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen and to read."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._read_on()),
        ]

    def stop(self) -> None:
        """Stop both."""
        for task in self._tasks:
            end_task(task)

    async def ready(self) -> None:
        """Wait until the hub knows where the attempt stands."""
        await self._ready.wait()

    async def wait_behind(self, seq: int) -> None:
        """Wait until there is something behind `seq`, or the end."""
        async with self._news:
            await self._news.wait_for(lambda: self.last_seq > seq or self.is_terminal or self.gone)

    async def events_behind(self, seq: int) -> list[tuple[int, str]]:
        """Return the next events behind `seq`: from memory, or from the database if older."""
        if self._kept and self._kept[0][0] <= seq + 1:
            skip = seq + 1 - self._kept[0][0]
            return [self._kept[index] for index in range(skip, min(skip + PAGE, len(self._kept)))]
        page: EventPage | None = await run_in_db(read_stream, self.attempt_id, seq, PAGE)
        return page.events if page is not None else []

    async def _listen(self) -> None:
        """Turn announcements into wake-ups, whatever happens to Redis meanwhile."""
        layer = get_channel_layer()
        if layer is None:
            return
        while True:
            try:
                channel = await layer.new_channel()
                try:
                    await layer.group_add(attempt_group(self.attempt_id), channel)
                    while True:
                        await layer.receive(channel)
                        self._wake.set()
                finally:
                    with contextlib.suppress(Exception):
                        await layer.group_discard(attempt_group(self.attempt_id), channel)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("Announcements are not heard at the moment: %s", error)
                await asyncio.sleep(RESUBSCRIBE_S)

    async def _read_on(self) -> None:
        first = True
        while True:
            # Cleared before reading: what is announced during the read wakes us again.
            self._wake.clear()
            try:
                more = await self._read_once(start_at_end=first)
                first = False
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("The stream of %s cannot be read: %s", self.attempt_id, error)
                more = False
            if self.gone:
                return
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAIL_S):
                        await self._wake.wait()

    async def _read_once(self, *, start_at_end: bool) -> bool:
        """Take in the next page; return whether there is more at once."""
        # At the start only where the stream ends: each socket catches up by itself.
        after, limit = (0, 0) if start_at_end else (self.last_seq, PAGE)
        page: EventPage | None = await run_in_db(read_stream, self.attempt_id, after, limit)
        async with self._news:
            if page is None:
                self.gone = True
            else:
                for seq, text in page.events:
                    self._keep(seq, text)
                self.last_seq = page.last_seq if start_at_end else self.last_seq
                if page.events:
                    self.last_seq = page.events[-1][0]
                # The status belongs to page.last_seq; it counts once we have got there.
                self.status = page.status
                self.is_terminal = page.is_terminal and self.last_seq >= page.last_seq
            self._ready.set()
            self._news.notify_all()
        return page is not None and self.last_seq < page.last_seq

    def _keep(self, seq: int, text: str) -> None:
        self._kept.append((seq, text))
        self._kept_chars += len(text)
        while len(self._kept) > KEPT_EVENTS or self._kept_chars > KEPT_CHARS:
            _, dropped = self._kept.popleft()
            self._kept_chars -= len(dropped)
            if not self._kept:
                break


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[uuid.UUID, StreamHub]] = (
    weakref.WeakKeyDictionary()
)


@contextlib.asynccontextmanager
async def stream_hub(attempt_id: uuid.UUID) -> AsyncIterator[StreamHub]:
    """Share the process's hub of one attempt; the first user starts it, the last one stops it."""
    hubs = _hubs.setdefault(asyncio.get_running_loop(), {})
    hub = hubs.get(attempt_id)
    if hub is None:
        hub = hubs[attempt_id] = StreamHub(attempt_id)
        hub.start()
    hub.users += 1
    try:
        await hub.ready()
        yield hub
    finally:
        hub.users -= 1
        if hub.users == 0:
            hubs.pop(attempt_id, None)
            hub.stop()
