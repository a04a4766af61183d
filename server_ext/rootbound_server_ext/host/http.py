"""HTTP from Jupyter to the backend: streamed both ways, nothing buffered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, cast

from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

from .base import HostHandler
from .connection import BackendConnection, BackendLost, BackendUnreachable
from .headers import backend_target, request_headers, response_headers
from .problems import HostProblem

if TYPE_CHECKING:
    import aiohttp

__all__ = ["ApiHandler", "BodyPipe"]


class BodyPipe:
    """Hands the chunks of a request's body over, one at a time.

    The writer waits until the reader has taken the chunk before, which is what slows the client
    down to the backend's speed.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._closed = False

    async def put(self, chunk: bytes | None) -> None:
        """Hand over a chunk, or None as the end; dropped when nobody reads any more."""
        if self._closed:
            # A client that keeps sending must not keep the loop to itself.
            await asyncio.sleep(0)
        else:
            await self._queue.put(chunk)

    def close(self) -> None:
        """Drop what comes from now on, and release a waiting writer."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks until the end."""
        while (chunk := await self._queue.get()) is not None:
            yield chunk


@web.stream_request_body
class ApiHandler(HostHandler):
    """Carries ``/rootbound/api/*`` and ``/rootbound/mcp`` to the backend."""

    _body: BodyPipe | None = None
    _exchange: asyncio.Task[None] | None = None
    _refusal: web.HTTPError | None = None
    _client_gone = False

    async def prepare(self, *, _redirect_to_login: bool = False) -> None:
        """Admit the request and start sending it on, before its body has arrived."""
        # A server set to compress would do it on its own loop, drop Content-Length and change what
        # ETag and Range mean. The backend compresses if the client wants it.
        self._transforms = []
        try:
            await self.admit()
            if self.request.method == "OPTIONS":
                return
            connection = await self.host.watch.connection()
            identity = self.proof(connection, self.request.method or "")
        except web.HTTPError as refusal:
            if not self._body_is_coming():
                raise
            # Answering now would close the connection under the client's body, and the client
            # would see a reset instead of the answer. So the body is dropped first.
            self._refusal = refusal
            return
        if self._has_body():
            self._body = BodyPipe()
        self.host.live.add(self)
        self._exchange = asyncio.create_task(self._carry(connection, identity))
        self._exchange.add_done_callback(self._carried)

    @property
    def _connection(self) -> HTTP1Connection:
        return cast("HTTP1Connection", self.request.connection)

    def _has_body(self) -> bool:
        headers = self.request.headers
        return "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"

    def _body_is_coming(self) -> bool:
        waits = self.request.headers.get("Expect", "").lower() == "100-continue"
        return self._has_body() and not waits

    async def data_received(self, chunk: bytes) -> None:
        """Pass a chunk of the request's body on."""
        if self._body is not None:
            await self._body.put(chunk)
        else:
            await asyncio.sleep(0)

    def on_connection_close(self) -> None:
        """Give the request up: the backend sees its client go."""
        super().on_connection_close()
        self._client_gone = True
        self.stop()

    def stop(self) -> None:
        """Cancel the request towards the backend."""
        if self._exchange is not None:
            self._exchange.cancel()

    def _carried(self, exchange: asyncio.Task[None]) -> None:
        self.host.live.discard(self)
        if self._body is not None:
            self._body.close()
        if not exchange.cancelled():
            exchange.exception()  # raised again in `_conclude`, unless the client has gone

    async def _carry(self, connection: BackendConnection, identity: Mapping[str, str]) -> None:
        headers = [*request_headers(self.request.headers.get_all()), *identity.items()]
        try:
            response = await connection.request(
                self.request.method or "",
                backend_target(self.inner_path, self.request.query),
                headers,
                self._body.chunks() if self._body is not None else None,
            )
        except BackendUnreachable as exc:
            raise self.host.watch.lost(connection) from exc
        except BackendLost as exc:
            raise HostProblem(
                502,
                "backend-lost",
                "Rootbound's backend went away while it handled the request; look at what it did "
                "before you ask again.",
            ) from exc
        try:
            await self._relay(response, connection.host)
        finally:
            response.close()

    async def _relay(self, response: aiohttp.ClientResponse, host: str) -> None:
        import aiohttp

        self.set_status(response.status)
        self.clear_header("Content-Type")
        fresh: set[str] = set()
        for name, value in response_headers(
            response.headers.items(), prefix=self.host.prefix, host=host
        ):
            if name.lower() in fresh:
                self.add_header(name, value)
            else:
                self.set_header(name, value)
                fresh.add(name.lower())
        # Small chunks of a stream must not wait for the client's delayed acknowledgements.
        self._connection.stream.set_nodelay(True)
        try:
            await self.flush()  # a stream's head goes out before its first chunk
            async for chunk in response.content.iter_any():
                self.write(chunk)
                await self.flush()
        except StreamClosedError:
            return  # the client has gone; closing the response tells the backend
        except (aiohttp.ClientError, OSError):
            # Ending the answer properly would make a part look like the whole.
            self.log.warning("Rootbound's backend broke off an answer to %s", self.inner_path)
            self._connection.close()

    async def _conclude(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        if self._exchange is None:
            return
        if self._body is not None:
            await self._body.put(None)
        await asyncio.wait({self._exchange})
        if not self._exchange.cancelled():
            self._exchange.result()
        elif not self._client_gone and not self._headers_written:
            raise HostProblem(503, "stopping", "This Jupyter server is stopping.")
        else:
            self._connection.close()

    @web.authenticated
    async def get(self, *_: str) -> None:
        """Carry a GET."""
        await self._conclude()

    @web.authenticated
    async def head(self, *_: str) -> None:
        """Carry a HEAD."""
        await self._conclude()

    @web.authenticated
    async def post(self, *_: str) -> None:
        """Carry a POST."""
        await self._conclude()

    @web.authenticated
    async def put(self, *_: str) -> None:
        """Carry a PUT."""
        await self._conclude()

    @web.authenticated
    async def patch(self, *_: str) -> None:
        """Carry a PATCH."""
        await self._conclude()

    @web.authenticated
    async def delete(self, *_: str) -> None:
        """Carry a DELETE."""
        await self._conclude()
