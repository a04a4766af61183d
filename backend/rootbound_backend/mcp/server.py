"""``/mcp``: streamable HTTP, without sessions; every request carries its bearer token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx

from rootbound_backend.authentication import IDENTITY_HEADER
from rootbound_backend.mcp.tools import READ, WRITE, granted
from rootbound_backend.problems import CONTENT_TYPE, Problem, problem_document
from rootbound_backend.tokens import (
    TokenRefusedError,
    issue_api_token,
    verify_identity,
    verify_mcp_token,
)

__all__ = ["PATH", "McpEndpoint"]

PATH = "/mcp"
TOKEN_TTL_S = 60
TIMEOUT_S = 120.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]

_INSTRUCTIONS = (
    "Rootbound runs AI coding agents on this machine, confined and audited. Create a task, start "
    "an attempt on it, then read its events until its status is REVIEW or FAILED. A person "
    "decides whether the result is merged."
)


class McpEndpoint:
    """Serves MCP; each tool is one request to the REST API, in the caller's name.

    Parameters
    ----------
    api
        The REST API as an ASGI application: it authorises, this does not.
    """

    def __init__(self, api: App) -> None:
        self._transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
        self._manager: Any = None
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it for want of a token."""
        try:
            username, scopes = _caller(scope)
        except TokenRefusedError as error:
            await _refuse(send, 401, "not-authenticated", str(error))
            return
        except Problem as problem:
            await _refuse(send, problem.status, problem.code, problem.detail)
            return
        scope["rootbound"] = (username, scopes)
        manager = await self._started()
        await manager.handle_request(scope, receive, send)

    async def _started(self) -> Any:
        """Return the library's session manager, made with the first request: it is slow to load."""
        if self._manager is None:
            from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

            manager = StreamableHTTPSessionManager(
                self._server(), json_response=True, stateless=True
            )
            ready = asyncio.Event()
            # Daphne has no lifespan; the manager's task group lives as long as the process.
            self._running = asyncio.create_task(_run(manager, ready))
            self._manager = (manager, ready)
        manager, ready = self._manager
        await ready.wait()
        return manager

    def _server(self) -> Any:
        from mcp import types
        from mcp.server.lowlevel import Server

        server: Any = Server("rootbound", version="1", instructions=_INSTRUCTIONS)

        def caller() -> tuple[str, frozenset[str]]:
            found: tuple[str, frozenset[str]] = server.request_context.request.scope["rootbound"]
            return found

        async def list_tools() -> list[Any]:
            tools = granted(caller()[1]).values()
            return [
                types.Tool(name=tool.name, description=tool.description, inputSchema=tool.schema)
                for tool in tools
            ]

        async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
            username, scopes = caller()
            tool = granted(scopes).get(name)
            if tool is None:
                raise ValueError(
                    f"This token may not use {name}; make one with `rootbound token --scope`."
                )
            target, body = tool.request(arguments)
            return await self._call(username, tool.method, target, body)

        server.list_tools()(list_tools)
        server.call_tool()(call_tool)
        return server

    async def _call(
        self, username: str, method: str, target: str, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        token = await asyncio.to_thread(issue_api_token, username=username, ttl_s=TOKEN_TTL_S)
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://rootbound", timeout=TIMEOUT_S
        ) as client:
            answer = await client.request(
                method, target, json=body, headers={"Authorization": f"Bearer {token}"}
            )
        document: Any = answer.json() if answer.content else {}
        if not answer.is_success:
            # The library turns it into a result with isError, which a model can read.
            raise ValueError(str(document.get("detail") or f"HTTP {answer.status_code}"))
        result: dict[str, Any] = document
        return result


async def _run(manager: Any, ready: asyncio.Event) -> None:
    async with manager.run():
        ready.set()
        await asyncio.Event().wait()


def _caller(scope: Scope) -> tuple[str, frozenset[str]]:
    """Return who asks, and what for: by a token of ours, or by Jupyter's word."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}
    identity = headers.get(IDENTITY_HEADER.lower().encode())
    if identity is None:
        return verify_mcp_token(_bearer(headers.get(b"authorization", "")))
    username, _ = verify_identity(identity, method=scope["method"], path=scope["path"])
    # Whoever may use the Jupyter server; merging stays with a person or a token that says so.
    return username, frozenset({READ, WRITE})


def _bearer(authorization: str) -> str:
    kind, _, token = authorization.partition(" ")
    if kind.lower() == "bearer" and token:
        return token
    raise TokenRefusedError(
        "MCP needs a bearer token: run `rootbound token --scope mcp:read,mcp:write`."
    )


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    title = code.replace("-", " ").capitalize()
    body = json.dumps(problem_document(status=status, code=code, title=title, detail=detail))
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="rootbound"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
