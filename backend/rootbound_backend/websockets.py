"""What all WebSocket consumers share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import InterfaceError, OperationalError, connection

from rootbound_backend import metrics
from rootbound_backend.apps.users.models import User

__all__ = [
    "CLOSE_BAD_FRAME",
    "CLOSE_FAILED",
    "CLOSE_NOT_FOUND",
    "FollowingConsumer",
    "SendWindow",
    "end_if_cancelled",
    "end_task",
    "run_in_db",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_BAD_FRAME = 4400
CLOSE_NOT_FOUND = 4404
CLOSE_FAILED = 1011

INSIST_S = 0.5
"""How long a cancelled task may go on before it is cancelled again, in seconds."""

# Lanes of their own, so that streams neither wait for requests nor hold them up.
_LANES = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stream-db")


async def run_in_db(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a selector, which can be run again, on one of the streams' database lanes."""
    call = functools.partial(_on_lane, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_LANES, call)


def _on_lane(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it on the lane's own connection, which is kept.

    To take one from the pool, have it checked and give it back takes as long as a read of the
    stream, and each event is read so.
    """
    try:
        return function(*args, **kwargs)
    except (InterfaceError, OperationalError):
        # The database went away since; a new connection tells whether it is back.
        connection.close()
        return function(*args, **kwargs)


_ending: set[asyncio.Task[None]] = set()


def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task without waiting for it, and again for as long as it goes on.

    One cancellation can get lost: until Python 3.12 `asyncio.wait_for`, through which the Redis
    client writes, returns its result instead when both come at once. Between two of them a task
    has `INSIST_S` for its clean-up.
    """
    if task.done():
        return
    if task not in _ending:
        _ending.add(task)
        task.add_done_callback(_ending.discard)
    task.cancel()
    task.get_loop().call_later(INSIST_S, end_task, task)


def end_if_cancelled() -> None:
    """End the current task if that was ever asked of it.

    A library below may swallow a cancellation (the Redis client does so at times while it
    connects); a task that then waits for news would never end, nor would the event loop.

    Raises
    ------
    asyncio.CancelledError
        If the task was told to end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class SendWindow:
    """What is on its way to a client and not acknowledged.

    The server below does not push back, so without this a client that never reads would make it
    hold everything in memory.

    Parameters
    ----------
    items
        At most so many at a time.
    size
        At most so many bytes, except that a single item always may leave.
    """

    def __init__(self, items: int, size: int) -> None:
        self._max_items = items
        self._max_bytes = size
        self._sent: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._freed = asyncio.Event()

    def fits(self, size: int, items: int = 1) -> bool:
        """Return whether so many more items, of so many bytes together, may leave."""
        if not self._sent:
            return True
        room = self._max_items - len(self._sent)
        return items <= room and self._bytes + size <= self._max_bytes

    def add(self, seq: int, size: int) -> None:
        """Note that an item leaves."""
        self._sent.append((seq, size))
        self._bytes += size

    def acknowledge(self, seq: int) -> None:
        """Note that the client has everything up to `seq`."""
        while self._sent and self._sent[0][0] <= seq:
            self._bytes -= self._sent.popleft()[1]
        self._freed.set()

    async def room(self, size: int, *, within_s: float, items: int = 1) -> bool:
        """Wait at most `within_s` seconds until so many items of so many bytes may leave."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.fits(size, items):
                    self._freed.clear()
                    await self._freed.wait()
        return self.fits(size, items)


class FollowingConsumer(AsyncWebsocketConsumer):
    """A socket with one task that sends; subclasses say what."""

    stream = ""
    """What is followed, in the metrics."""

    # No channel per socket: hubs listen for everybody.
    channel_layer_alias = "none"
    _task: asyncio.Task[None] | None = None

    @property
    def user(self) -> User:
        """The authenticated user; the middleware refuses sockets without one."""
        user: Any = self.scope["user"]
        if not isinstance(user, User):
            raise TypeError("This socket was accepted without a user.")
        return user

    async def follow(self) -> None:
        """Send until there is nothing more to send."""
        raise NotImplementedError

    async def may_follow(self) -> bool:
        """Return whether the user may see what the path names."""
        raise NotImplementedError

    async def connect(self) -> None:
        """Accept, then follow or close with 4404."""
        await self.accept()
        if not await self.may_follow():
            await self.close(CLOSE_NOT_FOUND)
            return
        self._task = asyncio.create_task(self._guarded())

    async def _guarded(self) -> None:
        try:
            with metrics.SOCKETS.labels(self.stream).track_inprogress():
                await self.follow()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("The stream of %s failed", self.scope.get("path"))
            await self.close(CLOSE_FAILED)

    async def disconnect(self, code: int) -> None:
        """Stop sending."""
        if self._task is not None:
            end_task(self._task)
            await asyncio.wait([self._task])

    async def send_document(self, document: dict[str, Any]) -> None:
        """Send one JSON frame."""
        await self.send(text_data=msgspec.json.encode(document).decode())

    def acknowledged(self, text: str | None) -> int | None:
        """Return the number that a client's frame acknowledges, or None for another frame."""
        frame = self.decoded_frame(text)
        seq = frame.get("seq") if frame is not None and frame.get("type") == "ack" else None
        return seq if isinstance(seq, int) and not isinstance(seq, bool) else None

    def decoded_frame(self, text: str | None) -> dict[str, Any] | None:
        """Return a client's frame as an object, or None when it is not one."""
        if text is None:
            return None
        try:
            document = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return None
        return document if isinstance(document, dict) else None
