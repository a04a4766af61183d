"""What all WebSocket consumers share."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import msgspec
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from rootbound_backend.apps.users.models import User

__all__ = [
    "CLOSE_BAD_FRAME",
    "CLOSE_FAILED",
    "CLOSE_NOT_FOUND",
    "FollowingConsumer",
    "end_task",
    "run_in_db",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_BAD_FRAME = 4400
CLOSE_NOT_FOUND = 4404
CLOSE_FAILED = 1011

# Lanes of their own, so that streams neither wait for requests nor hold them up.
_LANES = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stream-db")


async def run_in_db(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a selector on one of the streams' database lanes."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_LANES)
    return await call(*args, **kwargs)


_ending: set[asyncio.Task[None]] = set()


def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task without waiting, so that a second cancellation cannot cut its clean-up off."""
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    task.cancel()


class FollowingConsumer(AsyncWebsocketConsumer):
    """A socket with one task that sends; subclasses say what."""

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
            await self.follow()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("The stream of %s failed", self.scope.get("path"))
            await self.close(CLOSE_FAILED)

    async def disconnect(self, code: int) -> None:
        """Stop sending."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def send_document(self, document: dict[str, Any]) -> None:
        """Send one JSON frame."""
        await self.send(text_data=msgspec.json.encode(document).decode())

    def decoded_frame(self, text: str | None) -> dict[str, Any] | None:
        """Return a client's frame as an object, or None when it is not one."""
        if text is None:
            return None
        try:
            document = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return None
        return document if isinstance(document, dict) else None
