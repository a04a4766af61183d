"""Connections to the LDA: slow and idle ones give way, so that a good request gets through."""

from __future__ import annotations

import asyncio
import json
import logging
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from .problems import MEDIA_TYPE, document

HEAD_TIMEOUT_S: Final = 10.0
"""Seconds in which the head of a request must have arrived."""

MAX_CONNECTIONS: Final = 256
"""Open connections; a further one takes the place of the one that has been idle longest."""

_NONSENSE: Final = "Invalid HTTP request received."


class GuardedProtocol(H11Protocol):
    """One connection; the library's own, with a limit of time for heads and one of number."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._since = self.loop.time()

    @property
    def idle(self) -> bool:
        """Whether no request is being worked on."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            self._refuse(503, "busy", "The LDA has too many connections; try again in a second.")
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take data; from the first byte of a head on, the rest of it must follow in time."""
        if self.idle and self._head_timer is None:
            self._expect_head()
        super().data_received(data)
        if not self.idle:
            self._disarm()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, "not-http", msg)

    def on_response_complete(self) -> None:
        """Note when it became idle."""
        self._since = self.loop.time()
        super().on_response_complete()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.idle and not self.transport.is_closing():
            self._refuse(408, "head-timeout", "The request did not arrive in time.")

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest; tell whether there was one."""
        waiting = [
            other
            for other in self.connections
            if isinstance(other, GuardedProtocol) and other is not self and other.idle
        ]
        if not waiting:
            return False
        min(waiting, key=lambda other: other._since).transport.abort()
        return True

    def _refuse(self, status: int, code: str, detail: str) -> None:
        body = json.dumps(document(status, code, detail)).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\nRetry-After: 1\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def quiet_nonsense(record: logging.LogRecord) -> bool:
    """Keep what is not HTTP out of the log: whoever sends it could fill the disk."""
    return record.getMessage() != _NONSENSE


logging.getLogger("uvicorn.error").addFilter(quiet_nonsense)
