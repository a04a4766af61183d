"""A confined kernel's one way out: a unix socket that leads to the backend and nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

MAX_CONNECTIONS: Final = 32
_CHUNK: Final = 1 << 16


class Relay:
    """Passes bytes between connections to a unix socket and the backend.

    Who may do what there is for the backend to say, by the token of each request.

    Parameters
    ----------
    path
        Of the socket.
    base_url
        The backend's address; one with https is spoken to encrypted, and must prove its name.
    """

    def __init__(self, path: Path, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._path = path
        # What passes holds the kernel's token: never plain where it was meant to be encrypted.
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._tls else 80)
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_unix_server(self._accepted, self._path)
        self._path.chmod(0o600)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            back, far = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
            await asyncio.gather(_pump(reader, far), _pump(back, writer))
        except OSError:
            pass  # one end broke off; the other one sees the same
        finally:
            self._open.discard(task)
            for one in (writer, far):
                if one is not None:
                    one.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()
    with suppress(OSError, RuntimeError):
        if target.can_write_eof():
            target.write_eof()
        else:
            target.close()  # TLS knows no half of an end
