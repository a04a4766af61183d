"""HTTP through the host: framing, headers, streaming, disconnects."""

import asyncio
import hashlib
import json

import jwt
import pytest
from tornado.httpclient import HTTPClientError
from tornado.web import GZipContentEncoding

KEY = "ab" * 32


async def inspect(jp_fetch, *parts, **kwargs):
    return json.loads((await jp_fetch("rootbound", "api", *parts, **kwargs)).body)


def header(described, name):
    return [value for key, value in described["headers"] if key.lower() == name.lower()]


async def test_path_and_query_reach_the_backend_as_sent(raw, jp_auth_header):
    token = jp_auth_header["Authorization"].split()[1]
    client = await raw(
        "GET",
        f"rootbound/api/x%2Fy/%C3%A9%20z/?a=1&token={token}&%74oken={token}&b=%26+c",
        ["Connection: close"],
    )
    await client.head()
    described = json.loads(await client.reader.read())
    assert described["raw_path"] == "/api/x%2Fy/%C3%A9%20z/"
    assert described["query"] == "a=1&b=%26+c"


async def test_nothing_of_jupyters_credentials_crosses(jp_fetch, app):
    token = app.serverapp.identity_provider.token
    described = await inspect(
        jp_fetch,
        "inspect",
        headers={
            "Cookie": "username-x=1; _xsrf=2",
            "X-XSRFToken": "2",
            "X-Rootbound-Identity": "forged",
            "X_Rootbound_Identity": "forged",
            "X-Forwarded-User": "root",
            "X-Auth-Token": "proxy",
            "Referer": f"http://localhost/lab?token={token}",
            "Origin": "http://localhost",
            "X-Request-Id": "r1",
        },
        params={"token": token},
    )
    names = {key for key, _ in described["headers"]}
    assert names == {
        "host", "accept-encoding", "user-agent", "x-request-id", "x-rootbound-identity",
    }  # fmt: skip
    text = json.dumps(described)
    assert "forged" not in text
    assert token not in text
    assert header(described, "host") == ["localhost"]


async def test_identity_is_signed_for_this_request_only(jp_fetch):
    import getpass

    described = await inspect(jp_fetch, "tasks", "a b", method="POST", body="{}", params={"q": "1"})
    (token,) = header(described, "x-rootbound-identity")
    claims = jwt.decode(
        token, KEY, algorithms=["HS256"], audience="rootbound-backend", issuer="rootbound-jupyter"
    )
    assert claims["sub"] == getpass.getuser()
    assert claims["method"] == "POST"
    assert claims["path"] == described["path"] == "/api/tasks/a b"
    assert 0 < claims["exp"] - claims["iat"] <= 60


async def test_user_is_the_same_for_every_cookieless_request(jp_fetch):
    # The stock provider invents a new anonymous user for each of them.
    subjects = set()
    for _ in range(3):
        (token,) = header(await inspect(jp_fetch, "inspect"), "x-rootbound-identity")
        subjects.add(jwt.decode(token, options={"verify_signature": False})["sub"])
    assert len(subjects) == 1


async def test_answer_headers_that_would_change_jupyters_origin_are_dropped(jp_fetch):
    response = await jp_fetch("rootbound", "api", "odd-headers")
    headers = response.headers
    cookies = " ".join(headers.get_list("Set-Cookie"))  # Jupyter sets its own here
    assert "sessionid" not in cookies
    assert "csrftoken" not in cookies
    assert "Clear-Site-Data" not in headers
    assert "X-Hop" not in headers
    assert headers.get("Access-Control-Allow-Origin") != "*"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_list("Link") == ["</a>; rel=a", "</b>; rel=b"]
    assert headers.get_list("Content-Type") == ["text/html"]
    assert headers["X-Kept"].encode("latin-1").decode() == "yés"
    assert len(headers.get_list("Date")) == 1


async def test_header_values_keep_their_bytes(raw):
    client = await raw("GET", "rootbound/api/x", ["User-Agent: rés", "Connection: close"])
    await client.head()
    (agent,) = header(json.loads(await client.reader.read()), "user-agent")
    assert agent.encode("latin-1").decode() == "rés"


async def test_redirects_stay_below_the_base_url(jp_fetch, jp_base_url):
    with pytest.raises(HTTPClientError) as caught:
        await jp_fetch("rootbound", "api", "redirect", follow_redirects=False)
    assert caught.value.code == 301
    location = caught.value.response.headers["Location"]
    assert location == f"{jp_base_url}rootbound/api/target/?x=1"


@pytest.mark.parametrize("status", [200, 201, 404, 409, 418, 500, 503])
async def test_status_and_body_pass(jp_fetch, status):
    response = await jp_fetch("rootbound", "api", "status", str(status), raise_error=False)
    assert response.code == status
    assert response.body == b"body"


async def test_204_has_no_body_and_no_length(raw):
    client = await raw("GET", "rootbound/api/status/204", ["Connection: close"])
    head = await client.head()
    assert head.startswith("HTTP/1.1 204 ")
    assert "content-length" not in head.lower()
    assert "transfer-encoding" not in head.lower()
    assert await client.reader.read() == b""


async def test_head_keeps_length_and_sends_no_body(raw):
    client = await raw("HEAD", "rootbound/api/etag", ["Connection: close"])
    head = await client.head()
    assert "Content-Length: 5000" in head.title()
    assert await client.reader.read() == b""


async def test_etag_and_length_survive_jupyters_compression(raw, jp_serverapp):
    jp_serverapp.web_app.add_transform(GZipContentEncoding)  # as tornado_settings may do
    headers = ["Accept-Encoding: gzip", "Connection: close"]
    client = await raw("GET", "rootbound/api/etag", headers)
    head = (await client.head()).lower()
    assert 'etag: "abc"' in head
    assert "content-length: 5000" in head
    assert "content-encoding" not in head
    assert await client.reader.read() == b"e" * 5000


async def test_not_modified(jp_fetch):
    response = await jp_fetch(
        "rootbound", "api", "etag", headers={"If-None-Match": '"abc"'}, raise_error=False
    )
    assert response.code == 304
    assert response.body == b""


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_large_upload_arrives_whole_and_in_pieces(jp_fetch, framing):
    data = b"0123456789abcdef" * (20 * 65536)
    if framing == "length":
        kwargs = {"body": data}
    else:

        async def produce(write):
            for start in range(0, len(data), 1 << 20):
                await write(data[start : start + (1 << 20)])

        kwargs = {"body_producer": produce}
    response = await jp_fetch("rootbound", "api", "digest", method="POST", **kwargs)
    told = json.loads(response.body)
    assert told["bytes"] == len(data)
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["chunks"] > 20


@pytest.mark.parametrize("framing", [{"length": "1"}, {}])
async def test_large_download_arrives_whole(jp_fetch, framing):
    size = 20 * (1 << 20) + 7
    response = await jp_fetch(
        "rootbound", "api", "download", params={"bytes": str(size), **framing}
    )
    assert len(response.body) == size


async def test_upload_is_passed_on_before_it_ends_and_answers_come_meanwhile(raw, seen):
    client = await raw(
        "POST", "rootbound/api/echo", ["Transfer-Encoding: chunked", "Connection: close"]
    )
    client.writer.write(b"3\r\none\r\n")
    await client.head()
    assert await client.reader.readexactly(8) == b"3\r\none\r\n"
    client.writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
    assert await client.reader.read() == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_slow_backend_slows_the_upload(raw, seen, open_gate):
    size = 64 << 20
    client = await raw("POST", "rootbound/api/slow-upload", [f"Content-Length: {size}"])
    client.writer.transport.set_write_buffer_limits(high=1 << 16)
    sent = 0

    async def upload():
        nonlocal sent
        while sent < size:
            client.writer.write(b"z" * 65536)
            await client.writer.drain()
            sent += 65536

    task = asyncio.create_task(upload())
    await seen(lambda s: "slow" in s)
    last = -1
    while sent != last:  # until nothing more goes out for a while
        last = sent
        await asyncio.sleep(0.3)
    assert sent < size / 2
    await open_gate("slow")
    await task
    assert "200 OK" in await client.head()
    assert (await seen(lambda s: s["slow"] == size))["slow"] == size


async def test_slow_client_slows_the_download(raw, seen):
    size = 256 << 20
    client = await raw("GET", f"rootbound/api/download?bytes={size}")
    await client.head()
    last, now = -1, 0
    while now != last:
        last = now
        await asyncio.sleep(0.3)
        now = (await seen(lambda s: True))["sent"]
    assert 0 < now < size / 4


async def test_event_stream_arrives_event_by_event(raw, open_gate):
    client = await raw("GET", "rootbound/api/events", ["Accept-Encoding: gzip"])
    head = await client.head()  # before the first event
    assert "text/event-stream" in head
    await open_gate("headers")
    assert b"data: one" in await client.reader.readuntil(b"one\n\n")
    await open_gate("second")
    assert b"data: two" in await client.reader.readuntil(b"two\n\n")


@pytest.mark.parametrize("what", ["hang", "trickle"])
async def test_client_that_goes_is_seen_by_the_backend(raw, seen, app, what):
    client = await raw("GET", f"rootbound/api/{what}")
    await seen(lambda s: what in s)
    client.writer.close()
    await seen(lambda s: s[what] == "disconnected")
    deadline = asyncio.get_running_loop().time() + 5
    while app.host.live and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    assert not app.host.live


async def test_client_that_goes_while_uploading_is_seen_by_the_backend(raw, seen):
    client = await raw("POST", "rootbound/api/lost-upload", ["Content-Length: 1000000"])
    client.writer.write(b"z" * 1000)
    await seen(lambda s: s.get("lost") == "receiving")
    client.writer.close()
    await seen(lambda s: s["lost"] == "disconnected")


async def test_early_refusal_of_an_upload_reaches_the_client(jp_fetch):
    response = await jp_fetch(
        "rootbound", "api", "refuse-upload", method="POST", body=b"z" * 300_000, raise_error=False
    )
    assert response.code == 413
    assert json.loads(response.body) == {"code": "too-large"}


async def test_flooding_a_request_nobody_reads_leaves_jupyter_responsive(raw, jp_fetch):
    client = await raw("POST", "rootbound/api/../x", [f"Content-Length: {500 << 20}"])

    async def flood():
        while True:
            client.writer.write(b"z" * 65536)
            await client.writer.drain()

    task = asyncio.create_task(flood())
    try:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await jp_fetch("api", "status")
        assert loop.time() - started < 2
    finally:
        task.cancel()
