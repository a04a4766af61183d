"""The way to the backend: an HTTP and WebSocket client, over a unix socket or to an address."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .headers import BACKEND_HOST

if TYPE_CHECKING:
    import aiohttp

__all__ = [
    "BackendConnection",
    "BackendLost",
    "BackendUnreachable",
    "WebSocketRefused",
    "is_loopback",
]

_CONNECT_TIMEOUT_S = 5.0
# Shorter than any server's own, so that a write never meets a connection the server just closed.
_KEEPALIVE_S = 2.0
_CLOSE_TIMEOUT_S = 2.0
_HEARTBEAT_S = 25.0
_MAX_HEADER_BYTES = 65536


def is_loopback(address: str) -> bool:
    """Tell whether an address is of this machine."""
    from rootbound import discovery  # httpx is slow to import

    return discovery.is_loopback(address)


class BackendUnreachable(Exception):  # noqa: N818 (a state, reported as a problem)
    """Nobody listens on the backend's socket; the request was not sent."""


class BackendLost(Exception):  # noqa: N818
    """The backend went away after the request was sent; what it did is unknown."""


class WebSocketRefused(Exception):  # noqa: N818
    """The backend refused a WebSocket handshake.

    Attributes
    ----------
    status : int
        The HTTP status of the refusal.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"The backend refused the WebSocket with status {status}.")
        self.status = status


def _stays_here(aiohttp: Any) -> Any:
    """Return what has no request go where an answer points to; a WebSocket's handshake would."""

    async def refuse(_session: Any, _context: Any, facts: Any) -> None:
        facts.response.close()
        raise WebSocketRefused(facts.response.status)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


class BackendConnection:
    """A pool of connections to one backend.

    Parameters
    ----------
    address
        Absolute path of its socket, which need not exist yet; or its http or https address.
    token
        The bearer token for an address, which says whom every request is for. On a socket each
        request says so itself.

    Attributes
    ----------
    address : str
        As given.
    host : str
        The ``Host`` that the backend sees.
    is_remote : bool
        Whether it is an address.
    proof : mapping
        The headers that say whom requests are for, empty on a socket.
    """

    def __init__(self, address: str, token: str = "") -> None:
        self.address = address
        self.is_remote = not address.startswith("/")
        self.host = urlsplit(address).netloc if self.is_remote else BACKEND_HOST
        self.proof: Mapping[str, str] = {"Authorization": f"Bearer {token}"} if token else {}
        self._origin = address if self.is_remote else f"http://{BACKEND_HOST}"
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                # The import takes 0.4 s: in a thread, Jupyter's loop goes on meanwhile.
                aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")
                await asyncio.to_thread(importlib.import_module, "jwt")
                self._session = aiohttp.ClientSession(
                    # No limit: every open stream holds a connection for as long as it is watched.
                    connector=await self._connector(aiohttp),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                    max_line_size=_MAX_HEADER_BYTES,
                    max_field_size=_MAX_HEADER_BYTES,
                    # A proxy may stand before another machine, never before a socket.
                    trust_env=self.is_remote and not is_loopback(self.address),
                    trace_configs=[_stays_here(aiohttp)] if self.is_remote else None,
                )
            return self._session

    async def _connector(self, aiohttp: Any) -> Any:
        options = {"limit": 0, "keepalive_timeout": _KEEPALIVE_S}
        if not self.is_remote:
            return aiohttp.UnixConnector(self.address, **options)
        tls = await asyncio.to_thread(ssl.create_default_context)
        return aiohttp.TCPConnector(ssl=tls, **options)

    async def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: AsyncIterator[bytes] | None,
    ) -> aiohttp.ClientResponse:
        """Send a request and return the answer once its head has arrived.

        Parameters
        ----------
        method
            HTTP method.
        target
            Path and query, percent-encoded; sent as they are.
        headers
            Headers to send. With a body, ``Content-Length`` among them decides the framing;
            without it the body is sent chunked.
        body
            Chunks of the body, or None.

        Raises
        ------
        BackendUnreachable
            When no connection could be made.
        BackendLost
            When the connection broke before the answer's head.
        """
        session = await self._open()
        import aiohttp
        from multidict import CIMultiDict
        from yarl import URL

        try:
            return await session.request(
                method,
                URL(f"{self._origin}{target}", encoded=True),
                headers=CIMultiDict(headers),
                data=body,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise BackendUnreachable(str(exc)) from exc
        except aiohttp.ClientError as exc:
            raise BackendLost(str(exc)) from exc

    async def websocket(
        self,
        target: str,
        headers: Iterable[tuple[str, str]],
        *,
        protocols: tuple[str, ...],
        max_message_bytes: int,
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket; return when the backend has accepted it.

        Parameters
        ----------
        target
            Path and query, percent-encoded.
        headers
            Headers of the handshake.
        protocols
            Sub-protocols the client offers, in its order.
        max_message_bytes
            Largest message the backend may send.

        Raises
        ------
        WebSocketRefused
            When the backend answers anything but 101.
        BackendUnreachable
            When no connection could be made.
        BackendLost
            When the connection broke during the handshake.
        """
        session = await self._open()
        import aiohttp
        from multidict import CIMultiDict
        from yarl import URL

        try:
            return await session.ws_connect(
                URL(f"{self._origin}{target}", encoded=True),
                headers=CIMultiDict(headers),
                protocols=protocols,
                max_msg_size=max_message_bytes,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT_S),
                # A socket file reports a dead peer at once, and a heartbeat would count a client
                # that reads slowly as a dead backend. A network may fall silent.
                heartbeat=_HEARTBEAT_S if self.is_remote else None,
            )
        except aiohttp.WSServerHandshakeError as exc:
            raise WebSocketRefused(exc.status) from exc
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise BackendUnreachable(str(exc)) from exc
        except aiohttp.ClientError as exc:
            raise BackendLost(str(exc)) from exc

    async def is_listening(self) -> bool:
        """Tell whether somebody accepts connections on the socket."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(self.address)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def greet(self) -> tuple[bool, str]:
        """Ask a backend on another machine who we are to it.

        Returns
        -------
        tuple of bool and str
            Whether it knows us, and a sentence for people.
        """
        headers = [("Accept", "application/json"), *self.proof.items()]
        try:
            async with asyncio.timeout(2 * _CONNECT_TIMEOUT_S):
                answer = await self.request("GET", "/api/me/", headers, None)
                said = await answer.json(content_type=None) if answer.status == 200 else {}
        except (BackendUnreachable, BackendLost, TimeoutError, OSError, ValueError) as error:
            reason = str(error) or "it did not answer in time"
            return False, f"The backend at {self.address} does not answer ({reason})."
        if answer.status in (401, 403):
            return False, (
                f"The backend at {self.address} refused the token; set ROOTBOUND_TOKEN anew and "
                "start Jupyter again."
            )
        if answer.status != 200 or not isinstance(said, dict):
            return False, f"The backend at {self.address} answered with status {answer.status}."
        return True, f"Connected to {self.address} as {said.get('username')}."

    async def close(self) -> None:
        """Close every connection; later requests open new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
