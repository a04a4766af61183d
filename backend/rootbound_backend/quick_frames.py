"""Frames on the wire at once, where Daphne would let them wait for the next turn of its loop.

Twisted notes what is written, asks the kernel to be told when the socket takes it, and writes in a
later turn: two system calls more for each of a hundred sockets, and none of them has a byte before
the last one's frame was made.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from autobahn.websocket.protocol import PreparedMessage
from daphne.ws_protocol import WebSocketProtocol  # type: ignore[import-untyped]
from twisted.internet.tcp import Connection

__all__ = ["quick"]

Send = Callable[[Any], Awaitable[None]]

SHARED = 8
"""Frames that are kept to be sent to further sockets."""


def quick(send: Send) -> Send:
    """Return a `send` that writes text frames as far as the socket takes them.

    Parameters
    ----------
    send
        Of the ASGI server for a WebSocket; one that is not Daphne's is returned as it is.
    """
    bound = getattr(send, "args", ())
    protocol = bound[0] if bound else None
    if not isinstance(protocol, WebSocketProtocol):
        return send

    async def send_quickly(message: Any) -> None:
        text = message.get("text") if message["type"] == "websocket.send" else None
        if not text or not _is_idle(protocol):
            await send(message)
            return
        frame, transport = _frame(text), protocol.transport
        written = transport.writeSomeData(frame)
        # What the socket does not take, and the news that it is gone, are Twisted's to handle.
        left = frame[written:] if isinstance(written, int) else frame
        if left:
            transport.write(left)

    return send_quickly


def _is_idle(protocol: Any) -> bool:
    """Return whether the connection is open, and nothing written before waits to leave."""
    transport = protocol.transport
    return bool(
        protocol.state == WebSocketProtocol.STATE_OPEN
        and getattr(protocol, "_perMessageCompress", True) is None
        and not getattr(protocol, "send_queue", True)
        and isinstance(transport, Connection)
        and not transport.TLS
        and transport.connected
        and not transport.disconnecting
        # What these versions of Twisted keep there; where they do not, frames go Daphne's way.
        and not getattr(transport, "dataBuffer", True)
        and not getattr(transport, "_tempDataBuffer", True)
    )


@functools.lru_cache(maxsize=SHARED)
def _frame(text: str) -> bytes:
    """Return a text as a frame; the viewers of one stream are sent the same."""
    frame: bytes = PreparedMessage(text.encode(), False, False, True).payloadHybi
    return frame
