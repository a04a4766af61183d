"""Readers that all sockets of a process share: one per stream, whatever the number of viewers.

The database is what counts. An announcement only makes the reader look at once; without one it
looks by itself, so a lost announcement delays news but never loses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar, TypeVar

from channels.layers import get_channel_layer

from rootbound_backend.announce import PROCESS, hear, ignore
from rootbound_backend.websockets import end_if_cancelled, end_task

__all__ = ["SharedReader", "readers_in_use", "shared_reader"]

logger = logging.getLogger(__name__)

RESUBSCRIBE_S = 2.0


class SharedReader(ABC):
    """Looks into the database when woken, and at the latest every `tail_s` seconds.

    Subclasses say what the group is called and what a look is.

    Attributes
    ----------
    gone
        Whether what is followed was deleted.
    users
        How many sockets share it.
    """

    def __init__(self, key: uuid.UUID) -> None:
        self.key = key
        self.gone = False
        self.users = 0
        self.news = asyncio.Condition()
        self.announced_at: float | None = None
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    @abstractmethod
    def group(self) -> str:
        """The channel layer's group that announces news."""

    @property
    @abstractmethod
    def tail_s(self) -> float:
        """How often to look without an announcement, in seconds."""

    @property
    def settle_s(self) -> float:
        """Wait after an announcement, in seconds, so that a burst becomes one look."""
        return 0.0

    @abstractmethod
    async def look(self) -> bool:
        """Take in what is new and tell `news`; return whether there is more at once."""

    def start(self) -> None:
        """Begin to listen and to read."""
        self._loop = asyncio.get_running_loop()
        hear(self.group, self._woken)
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._read_on()),
        ]

    def stop(self) -> None:
        """Stop both."""
        ignore(self.group, self._woken)
        for task in self._tasks:
            end_task(task)

    async def ready(self) -> None:
        """Wait until the first look."""
        await self._ready.wait()

    def told(self, news: object) -> None:  # noqa: B027 - most readers find out for themselves
        """Take what an announcement carried, None for nothing; a look follows."""

    def _woken(self, at: float, news: object) -> None:
        """Take an announcement of this process, on whichever thread it was made."""
        # A loop that was closed meanwhile has nobody to wake.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake_up, at, news)

    def _wake_up(self, at: float | None, news: object = None) -> None:
        if self.announced_at is None:
            self.announced_at = at
        self.told(news)
        self._wake.set()

    async def _listen(self) -> None:
        """Turn announcements of other processes into wake-ups, whatever happens to Redis."""
        layer = get_channel_layer()
        while layer is not None:
            try:
                channel = await layer.new_channel()
                try:
                    await layer.group_add(self.group, channel)
                    while True:
                        end_if_cancelled()
                        message = await layer.receive(channel)
                        if message.get("by") != PROCESS:
                            self._wake_up(message.get("at"))
                finally:
                    with contextlib.suppress(Exception):
                        await layer.group_discard(self.group, channel)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("Announcements are not heard at the moment: %s", error)
                await asyncio.sleep(RESUBSCRIBE_S)

    async def _read_on(self) -> None:
        while not self.gone:
            # Cleared before looking: what is announced during the look wakes us again.
            self._wake.clear()
            try:
                more = await self.look()
                self._ready.set()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("%s cannot be read: %s", self.group, error)
                more = False
            end_if_cancelled()
            if not more and not self.gone:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.tail_s):
                        await self._wake.wait()
                        await asyncio.sleep(self.settle_s)

    def take_announcement(self) -> float | None:
        """Return how long ago the oldest unserved announcement was made, in seconds."""
        at, self.announced_at = self.announced_at, None
        return None if at is None else max(0.0, time.time() - at)


R = TypeVar("R", bound=SharedReader)
_Key = tuple[type[SharedReader], uuid.UUID]


class _Registry:
    by_loop: ClassVar[
        weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, SharedReader]]
    ] = weakref.WeakKeyDictionary()


def readers_in_use() -> dict[_Key, SharedReader]:
    """Return the readers of the running loop."""
    return _Registry.by_loop.setdefault(asyncio.get_running_loop(), {})


@contextlib.asynccontextmanager
async def shared_reader(kind: type[R], key: uuid.UUID) -> AsyncIterator[R]:
    """Share the process's reader of one stream; the first user starts it, the last one stops it."""
    readers = readers_in_use()
    found: Any = readers.get((kind, key))
    if found is None:
        found = readers[kind, key] = kind(key)
        found.start()
    reader: R = found
    reader.users += 1
    try:
        await reader.ready()
        yield reader
    finally:
        reader.users -= 1
        if reader.users == 0:
            readers.pop((kind, key), None)
            reader.stop()
