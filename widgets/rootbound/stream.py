# Written by widgets/generate_sync.py from aio_stream.py; change that one.
"""Following an attempt's events, whatever happens to the connection.

The WebSocket is tried first; each time it is lost, the missing part is read over plain HTTP and
the socket is opened again from the last number seen. So a proxy that forbids WebSockets only makes
it slower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import _cursor
from . import _operations as ops
from ._cursor import StreamCursor, StreamGapError
from .errors import ConnectionFailedError, ServerError
from .models import BaseAttempt, Event

if TYPE_CHECKING:
    from .client import Client


def follow_events(client: Client, attempt_id: str, cursor: StreamCursor) -> Iterator[Event]:
    """Yield an attempt's events until it ends, without a hole and without doubles.

    Parameters
    ----------
    client : Client
        Whose server and token to use.
    attempt_id : str
        The attempt.
    cursor : StreamCursor
        Where to begin, and when to end.

    Yields
    ------
    Event
        Each event once, in order.

    Raises
    ------
    RootboundError
        If the attempt is not visible, or the server stays away for more than a minute.
    """
    while not cursor.is_over:
        cursor.time_left()
        for event in _over_socket(client, attempt_id, cursor):
            yield event
        if cursor.is_over:
            return
        try:
            for event in _over_http(client, attempt_id, cursor):
                yield event
            cursor.succeeded()
        except (ConnectionFailedError, ServerError) as error:
            cursor.failed(error)
        if not cursor.ended:
            cursor.stop.wait(cursor.pause())


def _over_socket(client: Client, attempt_id: str, cursor: StreamCursor) -> Iterator[Event]:
    """Yield events from one WebSocket until it ends or is lost."""
    from websockets.exceptions import ConnectionClosed, WebSocketException
    from websockets.sync.client import connect

    url = _cursor.attempt_url(client.endpoint, attempt_id, cursor)
    try:
        with connect(url, **_cursor.ws_options(client.endpoint)) as socket:
            while not cursor.is_over:
                left = cursor.next_look()
                try:
                    frame = socket.recv(left)
                except TimeoutError:
                    continue
                events = cursor.take(_cursor.frame(frame))
                if events:
                    cursor.progressed()
                    yield from events
                    # After the consumer had them: a slow one slows the server down. One that has
                    # sent everything may have closed; what it sent can still be read.
                    with contextlib.suppress(ConnectionClosed):
                        socket.send(_cursor.ack(cursor))
    except (OSError, ValueError, WebSocketException, StreamGapError) as error:
        _cursor.check_close(error, f"Attempt {attempt_id}")


def _over_http(client: Client, attempt_id: str, cursor: StreamCursor) -> Iterator[Event]:
    """Yield the stored events after the cursor and note whether there can be more."""
    attempt = client._call(ops.read(BaseAttempt, None, "attempts", attempt_id))
    cursor.note_kept(attempt.first_seq)
    cursor.note_state(attempt.status, attempt.last_seq)
    while True:
        operation = ops.events(attempt_id, after=cursor.last_seq, limit=_cursor.PAGE)
        stored = client._call(operation)
        yield from cursor.add(stored)
        if not stored:
            break
    # The state was read before the events: what ended by then is complete now.
    cursor.is_complete(attempt)
