"""WebSockets from Jupyter to the backend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from .base import HostHandler
from .connection import BackendConnection, BackendLost, BackendUnreachable, WebSocketRefused
from .headers import backend_target, request_headers
from .problems import HostProblem
from .resources import action_of

if TYPE_CHECKING:
    import aiohttp

__all__ = ["SocketHandler"]

_PING_S = 30.0
_SEND_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 3.0
_GOING_AWAY = 1001
_SERVICE_RESTART = 1012
_MAX_REASON_BYTES = 123


class SocketHandler(WebSocketHandler, HostHandler):
    """Carries ``/rootbound/ws/*`` to the backend.

    The backend's handshake comes first: what it refuses is refused here with its status, and the
    sub-protocol is the one it chose. After that, each message waits until the other side has taken
    the one before, in both directions.
    """

    _upstream: aiohttp.ClientWebSocketResponse | None = None
    _handshake: asyncio.Task[aiohttp.ClientWebSocketResponse] | None = None
    _pump: asyncio.Task[None] | None = None

    # Tornado's seconds, under the name that Jupyter's WebSocketMixin uses for milliseconds.
    @property
    def ping_interval(self) -> float:
        """Seconds between pings to the client."""
        return _PING_S

    @property
    def ping_timeout(self) -> float:
        """Seconds a client may take to answer a ping."""
        return _PING_S

    @property
    def max_message_size(self) -> int:
        """Largest message of the client, in bytes; beyond it the socket is closed with 1009."""
        return self.host.max_message_bytes

    @property
    def auth_action(self) -> str:
        """Jupyter's word for opening a WebSocket."""
        return action_of("WEBSOCKET")

    def check_origin(self, origin: str = "") -> bool:
        """Apply Jupyter's origin rules (``allow_origin`` and friends), not Tornado's own."""
        return JupyterHandler.check_origin(self, origin)

    @ws_authenticated
    async def get(self, *args: str, **kwargs: str) -> None:
        """Shake hands with the backend, then with the client, then carry messages."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise HostProblem(
                426,
                "upgrade-required",
                "This address is a WebSocket.",
                headers={"Upgrade": "websocket"},
            )
        connection = await self.host.watch.connection()
        try:
            self._upstream = await self._open_upstream(connection)
            if self._upstream is None:
                return
            self.host.live.add(self)
            await super().get(*args, **kwargs)
        finally:
            self.host.live.discard(self)
            await self._end()

    async def _open_upstream(
        self, connection: BackendConnection
    ) -> aiohttp.ClientWebSocketResponse | None:
        path = self.inner_path
        identity = self.proof(connection, "GET")
        self._handshake = asyncio.create_task(
            connection.websocket(
                backend_target(path, self.request.query),
                [*request_headers(self.request.headers.get_all()), *identity.items()],
                protocols=self._offered(),
                max_message_bytes=self.host.max_message_bytes,
            )
        )
        try:
            await asyncio.wait({self._handshake})
            return None if self._handshake.cancelled() else self._handshake.result()
        except WebSocketRefused as exc:
            status = exc.status if exc.status >= 400 else 502
            raise HostProblem(
                status, "websocket-refused", "Rootbound's backend refused the WebSocket."
            ) from exc
        except BackendUnreachable as exc:
            raise self.host.watch.lost(connection) from exc
        except BackendLost as exc:
            raise HostProblem(
                502, "backend-lost", "Rootbound's backend went away during the handshake."
            ) from exc

    def _offered(self) -> tuple[str, ...]:
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        return tuple(name.strip() for name in offered.split(",") if name.strip())

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Return the sub-protocol that the backend chose."""
        return self._upstream.protocol if self._upstream is not None else None

    def open(self, *args: str, **kwargs: str) -> None:
        """Start carrying the backend's messages."""
        self.set_nodelay(True)
        self._pump = asyncio.create_task(self._pump_down())

    async def on_message(self, message: str | bytes) -> None:
        """Pass a message of the client on; the next is read when the backend has taken it."""
        upstream = self._upstream
        if upstream is None or upstream.closed:
            # Returning at once would let a client that keeps sending keep the loop to itself.
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                if isinstance(message, str):
                    await upstream.send_str(message)
                else:
                    await upstream.send_bytes(message)
        except TimeoutError:
            self.close(_SERVICE_RESTART, "the backend takes no messages")
        except (ConnectionError, RuntimeError):
            # The backend has closed: the pump knows its code, and closes with it.
            await asyncio.sleep(0)

    async def _pump_down(self) -> None:
        try:
            code, reason = await self._carry_down()
        except (WebSocketClosedError, StreamClosedError):
            return  # the client has gone
        except Exception:
            # Without a close the client would wait for ever for messages that cannot come.
            self.log.exception("Rootbound: a WebSocket of the backend broke off")
            code, reason = _SERVICE_RESTART, "the backend went away"
        self.close(_sendable(code), _clipped(reason) or None)

    async def _carry_down(self) -> tuple[int | None, str]:
        """Carry the backend's messages until it closes; return its close code and reason."""
        import aiohttp

        upstream = self._upstream
        while upstream is not None:
            message = await upstream.receive()
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    await self.write_message(message.data)
                case aiohttp.WSMsgType.BINARY:
                    await self.write_message(message.data, binary=True)
                case aiohttp.WSMsgType.CLOSE:
                    return message.data or None, message.extra or ""
                case aiohttp.WSMsgType.ERROR:
                    return upstream.close_code, "the backend's message cannot be carried"
                case _:
                    break
        return _SERVICE_RESTART, "the backend went away"

    def on_close(self) -> None:
        """Give up a handshake that is under way; `get` does the rest."""
        if self._handshake is not None:
            self._handshake.cancel()

    def stop(self) -> None:
        """Ask the client to come back to the next server."""
        self.close(_SERVICE_RESTART, "this Jupyter server is stopping")

    async def _end(self) -> None:
        """Stop the pump and close towards the backend with the client's code."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait({self._pump}, timeout=_CLOSE_TIMEOUT_S)
        upstream, self._upstream = self._upstream, None
        if upstream is None or upstream.closed:
            return
        code = _sendable(self.close_code) or _GOING_AWAY
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await upstream.close(code=code, message=_clipped(self.close_reason or "").encode())
        except TimeoutError:
            self.log.warning("Rootbound's backend did not close a WebSocket in time")


def _sendable(code: int | None) -> int | None:
    """Return a close code that may stand in a frame; 1005, 1006 and 1015 may not."""
    if code is None or not 1000 <= code <= 4999 or code in {1004, 1005, 1006, 1015}:
        return None
    return code


def _clipped(reason: str) -> str:
    """Return a reason short enough for a close frame, cut between characters."""
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
