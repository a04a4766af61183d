"""The door of the LDA: only the backend comes in, and each token opens it for one request.

What can be judged by the head of a request is judged before its body is read, so that nobody
without a token can make the LDA wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from .auth import AuthError, Verifier
from .problems import problem

MAX_BODY_BYTES: Final = 2 * 1024 * 1024
BODY_TIMEOUT_S: Final = 15.0
MAX_ACTIVE: Final = 64
"""Requests that are worked on at a time; more are told to come back."""

_DRAINED_BYTES: Final = 256 * 1024
_DRAIN_TIMEOUT_S: Final = 1.0


class Door:
    """Lets in only what the backend sends, and only with a token for this very request.

    Parameters
    ----------
    app
        What is behind it.
    verifier
        Checks tokens.
    hosts
        Values of ``Host`` that mean this process.
    max_active
        Requests at a time. Default 64.
    """

    def __init__(
        self,
        app: Starlette,
        verifier: Verifier,
        hosts: frozenset[str],
        *,
        max_active: int = MAX_ACTIVE,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._hosts = hosts
        self._max_active = max_active
        self._active = 0

    @property
    def app(self) -> Starlette:
        """What is behind it."""
        return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, read its body, and pass both on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"The LDA does not speak {scope['type']}.")
        request = Request(scope, receive)
        answer = self._refusal(request)
        if answer is None:
            answer = await self._admit(request, send)
        if answer is not None:
            answer.headers["Connection"] = "close"
            await _drain(request)
            await answer(scope, receive, send)

    async def _admit(self, request: Request, send: Send) -> Response | None:
        """Pass a request on if its token fits; return the refusal if not."""
        try:
            claims = self._verifier.check_head(_token(request), request.method, _target(request))
            if self._active >= self._max_active:
                return _busy("The LDA has too much to do; try again in a second.")
            self._active += 1
            try:
                body = await _read(request)
                self._verifier.check_body(claims, body)
                await self._app(request.scope, _replay(body, request.receive), send)
            finally:
                self._active -= 1
        except AuthError as error:
            if error.code == "too-many-requests":
                return _busy(str(error))
            refusal = problem(401, error.code, str(error))
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        except _TooLargeError:
            return problem(413, "body-too-large", "The body is too large.")
        except _BodyTimeoutError:
            return problem(408, "body-timeout", "The body did not arrive in time.")
        return None

    def _refusal(self, request: Request) -> Response | None:
        """Refuse what a browser, or a name that was rebound, would send."""
        headers = request.headers
        if headers.getlist("host") not in ([host] for host in self._hosts):
            return problem(421, "host-foreign", "This host is not served here.")
        if "origin" in headers or "sec-fetch-site" in headers:
            return problem(403, "origin-refused", "Requests from web pages are not served.")
        if "cookie" in headers:
            return problem(403, "cookie-refused", "Requests with cookies are not served.")
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if (has_body or kind) and kind != "application/json":
            return problem(415, "not-json", "Send application/json.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
            return problem(413, "body-too-large", "The body is too large.")
        return None


class _TooLargeError(Exception):
    """The body is larger than allowed."""


class _BodyTimeoutError(Exception):
    """The body took too long."""


def _busy(sentence: str) -> Response:
    refusal = problem(503, "busy", sentence)
    refusal.headers["Retry-After"] = "1"
    return refusal


def _token(request: Request) -> str | None:
    tokens = request.headers.getlist("authorization")
    return tokens[0] if len(tokens) == 1 else None


def _target(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope.get("query_string", b"")
    target = raw.split(b"?", 1)[0] + (b"?" + query if query else b"")
    return target.decode("latin-1")


async def _read(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise _TooLargeError
                parts.append(part)
    except TimeoutError as error:
        raise _BodyTimeoutError from error
    return b"".join(parts)


async def _drain(request: Request) -> None:
    """Take a little of a refused body: a client that still sends would not see the answer."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            while size < _DRAINED_BYTES:
                message = await request.receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body, which was read to check it, to the app once more."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
