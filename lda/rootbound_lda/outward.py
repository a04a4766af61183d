"""An LDA that connects to its backend, for backends that cannot reach the user's machine.

One WebSocket is held open. Requests come down it and answers go up; each request carries the same
token as over HTTP and passes through the same door, so whoever holds the other end of the
connection, but not the backend's key, can do nothing. Nothing listens on this machine.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import random
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from .backends import Backends
from .config import Config, ConfigError, version

__all__ = ["MachineToken", "Outward"]

log = logging.getLogger(__name__)

PATH: Final = "/ws/machine/"
HOST: Final = "localhost:0"
"""``Host`` of the requests that come down the connection: there is no port that they came to."""

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
REMEMBERED_S: Final = 150.0
"""How long an answer is kept for a backend that asks again after it lost a connection."""

BACKOFF_START_S: Final = 0.25
BACKOFF_MAX_S: Final = 10.0
REFUSED_S: Final = 30.0
_BEAT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class MachineToken:
    """What a backend gave the user for this machine: a secret, and its public key.

    Attributes
    ----------
    text
        The whole token, which is presented to the backend.
    public_key
        The key that its requests must be signed with.
    """

    text: str
    public_key: Ed25519PublicKey

    @classmethod
    def parse(cls, text: str) -> MachineToken:
        """Read a token.

        Raises
        ------
        ConfigError
            When it is none.
        """
        kind, *parts = text.split(".")
        try:
            _machine, _secret, key = parts if kind == "rbm" else []
            raw = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
            return cls(text, Ed25519PublicKey.from_public_bytes(raw))
        except (ValueError, binascii.Error) as error:
            raise ConfigError(
                "The machine's token is damaged; make one with `rootbound machine token`."
            ) from error

    def pem(self) -> bytes:
        """Return the public key as a PEM file's content."""
        return self.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Outward:
    """Holds the connection and answers what comes down it.

    Parameters
    ----------
    config
        Identity of this LDA.
    backends
        Where to connect.
    token
        This machine's.
    door
        The application, with its checks.
    """

    def __init__(
        self, config: Config, backends: Backends, token: MachineToken, door: ASGIApp
    ) -> None:
        self._backends = backends
        self._headers = {
            "Authorization": f"Bearer {token.text}",
            "X-Rootbound-Lda": config.audience,
            "X-Rootbound-Version": version(),
        }
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=door, raise_app_exceptions=False),
            base_url=f"http://{HOST}",
            timeout=httpx.Timeout(None),  # each request has limits of its own
        )
        # By id, for a backend that lost the connection before it had the answer.
        self._answers: dict[str, tuple[float, asyncio.Task[str]]] = {}
        self._socket: ClientConnection | None = None

    async def run(self) -> None:
        """Connect, and again whenever the connection ends; until cancelled."""
        failures = 0
        while True:
            url, began = self._backends.url, time.monotonic()
            try:
                await self._serve(url)
                log.info("%s ended the connection", url)
            except InvalidStatus as error:
                log.error(_refusal(url, error.response.status_code))
                if error.response.status_code in (401, 403):
                    await asyncio.sleep(REFUSED_S)
            except (OSError, WebSocketException, TimeoutError) as error:
                if failures in (0, 10) or failures % 100 == 0:
                    log.warning("%s cannot be reached: %s", url, error)
            failures = 0 if time.monotonic() - began > REFUSED_S else failures + 1
            self._backends.failed(url)
            ceiling = min(BACKOFF_MAX_S, BACKOFF_START_S * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter

    async def _serve(self, url: str) -> None:
        scheme, rest = url.split("://", 1)
        secure = scheme == "https"
        async with connect(
            f"{'wss' if secure else 'ws'}://{rest}{PATH}",
            additional_headers=self._headers,
            # A proxy sees nothing of an encrypted connection; a plain one would show it the token.
            proxy=True if secure else None,
            ssl=ssl.create_default_context() if secure else None,
            max_size=MAX_REQUEST_BYTES,
            open_timeout=10,
            ping_interval=_BEAT_S,
            ping_timeout=2 * _BEAT_S,
        ) as socket:
            log.info("Connected to %s", url)
            self._socket = socket
            try:
                async for message in socket:
                    self._take(message)
            finally:
                self._socket = None

    def _take(self, message: str | bytes) -> None:
        """Begin to answer one request; what was asked before is answered as before."""
        frame: Any = json.loads(message)
        key, now = str(frame["id"]), time.monotonic()
        for old in [one for one, (until, _) in self._answers.items() if until < now]:
            if self._answers[old][1].done():
                del self._answers[old]
        if key not in self._answers:
            task = asyncio.create_task(self._answer(frame))
            self._answers[key] = (now + REMEMBERED_S, task)
        asyncio.create_task(self._send(self._answers[key][1])).add_done_callback(_heard)

    async def _answer(self, frame: dict[str, Any]) -> str:
        headers = {"Authorization": f"Bearer {frame['token']}", "Accept": "application/json"}
        content = str(frame.get("body") or "").encode()
        if content:
            headers["Content-Type"] = "application/json"
        response = await self._client.request(
            str(frame["method"]), str(frame["target"]), content=content, headers=headers
        )
        status, body = response.status_code, response.text
        if len(body) > MAX_ANSWER_BYTES:
            status = 413
            body = '{"code":"answer-too-large","detail":"The answer is larger than 32 MiB."}'
        return json.dumps({"id": frame["id"], "status": status, "body": body})

    async def _send(self, task: asyncio.Task[str]) -> None:
        text = await asyncio.shield(task)
        # By whichever connection there is by now; without one, the backend asks again.
        if self._socket is not None:
            await self._socket.send(text)


def _heard(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("An answer did not leave: %s", error)


def _refusal(url: str, status: int) -> str:
    if status in (401, 403):
        return (
            f"{url} does not let this machine in: its token was renewed, its machine removed, or "
            "another machine has it; make a new one with `rootbound machine token`."
        )
    return f"{url} answered {status} where a backend's connection was expected."
