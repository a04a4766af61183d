"""What the readers of a stream share, and which performs no I/O: where one is, and the frames."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from . import _operations as ops
from ._flows import PATIENCE_S
from .errors import NotFoundError, ServerError, WaitTimeoutError
from .models import BaseAttempt, Event

if TYPE_CHECKING:
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
    stop : threading.Event or None, default None
        Set by another thread to end a blocking reader within two seconds.
    """

    def __init__(
        self,
        after: int = 0,
        *,
        through_review: bool = False,
        timeout: float | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.stop = stop or threading.Event()
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.last_seq = after
        self.ended = False
        self._through_review = through_review
        self._head = after
        self._pauses = 0
        self._away_since: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is wanted: the stream ended, or the reader was told to stop."""
        return self.ended or self.stop.is_set()

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

    def next_look(self) -> float:
        """Return the seconds after which a blocking reader looks at its limits again."""
        left = self.time_left()
        return _RECV_SLICE_S if left is None else min(left, _RECV_SLICE_S)

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


def ws_options(endpoint: Endpoint) -> dict[str, Any]:
    """Return how to open a socket of the server."""
    return {
        **({"unix": True, "path": endpoint.socket} if endpoint.socket else {}),
        "additional_headers": endpoint.headers,
        "max_size": _MAX_FRAME_BYTES,
        "open_timeout": 10,
        "close_timeout": 1,
        "proxy": None if endpoint.is_loopback else True,
    }


def frame(text: str | bytes) -> dict[str, Any]:
    """Return what the server sent.

    Raises
    ------
    ServerError
        If it is no object.
    """
    sent = json.loads(text)
    if not isinstance(sent, dict):
        raise ServerError("The server sent a frame that is not an object.")
    return sent


def ack(cursor: StreamCursor) -> str:
    """Return the message that lets the server go on."""
    return json.dumps({"type": "ack", "seq": cursor.last_seq})


def check_close(error: Exception, what: str) -> None:
    """Raise when the server closed the socket because there is nothing to see."""
    received = getattr(error, "rcvd", None)
    if received is not None and received.code == _CLOSE_NOT_FOUND:
        raise NotFoundError(
            f"{what} does not exist: it was deleted, perhaps with its project, or is not yours.",
            status=404,
        )


def attempt_url(endpoint: Endpoint, attempt_id: str, cursor: StreamCursor) -> str:
    """Return the address of an attempt's socket, from the cursor on."""
    route = ops.path("attempts", attempt_id).removeprefix("/api")
    return f"{endpoint.ws_url}/ws{route}?after={cursor.last_seq}"
