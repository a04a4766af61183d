"""The ASGI application: HTTP on fixed lanes, WebSockets, and nothing that grows per request."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rootbound_backend.settings")

import django

django.setup(set_prefix=False)

# Everything below needs the apps to be loaded.
from asgiref.sync import ThreadSensitiveContext, sync_to_async  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import WebsocketDenier  # noqa: E402
from django.core.exceptions import RequestAborted  # noqa: E402
from django.core.handlers.asgi import (  # noqa: E402
    ASGIHandler,
    ASGIRequest,
    get_script_prefix,
)
from django.core.signals import request_finished  # noqa: E402
from django.db import close_old_connections, connection  # noqa: E402
from django.http import HttpResponseBase  # noqa: E402
from django.urls import path, re_path, set_script_prefix  # noqa: E402

from rootbound_backend.apps.attempts.consumers import AttemptConsumer  # noqa: E402
from rootbound_backend.apps.local_access.machine_consumer import MachineConsumer  # noqa: E402
from rootbound_backend.apps.projects.consumers import ProjectConsumer  # noqa: E402
from rootbound_backend.authentication import user_for_websocket  # noqa: E402
from rootbound_backend.mcp.server import PATH as MCP_PATH  # noqa: E402
from rootbound_backend.mcp.server import McpEndpoint  # noqa: E402
from rootbound_backend.pacing import paced  # noqa: E402
from rootbound_backend.quick_frames import quick  # noqa: E402
from rootbound_backend.reporting import ReportsEndpoint  # noqa: E402
from rootbound_backend.websockets import CLOSE_NOT_FOUND, run_in_db  # noqa: E402
from rootbound_backend.whole_bodies import hand_over_whole_bodies  # noqa: E402

__all__ = ["application"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]

LANES = 16
"""Requests that may be inside Django at once; further ones queue behind the shortest lane."""


class _Lane:
    """One thread that serves one request after the other."""

    def __init__(self, number: int) -> None:
        self.busy = 0
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"lane-{number}")


# A lane keeps its database connection: to take one from the pool and give it back after each
# request takes longer than to store an event [0.40 ms against 0.38 ms].
request_finished.disconnect(close_old_connections)


def _part_with_lost_connection() -> None:
    """Close the lane's connection if the database went away since its last request."""
    held: Any = connection.connection
    if held is None:
        return
    if not held.closed:
        # To ask the database takes a quarter of a millisecond; what is idle has nothing to read
        # but its end or a notice.
        ready = select.poll()
        ready.register(held.fileno(), select.POLLIN)
        if not ready.poll(0) or connection.is_usable():
            return
    connection.close()


def _with_connection(work: Callable[..., Any], *args: Any) -> Any:
    _part_with_lost_connection()
    return work(*args)


class LaneHandler(ASGIHandler):
    """Django on fixed threads: no thread per request, one hop for middleware and view."""

    def __init__(self) -> None:
        super().__init__()
        self._lanes = [_Lane(number) for number in range(LANES)]

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the synchronous chain, which then runs in one piece on its lane."""
        super().load_middleware(is_async=False)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request with one hop to its lane.

        Django itself hops three times: before the request to close connections that are closed
        already, for the view, and after the answer to close them.
        """
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            set_script_prefix(get_script_prefix(scope))
            request, refusal = self.create_request(scope, body)
            response: Any = await self.run_get_response(request) if request else refusal
            if response.streaming:
                await self._stream(response, receive, send)
            else:
                await self.send_response(response, send)

    async def get_response_async(self, request: ASGIRequest) -> HttpResponseBase:  # type: ignore[override]
        """Run middleware and view on the request's lane."""
        return await sync_to_async(self._answer, thread_sensitive=True)(request)

    def _answer(self, request: ASGIRequest) -> HttpResponseBase:
        _part_with_lost_connection()
        response: HttpResponseBase = self.get_response(request)
        if not response.streaming:
            response.close()
        return response

    async def _stream(self, response: HttpResponseBase, receive: Any, send: Any) -> None:
        """Send block after block until the end, or until the client is gone."""
        sending = asyncio.create_task(self.send_response(response, send))
        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await sync_to_async(response.close)()

    async def on_lane(self, work: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the least busy lane."""
        lane = min(self._lanes, key=lambda one: one.busy)
        lane.busy += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(lane.executor, _with_connection, work, *args)
        finally:
            lane.busy -= 1

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request on the least busy lane."""
        lane = min(self._lanes, key=lambda one: one.busy)
        lane.busy += 1
        try:
            async with ThreadSensitiveContext(executor=lane.executor):
                await self.handle(scope, receive, paced(send))
        finally:
            lane.busy -= 1


class RequireUser:
    """Refuses WebSockets that do not prove who opens them, before they are accepted (403)."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the socket through with ``scope["user"]``, or deny it."""
        user = await run_in_db(user_for_websocket, scope.get("headers", []), path=scope["path"])
        if user is None:
            denier: Any = WebsocketDenier()
            await denier(scope, receive, send)
            return
        await self._app({**scope, "user": user}, receive, send)


async def _unknown_socket(scope: Scope, receive: Receive, send: Send) -> Any:
    """Close a socket of an unknown path with 4404, which a client can tell from a fault."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": CLOSE_NOT_FOUND})


# Django's stubs know views only, so the ASGI applications go in as what they are to them.
_unknown: Any = _unknown_socket
_attempt: Any = AttemptConsumer.as_asgi()
_project: Any = ProjectConsumer.as_asgi()
_routes: list[Any] = [
    path("ws/attempts/<uuid:attempt_id>/", _attempt),
    path("ws/projects/<uuid:project_id>/", _project),
    re_path("", _unknown),
]
_router: Any = URLRouter(_routes)
_sockets = RequireUser(_router)
_machine: Any = MachineConsumer.as_asgi()
MACHINE_PATH = "/ws/machine/"

_api = LaneHandler()
_mcp = McpEndpoint(_api)
_reports = ReportsEndpoint(_api, _api.on_lane)


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve MCP on its own path, a run's reports the short way, everything else by Django."""
    await (_mcp if scope["path"] == MCP_PATH else _reports)(scope, receive, send)


async def _websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a machine's LDA, which proves itself by its own token, and everybody else."""
    await (_machine if scope["path"] == MACHINE_PATH else _sockets)(scope, receive, quick(send))


hand_over_whole_bodies()
_routed: Any = _http
_socketed: Any = _websocket
application = ProtocolTypeRouter({"http": _routed, "websocket": _socketed})

# Streams and requests are short turns on many threads: one that encodes a batch must not keep the
# event loop from reading the next one for the 5 ms that Python would let it.
sys.setswitchinterval(0.0005)

# What is loaded now stays for ever; full collections need not look at it again.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)
