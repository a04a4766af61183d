"""The stub model server: a real HTTP server that replays a script over both wires."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rootbound.testing import gemini_wire, openai_wire
from rootbound.testing.delivery import ConnectionProtocol, Delivery
from rootbound.testing.script import (
    Conversation,
    Fault,
    FaultKind,
    Script,
    ScriptError,
    Turn,
    Wire,
)
from rootbound.testing.wire import BadRequest, Reply

REPLAY_KEY = "replay"
"""What a client sends as the key of a replayed model; the only key value ever recorded."""

_LOG = logging.getLogger(__name__)
_SIGNING_KEY = b"rootbound model stub"
_START_DEADLINE = 15.0  # seconds
_GEMINI = re.compile(r"/v1(?:beta)?/models(?:/(?P<model>[^/:]+)(?::(?P<method>\w+))?)?$")
_OPENAI = re.compile(r"(?:/v\d+)?/(?P<what>chat/completions|models)$")


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as the stub saw it, without its key.

    Parameters
    ----------
    wire : {"openai", "gemini"}
        The protocol.
    path : str
        Path of the URL, without the query.
    route : str
        Path prefix before the protocol's own part, without slashes at the ends.
    key : {"replay", "hidden", ""}
        Whether the literal key of replays, some other key, or none was sent.
    headers : Mapping[str, str]
        Headers, names in lower case, without those that carry credentials.
    body : Any
        The decoded body.
    status : int
        Status the stub answered with; 0 when it reset the connection.
    fault : FaultKind or None
        Fault applied.
    turn : Turn or None
        Turn the script gave, also when a fault hid it.
    at : float
        Monotonic time of arrival in seconds.
    """

    wire: Wire
    path: str
    route: str
    key: str
    headers: Mapping[str, str]
    body: Any
    status: int
    fault: FaultKind | None
    turn: Turn | None
    at: float


class ModelStub:
    """A model server on the loopback interface, in a thread of its own.

    Use it as a context manager, or call `start` and `stop`.

    Parameters
    ----------
    script : Script
        What the model says.
    models : Sequence[str], default ("glm-7", "gemini-2.5-flash")
        Models it offers; a request for another one is answered with 404.
    port : int, default 0
        Port on 127.0.0.1; 0 asks the system for a free one.
    frame_delay : float, default 0
        Pause before each streamed frame, in seconds.
    """

    def __init__(
        self,
        script: Script,
        *,
        models: Sequence[str] = ("glm-7", "gemini-2.5-flash"),
        port: int = 0,
        frame_delay: float = 0.0,
    ) -> None:
        self._script = script
        self._models = tuple(models)
        self._port = port
        self._frame_delay = frame_delay
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self._asked: Counter[str] = Counter()
        self._serial = 0
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen and serve; returns when requests are accepted.

        Returns
        -------
        ModelStub
            This object.

        Raises
        ------
        OSError
            When the port is taken.
        RuntimeError
            When it runs already, or did not begin to serve within 15 seconds.
        """
        if self._thread is not None:
            raise RuntimeError("The model stub runs already.")
        # asyncio turns Nagle's algorithm off only where the protocol is named; with it, the second
        # answer on a connection comes 40 ms late.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
        except OSError:
            listener.close()
            raise
        self._socket = listener
        config = uvicorn.Config(
            Starlette(routes=[Route("/{path:path}", _Endpoint(self))]),
            http=ConnectionProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="model-stub", daemon=True
        )
        self._thread.start()
        if not self._server.ready.wait(_START_DEADLINE):
            self.stop()
            raise RuntimeError(f"The model stub did not start within {_START_DEADLINE:g} seconds.")
        return self

    def stop(self) -> None:
        """End open replies, close the port and wait for the thread; twice does no harm."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(5)
            if self._thread.is_alive():
                self._server.force_exit = True
                self._thread.join(5)
        if self._socket is not None:
            self._socket.close()
        self._server = self._thread = self._socket = None

    def __enter__(self) -> Self:
        """Start the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def url(self) -> str:
        """Address of the server, without a slash at the end.

        Raises
        ------
        RuntimeError
            When it does not run.
        """
        if self._socket is None:
            raise RuntimeError("The model stub does not run.")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def glm_url(self, route: str = "") -> str:
        """Return the `base_url` of the OpenAI-compatible wire for a route."""
        return "/".join(part for part in (self.url, route, "v1") if part)

    def gemini_url(self, route: str = "") -> str:
        """Return the `base_url` of the Gemini wire for a route."""
        return "/".join(part for part in (self.url, route) if part)

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The requests so far, oldest first."""
        with self._lock:
            return tuple(self._requests)

    async def answer(self, request: Request) -> ASGIApp:
        """Answer one HTTP request; used by the server's only endpoint.

        Parameters
        ----------
        request : Request
            The request.

        Returns
        -------
        ASGIApp
            What sends the reply.
        """
        path = request.url.path
        key = _key(request)
        is_gemini = "x-goog-api-key" in request.headers or "key" in request.query_params
        gemini = _GEMINI.search(path)
        if gemini and (gemini["method"] or is_gemini):
            return await self._gemini(request, gemini, key)
        openai = _OPENAI.search(path)
        if openai:
            return await self._openai(request, openai, key)
        return _plain(openai_wire.error(404, f"There is no {path} here."))

    async def _openai(self, request: Request, match: re.Match[str], key: str) -> ASGIApp:
        exchange = _Exchange("openai", request, _route(request.url.path, match), key)
        if not key:
            return self._refuse(exchange, 401, "Authentication parameter not received.")
        if match["what"] == "models":
            return _plain(openai_wire.models(self._models))
        if request.method != "POST":
            return self._refuse(exchange, 405, "Use POST.")
        try:
            exchange.body = json.loads(await request.body())
            conversation = openai_wire.parse(exchange.body, route=exchange.route)
            self._check_model(conversation.model)
            return await self._turn(exchange, conversation)
        except (BadRequest, ScriptError, ValueError) as error:
            return self._refuse(exchange, 400, str(error))
        except LookupError as error:
            return self._refuse(exchange, 404, str(error.args[0]))

    async def _gemini(self, request: Request, match: re.Match[str], key: str) -> ASGIApp:
        exchange = _Exchange("gemini", request, _route(request.url.path, match), key)
        if not key:
            return self._refuse(exchange, 403, "Method doesn't allow unregistered callers.")
        model, method = match["model"], match["method"]
        try:
            if model is None:
                return _plain(gemini_wire.models(self._models))
            self._check_model(model)
            if method is None:
                body = json.dumps(gemini_wire.describe_model(model)).encode()
                return _plain(Reply(200, "application/json; charset=UTF-8", (body,)))
            if method not in ("generateContent", "streamGenerateContent"):
                return self._refuse(exchange, 404, f"There is no method {method}.")
            stream = method == "streamGenerateContent"
            if stream and request.query_params.get("alt") != "sse":
                return self._refuse(exchange, 400, "This stub streams with alt=sse only.")
            exchange.body = json.loads(await request.body())
            conversation = gemini_wire.parse(
                exchange.body, route=exchange.route, model=model, stream=stream, key=_SIGNING_KEY
            )
            return await self._turn(exchange, conversation)
        except (BadRequest, ScriptError, ValueError) as error:
            return self._refuse(exchange, 400, str(error))
        except LookupError as error:
            return self._refuse(exchange, 404, str(error.args[0]))

    def _check_model(self, model: str) -> None:
        if model not in self._models:
            raise LookupError(f"The model {model!r} does not exist.")

    async def _turn(self, exchange: _Exchange, conversation: Conversation) -> ASGIApp:
        turn = self._script(conversation)
        if conversation.must_call and not turn.calls and turn.finish == "auto":
            raise ScriptError("The client allows tool calls only, and the turn has none.")
        fault, serial = self._next_fault(exchange, turn)
        exchange.turn, exchange.fault = turn, fault.kind if fault else None
        if fault and fault.kind is FaultKind.DELAY:
            await asyncio.sleep(fault.seconds)
        if fault and fault.kind is FaultKind.STATUS:
            return self._refuse(exchange, fault.status, "The stub was told to fail.", fault=fault)
        if exchange.wire == "openai":
            reply = openai_wire.render(conversation, turn, exchange.body, serial=serial)
            broken = openai_wire.error_frame("Internal network failure")
        else:
            reply = gemini_wire.render(
                conversation, turn, exchange.body, serial=serial, key=_SIGNING_KEY
            )
            broken = gemini_wire.error_frame("The model is overloaded.")
        reset = fault is not None and fault.kind is FaultKind.RESET
        self._record(exchange, 0 if reset else reply.status)
        return Delivery(reply, fault, error_frame=broken, frame_delay=self._frame_delay)

    def _next_fault(self, exchange: _Exchange, turn: Turn) -> tuple[Fault | None, int]:
        # A retry repeats the history, so the same history counts how often the turn was asked.
        history = [exchange.body.get(name) for name in ("messages", "contents")]
        text = json.dumps([exchange.wire, exchange.route, history], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with self._lock:
            self._serial += 1
            nth = self._asked[digest]
            self._asked[digest] += 1
            return (turn.faults[nth] if nth < len(turn.faults) else None), self._serial

    def _refuse(
        self, exchange: _Exchange, status: int, message: str, *, fault: Fault | None = None
    ) -> ASGIApp:
        render = openai_wire.error if exchange.wire == "openai" else gemini_wire.error
        code = fault.code if fault else ""
        reply = render(status, message, code=code, retry_after=fault.retry_after if fault else None)
        if fault is None:
            _LOG.warning("refused %s with %s: %s", exchange.path, status, message)
        self._record(exchange, status)
        return _plain(reply)

    def _record(self, exchange: _Exchange, status: int) -> None:
        with self._lock:
            self._requests.append(exchange.record(status))


class _Exchange:
    """One request while it is being answered."""

    def __init__(self, wire: Wire, request: Request, route: str, key: str) -> None:
        hidden = ("authorization", "x-goog-api-key", "cookie", "proxy-authorization")
        self.wire: Wire = wire
        self.path = request.url.path
        self.route = route
        self.key = key
        self.headers = {k.lower(): v for k, v in request.headers.items() if k not in hidden}
        self.body: Any = None
        self.turn: Turn | None = None
        self.fault: FaultKind | None = None
        self.at = time.monotonic()

    def record(self, status: int) -> RecordedRequest:
        return RecordedRequest(
            wire=self.wire,
            path=self.path,
            route=self.route,
            key=self.key,
            headers=self.headers,
            body=self.body,
            status=status,
            fault=self.fault,
            turn=self.turn,
            at=self.at,
        )


class _Server(uvicorn.Server):
    """uvicorn's server that says when it accepts requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class _Endpoint:
    """The ASGI application behind every path."""

    def __init__(self, stub: ModelStub) -> None:
        self._stub = stub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = await self._stub.answer(Request(scope, receive))
        await reply(scope, receive, send)


def _plain(reply: Reply) -> ASGIApp:
    return Delivery(reply, None, error_frame=b"", frame_delay=0.0)


def _route(path: str, match: re.Match[str]) -> str:
    return path[: match.start()].strip("/")


def _key(request: Request) -> str:
    bearer = request.headers.get("authorization", "")
    sent = (
        bearer.removeprefix("Bearer ")
        or request.headers.get("x-goog-api-key")
        or request.query_params.get("key", "")
    )
    if not sent:
        return ""
    return REPLAY_KEY if sent == REPLAY_KEY else "hidden"
