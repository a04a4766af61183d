"""Announcements after a commit: they only wake readers, who then look into the database.

Readers of this process are woken at once, those of others through the channel layer, one message
for a burst. For that, one event loop on a thread of its own serves the whole process, which is an
order of magnitude cheaper than a loop per message, and keeps a Redis outage out of the request that
announces.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable

from channels.layers import get_channel_layer
from django.db import transaction

__all__ = [
    "PROCESS",
    "Listener",
    "announce_attempt",
    "announce_project",
    "attempt_group",
    "hear",
    "ignore",
    "is_heard",
    "project_group",
]

logger = logging.getLogger(__name__)

SEND_TIMEOUT_S = 5.0

LOCAL_FIRST_S = 0.005
"""How long an announcement waits for this process's own readers before it leaves for others."""

PROCESS = uuid.uuid4().hex
"""Names this process in announcements, so that its readers pass over the echo."""

Listener = Callable[[float, object], None]
"""Takes the moment of an announcement, in seconds since the epoch, and its news, on any thread."""

_listeners: dict[str, frozenset[Listener]] = {}
_listeners_lock = threading.Lock()


def hear(group: str, listener: Listener) -> None:
    """Call `listener` for each announcement that this process makes to a group."""
    with _listeners_lock:
        _listeners[group] = _listeners.get(group, frozenset()) | {listener}


def ignore(group: str, listener: Listener) -> None:
    """Stop calling it."""
    with _listeners_lock:
        left = _listeners.pop(group, frozenset()) - {listener}
        if left:
            _listeners[group] = left


def is_heard(group: str) -> bool:
    """Return whether somebody in this process listens to a group."""
    return group in _listeners


def attempt_group(attempt_id: uuid.UUID | str) -> str:
    """Return the channel layer's group of one attempt's stream."""
    return f"attempt_{attempt_id}"


def project_group(project_id: uuid.UUID | str) -> str:
    """Return the channel layer's group of one project's board."""
    return f"project_{project_id}"


class _Announcer:
    """Sends group messages from any thread without waiting for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: set[str] = set()

    def send(self, group: str, news: object = None) -> None:
        at = time.time()
        listeners = _listeners.get(group, ())
        for listener in listeners:
            listener(at, news)
        # Whom this process serves itself is not to wait for the rest of the work.
        delay_s = LOCAL_FIRST_S if listeners else 0.0
        asyncio.run_coroutine_threadsafe(self._send(group, at, delay_s), self._running_loop())

    async def _send(self, group: str, at: float, delay_s: float) -> None:
        layer = get_channel_layer()
        if layer is None or group in self._due:
            return  # one that has yet to leave tells of this news as well
        self._due.add(group)
        await asyncio.sleep(delay_s)
        self._due.discard(group)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await layer.group_send(group, {"type": "wake", "at": at, "by": PROCESS})
        except Exception as error:
            # Readers look again by themselves, so a lost announcement costs a second, not data.
            logger.warning("The announcement to %s was lost: %s", group, error)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="announcer", daemon=True
                ).start()
            return self._loop


_announcer = _Announcer()


def announce_attempt(attempt_id: uuid.UUID, news: object = None) -> None:
    """Wake the readers of an attempt's stream once the running transaction has committed.

    Parameters
    ----------
    attempt_id
        The attempt.
    news
        What was stored, as its readers would find it; those of this process need not look then.
        Default None: they have to.
    """
    transaction.on_commit(lambda: _announcer.send(attempt_group(attempt_id), news), robust=True)


def announce_project(project_id: uuid.UUID) -> None:
    """Wake the readers of a project's board once the running transaction has committed."""
    transaction.on_commit(lambda: _announcer.send(project_group(project_id)), robust=True)
