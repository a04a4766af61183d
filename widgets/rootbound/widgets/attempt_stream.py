"""The live stream of an attempt's events."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import traitlets

from .. import _cursor, stream
from .. import _html as html
from .. import _operations as ops
from ..errors import ConflictError
from ..models import Event
from ..objects import Attempt
from .base import BaseWidget, Handler, text_param
from .feed import Source
from .verbs import access_verbs, attempt_verbs, form_verbs

_MAX_EVENTS = 1000
_MAX_BYTES = 2**20
_PUSH_SIZE = 500
_WINDOW = 2000
_HTML_EVENTS = 40
_FOUND = 100


class AttemptStream(BaseWidget):
    """A live view of an attempt.

    The newest 1,000 events (1 MiB at most) are held for new views and for the saved notebook;
    `Attempt.events` reads all of them.

    Parameters
    ----------
    attempt : Attempt
        The attempt to show.
    **kwargs
        Traits, such as ``search``.

    Attributes
    ----------
    search : str
        Words that the entries shown hold; the view changes it, and setting it changes the view.
    show : {"all", "talk", "tools", "gates", "problems"}
        The kind of entries shown, likewise.
    """

    _bundle_name = "attempt_stream"
    _client_writable = BaseWidget._client_writable | {"search", "show"}

    search = traitlets.Unicode("").tag(sync=True)
    show = traitlets.Enum(["all", "talk", "tools", "gates", "problems"], "all").tag(sync=True)

    def __init__(self, attempt: Attempt, **kwargs: Any) -> None:
        self._attempt = attempt
        self._events: deque[tuple[int, dict[str, Any]]] = deque()
        self._bytes = 0
        self._last_seq = 0
        self._pushed = 0
        self._acked = 0
        # Events the front end has no room for yet; the feed waits while there are any.
        self._unsent: list[dict[str, Any]] = []
        super().__init__(**kwargs)
        decisions = attempt_verbs(lambda _params: self._attempt)
        self._handlers |= {name: self._decide(verb) for name, verb in decisions.items()}
        self._handlers |= access_verbs(lambda: self._attempt.access_requests())
        self._handlers |= form_verbs(
            attempt.client, (f"POST api/attempts/{attempt.id}/(messages|retry)/",)
        )
        self._handlers |= {
            "ack": self._ack,
            "events_page": lambda params: self._page(
                after=_number(params, "after"),
                before=_number(params, "before"),
                limit=_number(params, "limit"),
            ),
            "search_events": lambda params: self._page(
                q=text_param(params, "words"), before=_number(params, "before"), limit=_FOUND
            ),
        }

    @property
    def attempt(self) -> Attempt:
        """The attempt as it was read last."""
        return self._attempt

    def _decide(self, verb: Handler) -> Handler:
        """Let a view that is told of a conflict see the attempt as it is now."""

        def decide(params: dict[str, Any]) -> Any:
            try:
                return verb(params)
            except ConflictError:
                self._attempt = self._attempt.refresh()
                self._push("status", self._attempt.raw)
                raise

        return decide

    def _page(self, **query: Any) -> dict[str, Any]:
        """Return stored events that a view asks for, which are more than it holds."""
        page = self._attempt.client._call(ops.event_page(self._attempt.id, **query))
        return {**page, "results": [event.raw for event in page["results"]]}

    def _load(self) -> dict[str, Any]:
        self._attempt = self._attempt.refresh()
        self._last_seq = max(self._attempt.last_seq - _MAX_EVENTS, 0)
        for event in self._attempt.events(after=self._last_seq):
            self._keep(event.raw)
        return self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        # A new view begins with this state: nothing is in flight to it.
        self._pushed = self._acked = self._last_seq
        self._unsent.clear()
        return {"attempt": self._attempt.raw, "events": [raw for _size, raw in self._events]}

    def _keep(self, raw: dict[str, Any]) -> None:
        """Remember an event, forgetting the oldest beyond the bounds."""
        size = len(json.dumps(raw))
        self._events.append((size, raw))
        self._bytes += size
        self._last_seq = raw["seq"]
        while len(self._events) > _MAX_EVENTS or (
            self._bytes > _MAX_BYTES and len(self._events) > 1
        ):
            self._bytes -= self._events.popleft()[0]

    def _hello(self, params: dict[str, Any]) -> dict[str, Any]:
        if self._feed is None or not self._feed.is_alive:
            self._attempt = self._attempt.refresh()
        return super()._hello(params)

    def _source(self) -> Source:
        # Bound to names, so that the thread does not keep the widget alive.
        client, attempt_id, after = self._attempt.client, self._attempt.id, self._last_seq

        def follow(stop: threading.Event) -> Iterator[Event | Attempt]:
            cursor = _cursor.StreamCursor(after, through_review=True, stop=stop)
            for event in stream.follow_events(client, attempt_id, cursor):
                yield event
                if event.type == "STATUS":
                    yield client.attempt(attempt_id)
            if not stop.is_set():
                yield client.attempt(attempt_id)

        return follow

    def _take(self, items: list[Any]) -> None:
        status: Attempt | None = None
        for item in items:
            if isinstance(item, Attempt):
                status = item
            elif item.seq > self._last_seq:
                self._keep(item.raw)
                self._unsent.append(item.raw)
        self._send_events()
        if status is not None:
            self._attempt = status
            self._push("status", status.raw)
            if not status.is_live and not self._unsent:
                # Nothing more comes soon: leave the notebook a state worth saving.
                self._state = self._snapshot()

    def _send_events(self) -> None:
        """Push what fits into the window; the rest follows with the next acknowledgement."""
        while self._unsent and self._pushed - self._acked < _WINDOW:
            batch, self._unsent = self._unsent[:_PUSH_SIZE], self._unsent[_PUSH_SIZE:]
            self._pushed = batch[-1]["seq"]
            self._push("events", batch)
        if self._feed is not None:
            self._feed.backlog = len(self._unsent)

    def _ack(self, params: dict[str, Any]) -> dict[str, Any]:
        seq = params.get("seq")
        if isinstance(seq, int):
            self._acked = max(self._acked, min(seq, self._pushed))
            self._send_events()
        return {"acked": self._acked}

    def to_html(self) -> str:
        """Return the attempt and its newest events as static HTML, read from the server now."""
        attempt = self._attempt.refresh()
        after = max(attempt.last_seq - _HTML_EVENTS, 0)
        events = list(attempt.events(after=after))
        title = f"The last {len(events)} of {attempt.last_seq} events (snapshot)"
        return html.attempt(attempt) + html.events(events, title=title)


def _number(params: dict[str, Any], name: str) -> int | None:
    """Return a number of a message's params; None when it is not there."""
    value = params.get(name)
    return value if isinstance(value, int) else None
