"""The short way in for a run's reports, past what Django and its framework do for a request.

The first line of a run after a pause is to be on the screen at once, and taking a request apart
takes longer than storing it. What is plain is stored here, in one hop to a lane; whatever is out of
the ordinary, and all that is refused, goes the long way, whose view says what is wrong with it.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from rootbound_backend.apps.attempts.ingest import decode_events, ingest_events
from rootbound_backend.apps.local_access.ingest import decode_audit, ingest_audit
from rootbound_backend.problems import Problem
from rootbound_backend.tokens import IngestGrant, TokenRefusedError, verify_ingest_token
from rootbound_backend.whole_bodies import MAX_WHOLE_BYTES

__all__ = ["ReportsEndpoint"]

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]
OnLane = Callable[..., Awaitable[Any]]
Store = Callable[[IngestGrant, bytes, str], int | None]

_EVENTS = re.compile(
    r"/api/attempts/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/events/"
)
_AUDIT = "/api/audit/ingest/"
_KNOWN = (b"authorization", b"content-type", b"content-encoding")


class ReportsEndpoint:
    """Takes posts of events and of audit entries.

    Parameters
    ----------
    api
        The REST API as an ASGI application, for everything else.
    on_lane
        Calls a function on one of its threads.
    """

    def __init__(self, api: App, on_lane: OnLane) -> None:
        self._api = api
        self._on_lane = on_lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        store = _store_for(scope["path"]) if scope["method"] == "POST" else None
        headers = None if store is None else _headers(scope)
        if store is None or headers is None:
            await self._api(scope, receive, send)
            return
        messages = await _messages(receive)
        if messages[-1]["type"] == "http.request" and not messages[-1].get("more_body"):
            body = b"".join(message.get("body", b"") for message in messages)
            seq = await self._on_lane(_stored, store, headers, body)
            if seq is not None:
                await _answer(send, b'{"seq":%d}' % seq)
                return
        await self._api(scope, _replayed(messages, receive), send)


def _headers(scope: Scope) -> dict[bytes, bytes] | None:
    """Return the headers that matter, None when there is more to be understood about them."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _KNOWN and found.setdefault(name, value) is not value:
            return None
    return None if b"content-encoding" in found or b"authorization" not in found else found


async def _messages(receive: Receive) -> list[Any]:
    """Return the messages of a request's body, as far as it may be taken here."""
    messages: list[Any] = []
    size = 0
    while size <= MAX_WHOLE_BYTES:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    return messages


def _replayed(messages: list[Any], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def again() -> Any:
        message = next(waiting, None)
        return await receive() if message is None else message

    return again


def _store_for(path: str) -> Store | None:
    """Return what stores the posts to a path, None for any other path."""
    if path == _AUDIT:
        return _store_audit
    found = _EVENTS.fullmatch(path)
    return None if found is None else partial(_store_events, uuid.UUID(found[1]))


def _stored(store: Store, headers: dict[bytes, bytes], body: bytes) -> int | None:
    """Store a batch; None when the view has to say something else. Nothing is stored then."""
    scheme, _, token = headers[b"authorization"].decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        grant = verify_ingest_token(token.strip())
        return store(grant, body, headers.get(b"content-type", b"").decode("latin-1"))
    except (TokenRefusedError, Problem):
        return None
    except Exception as error:
        # Should it have been stored all the same, the view finds it there.
        logger.info("A report goes the long way: %s", error)
        return None


def _store_events(
    attempt_id: uuid.UUID, grant: IngestGrant, body: bytes, content_type: str
) -> int | None:
    batch = decode_events(body, content_type, lease_generation=grant.lease_generation)
    if grant.attempt_id != attempt_id or batch.lease_generation != grant.lease_generation:
        return None
    return ingest_events(attempt_id=attempt_id, batch=batch)


def _store_audit(grant: IngestGrant, body: bytes, content_type: str) -> int | None:
    return ingest_audit(grant=grant, batch=decode_audit(body, content_type, grant=grant))


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
