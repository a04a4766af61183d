"""A small real ASGI backend that behaves, and misbehaves, on request.

Run as ``python echo_backend.py SOCKET``. What it saw is told by ``GET /api/seen``.
"""

import asyncio
import hashlib
import json
import os
import sys
import urllib.parse

import uvicorn

SEEN = {}
GATES = {}
CHUNK = b"x" * 65536


def gate(name):
    return GATES.setdefault(name, asyncio.Event())


async def reply(send, status=200, body=b"", headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def reply_json(send, value, status=200):
    body = json.dumps(value).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await reply(send, status, body, head)


async def body_of(receive):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("client disconnected")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def start(send, headers=()):
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def chunk(send, data, more=True):
    await send({"type": "http.response.body", "body": data, "more_body": more})


def describe(scope):
    return {
        "method": scope.get("method"),
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[k.decode(), v.decode("latin1")] for k, v in scope["headers"]],
        "subprotocols": scope.get("subprotocols"),
        "pid": os.getpid(),
    }


async def until_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def http(scope, receive, send):
    name = scope["path"].removeprefix("/api/").strip("/").split("/")[0]
    query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
    size = int(query.get("bytes", 0))
    if name != "seen":
        SEEN["last"] = scope["path"]
    if name == "seen":
        await reply_json(send, SEEN)
    elif name == "open":
        gate(query["gate"]).set()
        await reply_json(send, {})
    elif name == "digest":
        digest, total, count = hashlib.sha256(), 0, 0
        async for data in body_of(receive):
            digest.update(data)
            total += len(data)
            count += 1
            SEEN["digest_bytes"] = total
        await reply_json(send, {"sha256": digest.hexdigest(), "bytes": total, "chunks": count})
    elif name == "echo":
        await start(send, [(b"content-type", b"application/octet-stream")])
        async for data in body_of(receive):
            await chunk(send, data)
        await chunk(send, b"", more=False)
    elif name == "slow-upload":
        SEEN["slow"] = 0
        await gate("slow").wait()
        async for data in body_of(receive):
            SEEN["slow"] += len(data)
        await reply_json(send, {"bytes": SEEN["slow"]})
    elif name == "refuse-upload":
        await reply_json(send, {"code": "too-large"}, status=413)
    elif name == "lost-upload":
        SEEN["lost"] = "receiving"
        try:
            async for _ in body_of(receive):
                pass
        except ConnectionError:
            SEEN["lost"] = "disconnected"
            raise
    elif name == "download":
        headers = [(b"content-length", str(size).encode())] if "length" in query else []
        await start(send, [(b"content-type", b"text/plain"), *headers])
        SEEN["sent"] = 0
        left = size
        while left > 0:
            data = CHUNK[:left]
            await chunk(send, data)
            left -= len(data)
            SEEN["sent"] += len(data)
        await chunk(send, b"", more=False)
    elif name == "events":
        await start(send, [(b"content-type", b"text/event-stream")])
        await gate("headers").wait()
        await chunk(send, b"data: one\n\n")
        await gate("second").wait()
        await chunk(send, b"data: two\n\n", more=False)
    elif name == "hang":
        SEEN["hang"] = "waiting"
        await until_disconnect(receive)
        SEEN["hang"] = "disconnected"
    elif name == "trickle":
        await start(send)
        await chunk(send, b"first")
        SEEN["trickle"] = "started"
        await until_disconnect(receive)
        SEEN["trickle"] = "disconnected"
    elif name == "truncated":
        headers = [(b"content-length", b"1000000")] if "length" in query else []
        await start(send, headers)
        await chunk(send, b"part")
        await gate("truncate").wait()
        os._exit(3)
    elif name == "status":
        status = int(scope["path"].strip("/").split("/")[-1])
        await reply(send, status, b"" if status in (204, 304) else b"body")
    elif name == "etag":
        headers = {k.lower(): v for k, v in scope["headers"]}
        tag = (b"etag", b'"abc"')
        if headers.get(b"if-none-match") == b'"abc"':
            await reply(send, 304, b"", [tag])
        else:
            await reply(
                send,
                200,
                b"e" * 5000,
                [tag, (b"content-type", b"application/json"), (b"content-length", b"5000")],
            )
    elif name == "odd-headers":
        await reply(
            send,
            200,
            b"<script>1</script>",
            [
                (b"set-cookie", b"sessionid=1; Path=/"),
                (b"set-cookie", b"csrftoken=2; Path=/"),
                (b"clear-site-data", b'"cookies"'),
                (b"access-control-allow-origin", b"*"),
                (b"content-security-policy", b"default-src *"),
                (b"connection", b"x-hop"),
                (b"x-hop", b"1"),
                (b"link", b"</a>; rel=a"),
                (b"link", b"</b>; rel=b"),
                (b"content-type", b"text/html"),
                (b"x-kept", "yés".encode()),
            ],
        )
    elif name == "redirect":
        await reply(send, 301, b"", [(b"location", b"/api/target/?x=1")])
    elif name == "die":
        os._exit(4)
    else:
        await reply_json(send, describe(scope))


async def websocket(scope, receive, send):
    name = scope["path"].removeprefix("/ws/").strip("/")
    query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
    await receive()
    SEEN["ws"] = describe(scope)
    if name == "deny":
        await send({"type": "websocket.close", "code": 4403})
        return
    if name == "deny404":
        await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})
        return
    if name == "handshake":
        SEEN["handshake"] = "waiting"
        message = await receive()
        SEEN["handshake"] = message["type"]
        return
    await send(
        {"type": "websocket.accept", "subprotocol": "v2" if "v2" in scope["subprotocols"] else None}
    )
    if name == "close":
        await send(
            {"type": "websocket.close", "code": int(query["code"]), "reason": query.get("reason")}
        )
    elif name == "crash":
        raise RuntimeError("crash on request")
    elif name == "die":
        await receive()
        os._exit(5)
    elif name == "flood":
        SEEN["frames"] = 0
        try:
            while SEEN["frames"] < int(query["frames"]):
                await send({"type": "websocket.send", "bytes": CHUNK})
                SEEN["frames"] += 1
                await asyncio.sleep(0)
        except Exception as exc:
            SEEN["flood_end"] = type(exc).__name__
            raise
        await send({"type": "websocket.close", "code": 1000})
    elif name == "big":
        await send({"type": "websocket.send", "text": "y" * int(query["bytes"])})
        await receive()
    elif name == "sink":
        SEEN["sink"] = 0
        await gate("sink").wait()
        while (message := await receive())["type"] == "websocket.receive":
            SEEN["sink"] += 1
    else:
        while (message := await receive())["type"] == "websocket.receive":
            await send(
                {
                    "type": "websocket.send",
                    "bytes": message.get("bytes"),
                    "text": message.get("text"),
                }
            )
        SEEN["closed"] = [message.get("code"), message.get("reason")]


async def app(scope, receive, send):
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)


if __name__ == "__main__":
    uvicorn.run(
        app,
        uds=sys.argv[1],
        lifespan="off",
        log_level="warning",
        ws="websockets-sansio" if "sansio" in sys.argv else "auto",
    )
