"""Following an attempt's events and a project's board, whatever happens to the connection.

The WebSocket is tried first; each time it is lost, the missing part is read over plain HTTP and
the socket is opened again from the last number seen. So a proxy that forbids WebSockets only makes
it slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from . import _operations as ops
from ._flows import PATIENCE_S, all_pages
from .errors import ConnectionFailedError, NotFoundError, ServerError, WaitTimeoutError
from .models import BaseAttempt, BaseTask, Event

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .client import Client
    from .discovery import Endpoint

PAGE = 500
_CLOSE_NOT_FOUND = 4404
_MAX_FRAME_BYTES = 32 * 2**20
_RECV_SLICE_S = 0.5
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class StreamGapError(ServerError):
    """The socket skipped numbers; the follower reads the missing ones over HTTP."""


class StreamCursor:
    """What has been received of a stream, and when it is complete. It performs no I/O.

    Parameters
    ----------
    after : int, default 0
        The last number already seen.
    through_review : bool, default False
        Whether to go on while the attempt waits for a review. By default that ends the stream,
        because a notebook that waits for its own next cell would wait for ever.
    timeout : float or None, default None
        Seconds after which following ends with `WaitTimeoutError`; None is for ever.
    """

    def __init__(
        self, after: int = 0, *, through_review: bool = False, timeout: float | None = None
    ) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.last_seq = after
        self.ended = False
        self._through_review = through_review
        self._head = after
        self._pauses = 0
        self._away_since: float | None = None

    def take(self, frame: dict[str, Any]) -> list[Event]:
        """Take one frame of the server and return its new events, in order.

        Parameters
        ----------
        frame : dict
            A ``hello``, ``events`` or ``end`` frame; others (``status``, ``progress``) only
            run ahead of events that follow.

        Returns
        -------
        list of Event
            Events not seen before.

        Raises
        ------
        StreamGapError
            If an event is missing before one in the frame, or before the end.
        """
        kind = frame.get("type")
        if kind == "events":
            return self.add([Event.from_json(row) for row in frame.get("events", [])])
        if kind == "hello":
            self.note_kept(int(frame.get("first_seq") or 1))
            self.note_state(str(frame.get("status")), int(frame.get("last_seq") or 0))
        elif kind == "end":
            if int(frame.get("last_seq") or 0) > self.last_seq:
                raise StreamGapError("The stream ended before its last event.")
            self.ended = True
        return []

    def add(self, events: list[Event]) -> list[Event]:
        """Take events from either way of reading; return those not seen before."""
        new: list[Event] = []
        for event in events:
            if event.seq <= self.last_seq:
                continue
            if event.seq != self.last_seq + 1:
                raise StreamGapError(f"Event {self.last_seq + 1} is missing.")
            self.last_seq = event.seq
            new.append(event)
            if event.type == "STATUS" and event.payload.get("status") == "REVIEW":
                self._stop_in_review("REVIEW")
        return new

    def note_state(self, status: str, last_seq: int) -> None:
        """Take note of the attempt's state and of the newest number the server has."""
        self._head = max(self._head, last_seq)
        self._stop_in_review(status)

    def note_kept(self, first_seq: int) -> None:
        """Take note of the lowest event that is kept: what retention removed is not missing."""
        self.last_seq = max(self.last_seq, first_seq - 1)

    def is_complete(self, attempt: BaseAttempt) -> bool:
        """Return whether nothing more can come, after a read over HTTP."""
        self.note_kept(attempt.first_seq)
        self.note_state(attempt.status, attempt.last_seq)
        if attempt.is_terminal and self.last_seq >= attempt.last_seq:
            self.ended = True
        return self.ended

    def _stop_in_review(self, status: str) -> None:
        """End in REVIEW, unless later events show that the review is long over."""
        if status == "REVIEW" and not self._through_review and self.last_seq >= self._head:
            self.ended = True

    def time_left(self) -> float | None:
        """Return the seconds that following may go on; None without a limit.

        Raises
        ------
        WaitTimeoutError
            If there are none.
        """
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            raise WaitTimeoutError(
                f"The attempt did not end within {self._timeout:g} s; it goes on. "
                f"Follow it from here with after={self.last_seq}."
            )
        return left

    def succeeded(self) -> None:
        """Take note that the server answered, so that the pauses begin anew."""
        self._away_since = None

    def progressed(self) -> None:
        """Take note that events came over the socket."""
        self._pauses = 0
        self._away_since = None

    def failed(self, error: Exception) -> None:
        """Take note that the server is away; raise `error` when that lasts too long."""
        self._away_since = self._away_since or time.monotonic()
        if time.monotonic() - self._away_since > PATIENCE_S:
            raise error

    def pause(self) -> float:
        """Return the seconds to wait before the next try, growing, with jitter."""
        self._pauses += 1
        longest: float = min(_FIRST_PAUSE_S * 2**self._pauses, _LONGEST_PAUSE_S)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, hides nothing)


def _ws_options(endpoint: Endpoint) -> dict[str, Any]:
    return {
        **({"unix": True, "path": endpoint.socket} if endpoint.socket else {}),
        "additional_headers": endpoint.headers,
        "max_size": _MAX_FRAME_BYTES,
        "open_timeout": 10,
        "close_timeout": 1,
        "proxy": None if endpoint.is_loopback else True,
    }


def _frame(text: str | bytes) -> dict[str, Any]:
    frame = json.loads(text)
    if not isinstance(frame, dict):
        raise ServerError("The server sent a frame that is not an object.")
    return frame


def _ack(cursor: StreamCursor) -> str:
    return json.dumps({"type": "ack", "seq": cursor.last_seq})


def _check_close(error: Exception, what: str) -> None:
    """Raise when the server closed the socket because there is nothing to see."""
    received = getattr(error, "rcvd", None)
    if received is not None and received.code == _CLOSE_NOT_FOUND:
        raise NotFoundError(f"{what} does not exist, or is not yours.", status=404)


def _attempt_url(endpoint: Endpoint, attempt_id: str, cursor: StreamCursor) -> str:
    route = ops.path("attempts", attempt_id).removeprefix("/api")
    return f"{endpoint.ws_url}/ws{route}?after={cursor.last_seq}"


def follow_events(
    client: Client,
    attempt_id: str,
    cursor: StreamCursor,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Yield an attempt's events until it ends, without a hole and without doubles.

    Parameters
    ----------
    client : Client
        Whose server and token to use.
    attempt_id : str
        The attempt.
    cursor : StreamCursor
        Where to begin.
    stop : threading.Event or None, default None
        Set by another thread to end the following within a second.

    Yields
    ------
    Event
        Each event once, in order.

    Raises
    ------
    RootboundError
        If the attempt is not visible, or the server stays away for more than a minute.
    """
    stop = stop or threading.Event()
    while not (cursor.ended or stop.is_set()):
        cursor.time_left()
        yield from _over_socket(client, attempt_id, cursor, stop)
        if cursor.ended or stop.is_set():
            return
        try:
            yield from _over_http(client, attempt_id, cursor)
            cursor.succeeded()
        except (ConnectionFailedError, ServerError) as error:
            cursor.failed(error)
        if not cursor.ended:
            stop.wait(cursor.pause())


def _over_socket(
    client: Client, attempt_id: str, cursor: StreamCursor, stop: threading.Event
) -> Iterator[Event]:
    """Yield events from one WebSocket until it ends or is lost."""
    from websockets.exceptions import ConnectionClosed, WebSocketException
    from websockets.sync.client import connect

    endpoint = client.endpoint
    try:
        with connect(_attempt_url(endpoint, attempt_id, cursor), **_ws_options(endpoint)) as socket:
            while not (cursor.ended or stop.is_set()):
                left = cursor.time_left()
                try:
                    slice_s = _RECV_SLICE_S if left is None else min(left, _RECV_SLICE_S)
                    events = cursor.take(_frame(socket.recv(timeout=slice_s)))
                except TimeoutError:
                    continue
                if events:
                    cursor.progressed()
                    yield from events
                    # After the consumer had them: a slow one slows the server down. One that has
                    # sent everything may have closed; what it sent can still be read.
                    with contextlib.suppress(ConnectionClosed):
                        socket.send(_ack(cursor))
    except (OSError, ValueError, WebSocketException, StreamGapError) as error:
        _check_close(error, f"Attempt {attempt_id}")


def _over_http(client: Client, attempt_id: str, cursor: StreamCursor) -> Iterator[Event]:
    """Yield the stored events after the cursor and note whether there can be more."""
    attempt = client._call(ops.read(BaseAttempt, None, "attempts", attempt_id))
    cursor.note_kept(attempt.first_seq)
    cursor.note_state(attempt.status, attempt.last_seq)
    while True:
        operation = ops.events(attempt_id, after=cursor.last_seq, limit=PAGE)
        stored = client._call(operation)
        yield from cursor.add(stored)
        if not stored:
            break
    # The state was read before the events: what ended by then is complete now.
    cursor.is_complete(attempt)


async def follow_events_async(
    client: AsyncClient, attempt_id: str, cursor: StreamCursor
) -> AsyncIterator[Event]:
    """Yield events as `follow_events` does, awaiting."""
    while not cursor.ended:
        cursor.time_left()
        async for event in _over_socket_async(client, attempt_id, cursor):
            yield event
        if cursor.ended:
            return
        try:
            async for event in _over_http_async(client, attempt_id, cursor):
                yield event
            cursor.succeeded()
        except (ConnectionFailedError, ServerError) as error:
            cursor.failed(error)
        if not cursor.ended:
            await asyncio.sleep(cursor.pause())


async def _over_socket_async(
    client: AsyncClient, attempt_id: str, cursor: StreamCursor
) -> AsyncIterator[Event]:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, WebSocketException

    endpoint = client.endpoint
    url = _attempt_url(endpoint, attempt_id, cursor)
    try:
        async with connect(url, **_ws_options(endpoint)) as socket:
            while not cursor.ended:
                left = cursor.time_left()
                try:
                    frame = await asyncio.wait_for(socket.recv(), left)
                except TimeoutError:
                    continue
                events = cursor.take(_frame(frame))
                if events:
                    cursor.progressed()
                    for event in events:
                        yield event
                    with contextlib.suppress(ConnectionClosed):
                        await socket.send(_ack(cursor))
    except (OSError, ValueError, WebSocketException, StreamGapError) as error:
        _check_close(error, f"Attempt {attempt_id}")


async def _over_http_async(
    client: AsyncClient, attempt_id: str, cursor: StreamCursor
) -> AsyncIterator[Event]:
    attempt = await client._call(ops.read(BaseAttempt, None, "attempts", attempt_id))
    cursor.note_kept(attempt.first_seq)
    cursor.note_state(attempt.status, attempt.last_seq)
    while True:
        operation = ops.events(attempt_id, after=cursor.last_seq, limit=PAGE)
        stored = await client._call(operation)
        for event in cursor.add(stored):
            yield event
        if not stored:
            break
    cursor.is_complete(attempt)


def follow_board(
    client: Client, project_id: str, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    """Yield a project's board frames until `stop` is set.

    Parameters
    ----------
    client : Client
        Whose server and token to use.
    project_id : str
        The project.
    stop : threading.Event
        Set by another thread to end within a second.

    Yields
    ------
    dict
        ``{"type": "snapshot", "tasks"}`` after every (re)connection, then
        ``{"type": "task", "task"}`` and ``{"type": "task_deleted", "id"}``.

    Raises
    ------
    RootboundError
        If the project is not visible, or the server stays away for more than a minute.
    """
    cursor = StreamCursor()
    while not stop.is_set():
        yield from _board_over_socket(client, project_id, cursor, stop)
        if stop.is_set():
            return
        try:
            tasks = client._run(
                all_pages(client.endpoint, BaseTask, None, "projects", project_id, "tasks")
            )
            yield {"type": "snapshot", "tasks": [task.raw for task in tasks]}
            cursor.succeeded()
        except (ConnectionFailedError, ServerError) as error:
            cursor.failed(error)
        stop.wait(cursor.pause())


def _board_over_socket(
    client: Client, project_id: str, cursor: StreamCursor, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    endpoint = client.endpoint
    route = ops.path("projects", project_id).removeprefix("/api")
    try:
        with connect(f"{endpoint.ws_url}/ws{route}", **_ws_options(endpoint)) as socket:
            while not stop.is_set():
                try:
                    frame = _frame(socket.recv(timeout=_RECV_SLICE_S))
                except TimeoutError:
                    continue
                cursor.progressed()
                yield frame
                if (seq := frame.get("seq")) is not None:
                    socket.send(json.dumps({"type": "ack", "seq": seq}))
    except (OSError, ValueError, WebSocketException) as error:
        _check_close(error, f"Project {project_id}")
