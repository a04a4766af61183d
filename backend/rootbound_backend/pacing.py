"""Back-pressure for streamed answers, which Daphne does not give to its applications.

Daphne takes every block at once and keeps what the client has not read: an export to a slow
client would be in memory as a whole. Twisted, below it, tells producers when to pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from daphne.http_protocol import WebRequest  # type: ignore[import-untyped]

__all__ = ["paced"]

Send = Callable[[Any], Awaitable[None]]


class _Tap:
    """Closed by Twisted while the client's buffer is full; a push producer in its words."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's interface
        """Wait with the next block."""
        self.open.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        """Go on."""
        self.open.set()

    def stopProducing(self) -> None:  # noqa: N802
        """Go on too: the connection is gone, and Daphne drops what is sent."""
        self.open.set()


def paced(send: Send) -> Send:
    """Return a `send` that waits while the client does not read.

    Parameters
    ----------
    send
        Of the ASGI server; one that is not Daphne's is returned as it is.
    """
    bound = getattr(send, "args", ())
    request = bound[0] if bound else None
    if not isinstance(request, WebRequest):
        return send
    tap: _Tap | None = None

    async def send_paced(message: Any) -> None:
        nonlocal tap
        if message["type"] == "http.response.body":
            if tap is None and message.get("more_body") and request.channel is not None:
                tap = _Tap()
                request.registerProducer(tap, streaming=True)
            if tap is not None:
                await tap.open.wait()
                if not message.get("more_body") and request.channel is not None:
                    request.unregisterProducer()
                    tap = None
        await send(message)

    return send_paced
