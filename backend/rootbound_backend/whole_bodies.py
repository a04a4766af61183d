"""Bodies of requests, kept in memory and handed over in one piece.

Twisted writes a body of more than 100 kB to a file, and Daphne reads it back and hands it to the
application in blocks of 8 KiB, each a message of its own. All of them wait in memory before the
application takes the first, so a file and 150 messages for a batch of 5,000 events save nothing.
Neither has an option for it. Nor need Twisted look whether a body is a form: applications do.
"""

from __future__ import annotations

import io
from typing import Any

from daphne.http_protocol import WebRequest  # type: ignore[import-untyped]

__all__ = ["MAX_WHOLE_BYTES", "hand_over_whole_bodies"]

MAX_WHOLE_BYTES = 4 * 1024 * 1024
"""Longest body that is treated so, in bytes; longer ones go by way of a file as before."""

_got_length = WebRequest.gotLength


def hand_over_whole_bodies() -> None:
    """Let Daphne hand over whole what is not too long, from the next request on."""
    WebRequest.gotLength = _prepare_for


def _prepare_for(request: Any, length: int | None) -> None:
    """Prepare for a body of `length` bytes, None when the client does not say how long it is."""
    request.server.request_buffer_size = MAX_WHOLE_BYTES + 1
    request._parsePOSTFormSubmission = False
    if length is None or length > MAX_WHOLE_BYTES:
        _got_length(request, length)
    else:
        request.content = io.BytesIO()
