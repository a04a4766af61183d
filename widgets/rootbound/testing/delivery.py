"""How a reply leaves the stub: whole, paced, or broken on purpose."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from rootbound.testing.script import Fault, FaultKind
from rootbound.testing.wire import Reply

_HTML = b"<!doctype html><html><body><h1>Sign in to the network</h1></body></html>"
_BROKEN = b'data: {"choices": [{"delta": {"content": "\n\n'
_TRUNCATING = (FaultKind.CUT, FaultKind.EARLY_EOF, FaultKind.STALL)


class ConnectionProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol that lets the application reach its own connection.

    ASGI has no message for a reset connection, and a vendor's failure modes include one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app_state = {**self.app_state, "connection": self}

    def drop(self, *, reset: bool) -> None:
        """Close the connection at once.

        Parameters
        ----------
        reset : bool
            Send a TCP reset instead of an orderly end.
        """
        if reset:
            raw: socket.socket = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Delivery:
    """An ASGI application that sends one reply, with at most one fault.

    Parameters
    ----------
    reply : Reply
        What to send.
    fault : Fault or None
        What goes wrong on the way; status and delay faults are the caller's business.
    error_frame : bytes
        Frame that an `ERROR_FRAME` fault sends in the wire's own form.
    frame_delay : float
        Pause before each streamed frame, in seconds.
    """

    def __init__(
        self, reply: Reply, fault: Fault | None, *, error_frame: bytes, frame_delay: float
    ) -> None:
        self._reply = reply
        self._fault = fault
        self._error_frame = error_frame
        self._frame_delay = frame_delay if reply.is_stream else 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply."""
        kind = self._fault.kind if self._fault else None
        if kind is FaultKind.RESET:
            scope["state"]["connection"].drop(reset=True)
            return
        reply = self._reply
        if kind is FaultKind.HTML:
            reply = Reply(200, "text/html; charset=utf-8", (_HTML,))
        await send(
            {
                "type": "http.response.start",
                "status": reply.status,
                "headers": [
                    (b"content-type", reply.content_type.encode()),
                    *((name.encode(), value.encode()) for name, value in reply.headers.items()),
                ],
            }
        )
        for frame in self._frames(reply):
            if self._frame_delay:
                await asyncio.sleep(self._frame_delay)
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        if kind is FaultKind.CUT:
            # An orderly TCP end inside a chunked body: the client has all that was sent before.
            scope["state"]["connection"].drop(reset=False)
            return
        if kind is FaultKind.STALL and self._fault:
            await _hold(receive, self._fault.seconds)
            scope["state"]["connection"].drop(reset=False)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _frames(self, reply: Reply) -> Sequence[bytes]:
        kind = self._fault.kind if self._fault else None
        if kind not in (*_TRUNCATING, FaultKind.MALFORMED_FRAME, FaultKind.ERROR_FRAME):
            return reply.frames
        frames = reply.frames if reply.is_stream else _halves(reply.frames)
        head = frames[: max(1, len(frames) // 2)]
        if kind is FaultKind.MALFORMED_FRAME:
            return (*head, _BROKEN, *frames[len(head) :])
        if kind is FaultKind.ERROR_FRAME:
            return (*head, self._error_frame)
        return head


def _halves(frames: Sequence[bytes]) -> tuple[bytes, ...]:
    body = b"".join(frames)
    return body[: len(body) // 2], body[len(body) // 2 :]


async def _hold(receive: Receive, seconds: float) -> None:
    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue

    try:
        await asyncio.wait_for(left(), seconds)
    except TimeoutError:
        return
