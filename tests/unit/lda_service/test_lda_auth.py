"""Tokens and the door: what is let in, and everything that is not."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rootbound_lda import auth
from rootbound_lda.auth import AuthError, Verifier, VerifyKeys, parse_keys
from rootbound_lda.door import MAX_BODY_BYTES, Door

AUDIENCE = "lda:boot"


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def verifier_of(key: Ed25519PrivateKey) -> Verifier:
    keys = parse_keys(public(key))
    return Verifier(lambda: keys, AUDIENCE)


def token(key: Any, *, algorithm: str = "EdDSA", drop: str = "", **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "rootbound-backend",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 60,
        "jti": uuid.uuid4().hex,
        "htm": "POST",
        "htu": "/run?x=1",
        "bsha": hashlib.sha256(b"{}").hexdigest(),
        **changes,
    }
    claims.pop(drop, None)
    return "Bearer " + jwt.encode(claims, key, algorithm=algorithm)


def test_good_token_is_good_once(key: Ed25519PrivateKey) -> None:
    verifier = verifier_of(key)
    header = token(key)
    assert verifier.verify(header, "POST", "/run?x=1", b"{}")["aud"] == AUDIENCE
    with pytest.raises(AuthError) as refused:
        verifier.verify(header, "POST", "/run?x=1", b"{}")
    assert refused.value.code == "token-replayed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "lda:other"}, "token-audience"),
        ({"aud": [AUDIENCE, "other"]}, "token-audience"),
        ({"iss": "someone"}, "token-invalid"),
        ({"exp": int(time.time()) - 100, "iat": int(time.time()) - 120}, "token-expired"),
        ({"exp": int(time.time()) + 3600}, "token-lifetime"),
        ({"iat": int(time.time()) + 500, "exp": int(time.time()) + 520}, "token-invalid"),
        ({"htm": "GET"}, "token-binding"),
        ({"htu": "/run"}, "token-binding"),
        ({"bsha": hashlib.sha256(b"other").hexdigest()}, "token-binding"),
        ({"jti": ""}, "token-invalid"),
        *[({"drop": name}, "token-invalid") for name in ("jti", "exp", "iat", "htm", "bsha")],
    ],
)
def test_wrong_claims(key: Ed25519PrivateKey, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(AuthError) as refused:
        verifier_of(key).verify(token(key, **changes), "POST", "/run?x=1", b"{}")
    assert refused.value.code == code


@pytest.mark.parametrize("header", [None, "", "Basic eA==", "Bearer ", "Bearer a.b.c"])
def test_no_token(key: Ed25519PrivateKey, header: str | None) -> None:
    with pytest.raises(AuthError):
        verifier_of(key).verify(header, "POST", "/run?x=1", b"{}")


def test_other_key_and_other_algorithms(key: Ed25519PrivateKey) -> None:
    verifier = verifier_of(key)
    forged = [
        token(Ed25519PrivateKey.generate()),
        token(None, algorithm="none"),
        token("public-key-as-secret-of-enough-length", algorithm="HS256"),
    ]
    for header in forged:
        with pytest.raises(AuthError) as refused:
            verifier.verify(header, "POST", "/run?x=1", b"{}")
        assert refused.value.code == "token-invalid"


async def _echo(request: Request) -> JSONResponse:
    return JSONResponse({"size": len(await request.body())})


@pytest.fixture
def client(key: Ed25519PrivateKey) -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/run", _echo, methods=["POST"])])
    door = Door(app, verifier_of(key), frozenset({"127.0.0.1:8001"}))
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(door), base_url="http://127.0.0.1:8001", trust_env=False
    )


@pytest.mark.asyncio
async def test_door_lets_the_backend_in(client: httpx.AsyncClient, key: Any) -> None:
    headers = {"Authorization": token(key), "Content-Type": "application/json"}
    answer = await client.post("/run?x=1", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"size": 2})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.example:8001"}, 421, "host-foreign"),
        ({"Host": "127.0.0.1"}, 421, "host-foreign"),
        ({"Origin": "http://127.0.0.1:8001"}, 403, "origin-refused"),
        ({"Origin": "null"}, 403, "origin-refused"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "origin-refused"),
        ({"Sec-Fetch-Site": "same-origin"}, 403, "origin-refused"),
        ({"Sec-Fetch-Site": "none"}, 403, "origin-refused"),
        ({"Cookie": "a=b"}, 403, "cookie-refused"),
        ({"Content-Type": "text/plain"}, 415, "not-json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "not-json"),
        ({"Content-Length": str(MAX_BODY_BYTES + 1)}, 413, "body-too-large"),
        ({"Authorization": ""}, 401, "token-missing"),
    ],
)
async def test_door_refuses(
    client: httpx.AsyncClient, key: Any, headers: dict[str, str], status: int, code: str
) -> None:
    good = {"Authorization": token(key), "Content-Type": "application/json"}
    answer = await client.post("/run?x=1", content=b"{}", headers={**good, **headers})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code


@pytest.mark.asyncio
async def test_door_counts_bodies_without_length(client: httpx.AsyncClient, key: Any) -> None:
    async def endless() -> Any:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    headers = {"Authorization": token(key), "Content-Type": "application/json"}
    answer = await client.post("/run?x=1", content=endless(), headers=headers)
    assert answer.status_code == 413


def test_the_key_is_followed_and_the_old_one_fades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: clock[0])
    old, new, other = (Ed25519PrivateKey.generate() for _ in range(3))
    path = tmp_path / "verify.pem"
    path.write_bytes(public(old))
    keys = VerifyKeys(path)
    verifier = Verifier(keys, AUDIENCE)

    def accepted(key: Ed25519PrivateKey) -> bool:
        try:
            verifier.verify(token(key), "POST", "/run?x=1", b"{}")
        except AuthError as refused:
            assert refused.code == "token-invalid"
            return False
        return True

    assert (accepted(old), accepted(new)) == (True, False)
    path.with_suffix(".new").write_bytes(public(new))
    path.with_suffix(".new").replace(path)
    assert (accepted(old), accepted(new), accepted(other)) == (True, True, False)
    path.write_text("half a fi")
    assert (accepted(old), accepted(new)) == (True, True)
    path.unlink()
    assert accepted(new)
    clock[0] += auth.MAX_LIFETIME_S + auth.CLOCK_SKEW_S + 1
    assert (accepted(old), accepted(new)) == (False, True)


def test_only_ed25519_keys_count(tmp_path: Path) -> None:
    path = tmp_path / "verify.pem"
    path.write_bytes(public(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(ValueError, match="Ed25519"):
        VerifyKeys(path)
    path.write_text("")
    with pytest.raises(ValueError, match="no public key"):
        VerifyKeys(path)


def test_the_memory_of_used_tokens_is_bounded(
    key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_MAX_REMEMBERED", 3)
    verifier = verifier_of(key)
    for _ in range(3):
        verifier.verify(token(key), "POST", "/run?x=1", b"{}")
    with pytest.raises(AuthError) as refused:
        verifier.verify(token(key), "POST", "/run?x=1", b"{}")
    assert refused.value.code == "too-many-requests"
    now = time.time()
    monkeypatch.setattr(auth.time, "time", lambda: now + auth.MAX_LIFETIME_S + 10)
    fresh = token(key, iat=int(now) + 70, exp=int(now) + 120)
    monkeypatch.setattr(verifier, "_signed", lambda text: jwt.decode(
        text, options={"verify_signature": False}))  # fmt: skip
    verifier.verify(fresh, "POST", "/run?x=1", b"{}")
    assert len(verifier._used) == 1


@pytest.mark.asyncio
async def test_the_door_works_on_so_many_requests_at_a_time(key: Ed25519PrivateKey) -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def wait(_: Request) -> JSONResponse:
        begun.set()
        await done.wait()
        return JSONResponse({})

    app = Starlette(routes=[Route("/run", wait, methods=["POST"])])
    door = Door(app, verifier_of(key), frozenset({"127.0.0.1:8001"}), max_active=1)
    transport = httpx.ASGITransport(door)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as client:

        async def ask() -> httpx.Response:
            headers = {"Authorization": token(key), "Content-Type": "application/json"}
            return await client.post("/run?x=1", content=b"{}", headers=headers)

        first = asyncio.create_task(ask())
        await begun.wait()
        second = await ask()
        assert (second.status_code, second.json()["code"]) == (503, "busy")
        assert second.headers["retry-after"] == "1"
        done.set()
        assert (await first).status_code == 200
        assert (await ask()).status_code == 200
