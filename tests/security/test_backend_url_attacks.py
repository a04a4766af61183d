"""A backend on another machine that answers with the way to somewhere else."""

from __future__ import annotations

import pytest
from aiohttp import web

from rootbound_server_ext.host.connection import BackendConnection, WebSocketRefused

pytestmark = pytest.mark.asyncio


async def served(asked: list[str], location: str = "") -> tuple[web.AppRunner, str]:
    """Serve on loopback; every answer leads to another address, if there is one."""

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.path} {request.headers.get('Authorization')}")
        headers = {"Location": location + request.path} if location else {}
        return web.Response(status=302 if location else 200, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_nothing_follows_where_a_backend_points() -> None:
    inner: list[str] = []
    outer: list[str] = []
    target, url = await served(inner)
    backend, address = await served(outer, url)
    connection = BackendConnection(address, "the-users-token")
    try:
        headers = list(connection.proof.items())
        answer = await connection.request("GET", "/api/me/", headers, None)
        assert answer.status == 302
        answer.close()
        with pytest.raises(WebSocketRefused) as refused:
            await connection.websocket(
                "/ws/live/", headers, protocols=(), max_message_bytes=1 << 20
            )
        assert refused.value.status == 302
        known, sentence = await connection.greet()
        assert not known and "status 302" in sentence
        assert outer == [f"{path} Bearer the-users-token" for path in
                         ("/api/me/", "/ws/live/", "/api/me/")]  # fmt: skip
        assert inner == []
    finally:
        await connection.close()
        await backend.cleanup()
        await target.cleanup()
