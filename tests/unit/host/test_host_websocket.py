"""WebSockets through the host: handshake, messages, close codes, back-pressure."""

import asyncio
import logging

import pytest
from jupyter_server.auth import Authorizer
from tornado.httpclient import HTTPClientError

from rootbound_server_ext.host import websocket as module
from rootbound_server_ext.host.websocket import SocketHandler


@pytest.fixture
def connect(jp_ws_fetch):
    opened = []

    async def open_socket(name, **kwargs):
        socket = await jp_ws_fetch("rootbound", "ws", name, **kwargs)
        opened.append(socket)
        return socket

    yield open_socket
    for socket in opened:
        socket.close()


async def handshake_refused(connect, *args, **kwargs):
    with pytest.raises(HTTPClientError) as caught:
        await asyncio.wait_for(connect(*args, **kwargs), 10)
    return caught.value


async def test_text_and_binary(connect):
    socket = await connect("echo")
    for message, binary in [("häl\u2028lo", False), (b"\x00\xff", True), ("", False)]:
        await socket.write_message(message, binary=binary)
        assert await socket.read_message() == message
    big = "z" * 2_000_000
    await socket.write_message(big)
    assert await socket.read_message() == big


async def test_backend_chooses_the_sub_protocol(connect):
    assert (await connect("echo", subprotocols=["v9", "v2"])).selected_subprotocol == "v2"
    assert (await connect("echo", subprotocols=["v9"])).selected_subprotocol is None
    assert (await connect("echo")).selected_subprotocol is None


async def test_handshake_carries_identity_and_no_credentials(connect, seen, jp_auth_header):
    token = jp_auth_header["Authorization"].split()[1]
    await connect(
        "echo",
        params={"after": "7", "token": token},
        headers={"Cookie": "a=b", "X-Request-Id": "1"},
    )
    described = (await seen(lambda s: s["ws"]["query"] == "after=7"))["ws"]
    names = {key for key, _ in described["headers"]}
    assert "x-rootbound-identity" in names
    assert not names & {"authorization", "cookie", "origin", "referer"}
    assert token not in str(described)


@pytest.mark.parametrize(("name", "status"), [("deny", 403), ("deny404", 404)])
async def test_refusal_of_the_backend_is_answered(connect, name, status):
    assert (await handshake_refused(connect, name)).code == status


async def test_no_identity_is_403(connect):
    assert (await handshake_refused(connect, "echo", headers={"Authorization": ""})).code == 403


async def test_authorizer_is_asked_to_execute(jp_serverapp, connect):
    asked = []

    class Nobody(Authorizer):
        def is_authorized(self, handler, user, action, resource):
            asked.append((action, resource))
            return False

    jp_serverapp.web_app.settings["authorizer"] = Nobody(parent=jp_serverapp)
    assert (await handshake_refused(connect, "attempts/7")).code == 403
    assert asked == [("execute", "rootbound:attempts")]


async def test_foreign_origin_is_refused_for_cookies(
    jp_serverapp, http_server_client, jp_base_url, connect, jp_http_port
):
    token = jp_serverapp.identity_provider.token
    response = await http_server_client.fetch(
        f"{jp_base_url}api/me?token={token}", headers={"Host": f"localhost:{jp_http_port}"}
    )
    cookie = response.headers["Set-Cookie"].split(";")[0]
    headers = {"Authorization": "", "Cookie": cookie, "Origin": "http://evil.example"}
    assert (await handshake_refused(connect, "echo", headers=dict(headers))).code == 403
    headers["Origin"] = f"http://localhost:{jp_http_port}"
    await connect("echo", headers=dict(headers))
    jp_serverapp.web_app.settings["allow_origin"] = "http://friend.example"
    headers["Origin"] = "http://friend.example"
    await connect("echo", headers=dict(headers))


async def test_plain_request_to_a_websocket_address(refused):
    code, problem, headers = await refused("rootbound", "ws", "echo")
    assert (code, problem["code"]) == (426, "upgrade-required")
    assert headers["Upgrade"] == "websocket"


async def test_client_that_goes_during_the_handshake_ends_it(raw, seen, app):
    client = await raw(
        "GET",
        "rootbound/ws/handshake",
        [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ],
    )
    await seen(lambda s: s.get("handshake") == "waiting")
    client.writer.close()
    await seen(lambda s: s["handshake"] == "websocket.disconnect")


@pytest.mark.parametrize(("code", "reason"), [(4321, "because"), (1000, None), (4404, "x" * 123)])
async def test_close_of_the_backend_reaches_the_client(connect, code, reason):
    params = {"code": str(code), **({"reason": reason} if reason else {})}
    socket = await connect("close", params=params)
    assert await socket.read_message() is None
    assert (socket.close_code, socket.close_reason or None) == (code, reason)


async def test_close_of_the_client_reaches_the_backend(connect, seen):
    socket = await connect("echo")
    socket.close(4001, "done here")
    await seen(lambda s: s.get("closed") == [4001, "done here"])


async def test_client_that_vanishes_is_told_as_going_away(raw, seen, app):
    client = await raw(
        "GET",
        "rootbound/ws/echo",
        [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ],
    )
    assert "101" in await client.head()
    await seen(lambda s: len(app.host.live) >= 1)
    client.writer.transport.abort()
    await seen(lambda s: s.get("closed", [0])[0] == 1001)
    # What is left in the set is the request that asked.
    await until(lambda: not app.host.live)


async def until(condition, timeout=10.0):
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_crash_of_the_consumer_is_1011_or_told_to_come_back(connect):
    socket = await connect("crash")
    assert await socket.read_message() is None
    assert socket.close_code in {1011, 1012}


@pytest.fixture
def extension_config():
    return {"max_message_bytes": 3_000_000}


async def test_too_large_message_of_the_client_is_1009(connect):
    socket = await connect("echo")
    try:
        await socket.write_message("z" * 3_000_001)
    except Exception as exc:  # the server may be faster than our write
        assert "Closed" in type(exc).__name__
    assert await socket.read_message() is None
    assert socket.close_code in {1009, None}  # the reset may overtake the close frame


async def test_too_large_message_of_the_backend_is_1009(connect):
    socket = await connect("big", params={"bytes": "3000001"})
    assert await socket.read_message() is None
    assert socket.close_code == 1009


async def test_slow_client_slows_the_backend(raw, seen, jp_fetch):
    client = await raw(
        "GET",
        "rootbound/ws/flood?frames=5000",
        [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ],
    )
    await client.head()
    last, now = -1, 0
    while now != last:
        last = now
        await asyncio.sleep(0.3)
        now = (await seen(lambda s: True))["frames"]
    assert 0 < now < 1000


async def test_slow_backend_slows_the_client(connect, seen, open_gate):
    socket = await connect("sink")
    await seen(lambda s: "sink" in s)
    sent = 0

    async def flood():
        nonlocal sent
        for _ in range(2000):
            await socket.write_message(b"z" * 65536, binary=True)
            sent += 1

    task = asyncio.create_task(flood())
    last = -1
    while sent != last:
        last = sent
        await asyncio.sleep(0.3)
    assert 0 < sent < 1000
    await open_gate("sink")
    await task
    await seen(lambda s: s["sink"] == 2000)


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_flood_leaves_jupyter_responsive(connect, jp_fetch, direction):
    loop = asyncio.get_running_loop()
    if direction == "down":
        socket = await connect("flood", params={"frames": "1500"})

        async def read():
            while await socket.read_message() is not None:
                pass

        task = asyncio.create_task(read())
    else:
        socket = await connect("close", params={"code": "1000"})

        async def write():
            for _ in range(3000):  # to a backend that has gone
                await socket.write_message(b"z" * 1000, binary=True)

        task = asyncio.create_task(write())
    for _ in range(5):
        started = loop.time()
        await jp_fetch("api", "status")
        assert loop.time() - started < 2
    task.cancel()
    await asyncio.wait({task})


async def test_pings_are_counted_in_seconds(connect, jp_serverapp, monkeypatch, caplog):
    # Jupyter's WebSocketMixin puts milliseconds under the name that Tornado reads as seconds.
    assert SocketHandler.ping_interval.fget(None) == 30.0
    monkeypatch.setattr(module, "_PING_S", 0.1)
    pinged = asyncio.Event()
    socket = await connect("echo")
    original = socket.on_ping
    socket.on_ping = lambda data: (pinged.set(), original(data))
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(pinged.wait(), 5)
    assert "cannot be longer" not in caplog.text


async def test_stopping_jupyter_tells_the_client_to_come_back(connect, app):
    socket = await connect("echo")
    await until(lambda: app.host.live)
    started = asyncio.get_running_loop().time()
    reader = asyncio.ensure_future(socket.read_message())
    await app.stop_extension()
    assert asyncio.get_running_loop().time() - started < 3
    assert await reader is None
    assert socket.close_code == 1012
