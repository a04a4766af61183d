"""Clients that cost the machine little, because they share it with what they measure.

A hundred viewers of 50 events a second are 5,000 frames a second in one process, and a client
library's work for each would count as the server's. Both sides are measured with the same.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable
from typing import Any

import httpx

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_NO_MASK = bytes(4)


class FrameReader(asyncio.Protocol):
    """A WebSocket that calls a function with each text and the moment it arrived.

    Parameters
    ----------
    url, headers
        Of the handshake.
    take
        Called with the moment, in seconds since the epoch, and the text of a frame; what it returns
        is sent.
    """

    def __init__(
        self,
        url: httpx.URL,
        headers: dict[str, str],
        take: Callable[[float, bytes], bytes | None],
    ) -> None:
        self._take = take
        self._open = False
        self._data = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        given = {
            "Host": url.netloc.decode(), "Connection": "Upgrade", "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), **headers,
        }  # fmt: skip
        self._hello = _head(f"GET {url.raw_path.decode()}", given)

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self._transport = transport
        transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        for state in (self.opened, self.closed):
            if not state.done():
                state.set_exception(exc or ConnectionError("The server closed the connection."))
                state.exception()  # whoever left meanwhile does not ask

    def data_received(self, data: bytes) -> None:
        """Take what is whole."""
        now = time.time()
        self._data += data
        if not self._open:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._transport.abort()
                return
            self._open, self._data = True, rest
            self.opened.set_result(None)
        while (frame := self._next()) is not None:
            kind, payload = frame
            if kind == _TEXT and (answer := self._take(now, payload)) is not None:
                self._transport.write(_masked(_TEXT, answer))
            elif kind == _PING:
                self._transport.write(_masked(_PONG, payload))
            elif kind == _CLOSE:
                self._transport.close()

    def _next(self) -> tuple[int, bytes] | None:
        """Return kind and payload of the next whole frame; a server sends no masks."""
        data = self._data
        if len(data) < 2:
            return None
        size, start = data[1], 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        end = start + size
        if len(data) < max(start, end):
            return None
        self._data = data[end:]
        return data[0] & 15, data[start:end]

    def close(self) -> None:
        """Leave without a word."""
        self._transport.abort()


def _masked(kind: int, payload: bytes) -> bytes:
    """Return a short frame of a client's."""
    return bytes([0x80 | kind, 0x80 | len(payload)]) + _NO_MASK + payload


def _head(line: str, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{line} HTTP/1.1\r\n{lines}\r\n".encode()


class Poster:
    """Posts one body after the other over one connection."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = httpx.URL(url)
        self._headers = {"Host": self._url.netloc.decode(), **headers}

    async def __aenter__(self) -> Poster:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        self._writer.close()

    async def post(self, body: bytes) -> None:
        """Post; whatever is no success is an error."""
        facts = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        line = f"POST {self._url.raw_path.decode()}"
        self._writer.write(_head(line, {**self._headers, **facts}) + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        if "transfer-encoding: chunked" in head:
            answer = await self._reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            size = next(line for line in head.splitlines() if line.startswith("content-length:"))
            answer = await self._reader.readexactly(int(size.partition(":")[2]))
        if not head.startswith("http/1.1 2"):
            raise RuntimeError(f"{head}{answer!r}")
