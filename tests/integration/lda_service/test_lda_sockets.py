"""The LDA's door, knocked at over real sockets."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rootbound_lda.door import MAX_BODY_BYTES
from rootbound_lda.guard import MAX_CONNECTIONS
from rootbound_server_ext.stack import secrets
from tests.integration.lda.lda_support import Lda, run_payload, wait_for


def _address(lda: Lda) -> tuple[str, int]:
    parts = urlsplit(lda.facts["url"])
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _connect(lda: Lda) -> socket.socket:
    return socket.create_connection(_address(lda), timeout=30)


def _answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read one answer to its end."""
    data = b""
    while part := connection.recv(65536):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body or b"{}")


def _raw(lda: Lda, head: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    with _connect(lda) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n" + body)
        return _answer(connection)


def _forged(lda: Lda, header: dict[str, Any], claims: dict[str, Any], sign: Any) -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(sign(text)).rstrip(b"=")).decode()


def _listening(pid: int) -> set[str]:
    """Return the local addresses (hexadecimal, without port) that a process listens on."""
    own = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            own.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        for words in map(str.split, lines):
            if words[3] == "0A" and words[9] in own:
                found.add(words[1].partition(":")[0])
    return found


def test_it_listens_on_loopback_alone(service: Lda) -> None:
    assert service.process is not None
    assert _listening(service.process.pid) == {"0100007F"}


def test_forged_tokens_open_nothing(service: Lda) -> None:
    good = jwt.decode(service.token("GET", "/health", b""), options={"verify_signature": False})
    pem = (service.home / "secrets" / "lda_verify.pem").read_bytes()
    stranger = Ed25519PrivateKey.generate()

    def hs256(text: bytes) -> bytes:
        import hmac

        return hmac.digest(pem, text, "sha256")

    now = int(time.time())
    old = {"iat": now - 200, "exp": now - 150}
    forged = {
        "alg none": _forged(service, {"alg": "none"}, good, lambda _: b""),
        "public key as secret": _forged(service, {"alg": "HS256"}, good, hs256),
        "another key": _forged(service, {"alg": "EdDSA"}, good, stranger.sign),
        "another boot": service.token("GET", "/health", b"", aud=f"{service.facts['id']}:other"),
        "expired": service.token("GET", "/health", b"", **old),
        "an hour": service.token("GET", "/health", b"", exp=now + 3600),
        "another path": service.token("GET", "/runs", b""),
        "another method": service.token("POST", "/health", b""),
        "another body": service.token("GET", "/health", b"x"),
    }
    url = service.facts["url"] + "/health"
    with httpx.Client(verify=False, trust_env=False, timeout=30) as client:
        for name, token in forged.items():
            answer = client.get(url, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401, name
            assert answer.headers["content-type"] == "application/problem+json"
        used = {"Authorization": f"Bearer {service.token('GET', '/health', b'')}"}
        assert client.get(url, headers=used).status_code == 200
        replayed = client.get(url, headers=used)
    assert (replayed.status_code, replayed.json()["code"]) == (401, "token-replayed")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Host: evil.example", 421),
        ("Host: evil.example:{port}", 421),
        ("Host: 127.0.0.1:1", 421),
        ("Host: 127.0.0.1:{port}\nHost: evil.example", 400),
        ("Host: 127.0.0.1:{port}\nOrigin: http://127.0.0.1:{port}", 403),
        ("Host: 127.0.0.1:{port}\nOrigin: null", 403),
        ("Host: 127.0.0.1:{port}\nSec-Fetch-Site: cross-site", 403),
        ("Host: 127.0.0.1:{port}\nCookie: a=b", 403),
        ("Host: 127.0.0.1:{port}\nContent-Type: text/plain", 415),
    ],
)
def test_what_a_web_page_sends_is_refused(service: Lda, line: str, status: int) -> None:
    token = service.token("GET", "/health", b"")
    lines = line.format(port=_address(service)[1])
    head = f"GET /health HTTP/1.1\n{lines}\nAuthorization: Bearer {token}\n"
    assert _raw(service, head)[0] == status


def test_without_a_token_no_body_is_waited_for(service: Lda) -> None:
    """The head alone, of a request whose body never comes, is answered."""
    host = f"Host: 127.0.0.1:{_address(service)[1]}"
    for length in (100, MAX_BODY_BYTES):
        head = f"POST /run HTTP/1.1\n{host}\nContent-Type: application/json\n"
        status, problem = _raw(service, f"{head}Content-Length: {length}\n")
        assert (status, problem["code"]) == (401, "token-missing")
    status, problem = _raw(service, f"{head}Content-Length: {MAX_BODY_BYTES + 1}\n")
    assert (status, problem["code"]) == (413, "body-too-large")


def test_a_body_without_length_is_cut_off(service: Lda) -> None:
    size = MAX_BODY_BYTES + 100_000
    token = service.token("POST", "/run", b" " * size)
    head = (
        f"POST /run HTTP/1.1\nHost: 127.0.0.1:{_address(service)[1]}\nTransfer-Encoding: chunked\n"
        f"Content-Type: application/json\nAuthorization: Bearer {token}\n"
    )
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with _connect(service) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n")
        try:
            for _ in range(size // 65536 + 20):
                connection.sendall(chunk)
        except OSError:
            pass  # it may hang up before all is sent
        try:
            status, problem = _answer(connection)
        except ConnectionResetError:
            return
    assert (status, problem["code"]) == (413, "body-too-large")


def test_nonsense_is_refused_and_not_logged(service: Lda) -> None:
    log = service.home / "lda.log"
    before = log.stat().st_size
    for _ in range(50):
        with _connect(service) as connection:
            connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            assert _answer(connection)[0] == 400
    assert log.stat().st_size == before


def test_idle_and_slow_connections_give_way(service: Lda) -> None:
    slow: list[socket.socket] = []
    try:
        for number in range(MAX_CONNECTIONS + 50):
            connection = _connect(service)
            slow.append(connection)
            if number % 2:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0")
            if number % 50 == 0:
                assert service.call("GET", "/health").status_code == 200
        assert service.call("GET", "/health").json()["status"] == "ok"
        # The first ones had to make room.
        slow[0].settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert slow[0].recv(1) == b""
    finally:
        for connection in slow:
            connection.close()


def test_a_flood_of_good_requests_is_answered(service: Lda) -> None:
    url = service.facts["url"] + "/health"
    limits = httpx.Limits(max_connections=40, max_keepalive_connections=0)
    with (
        httpx.Client(limits=limits, timeout=60, verify=False, trust_env=False) as client,
        concurrent.futures.ThreadPoolExecutor(40) as pool,
    ):

        def ask(_: int) -> int:
            token = service.token("GET", "/health", b"")
            return client.get(url, headers={"Authorization": f"Bearer {token}"}).status_code

        answers = list(pool.map(ask, range(120)))
    assert set(answers) <= {200, 503}
    assert answers.count(200) > 60
    assert service.call("GET", "/health").status_code == 200


@pytest.fixture
def verify_pem(service: Lda) -> Iterator[Path]:
    path, key = service.home / "secrets" / "lda_verify.pem", service.key
    text = path.read_bytes()
    yield path
    service.key = key
    path.write_bytes(text)


def test_the_key_can_be_changed_without_a_restart(service: Lda, verify_pem: Path) -> None:
    old, new = service.key, Ed25519PrivateKey.generate()
    under_way = service.token("GET", "/health", b"")
    service.key = new
    assert service.call("GET", "/health").status_code == 401
    fresh = verify_pem.with_suffix(".new")
    fresh.write_bytes(
        new.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    fresh.replace(verify_pem)
    assert service.call("GET", "/health").status_code == 200
    url = service.facts["url"] + "/health"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {under_way}"})
    assert answer.status_code == 200
    service.key = old
    assert service.call("GET", "/health").status_code == 200
    service.key = Ed25519PrivateKey.generate()
    assert service.call("GET", "/health").status_code == 401


def test_the_command_that_changes_the_key(service: Lda, verify_pem: Path) -> None:
    folder = secrets.ensure_secrets(service.home)
    before = (folder / "lda_signing.pem").read_bytes()
    assert service.call("GET", "/health").status_code == 200
    secrets.rotate_lda_key(service.home)
    text = (folder / "lda_signing.pem").read_bytes()
    assert text != before
    assert (folder / "lda_signing.pem").stat().st_mode & 0o777 == 0o600
    for pem in (text, before):
        key = serialization.load_pem_private_key(pem, password=None)
        assert isinstance(key, Ed25519PrivateKey)
        service.key = key
        assert service.call("GET", "/health").status_code == 200


def test_health_names_the_roots_of_live_runs(
    service: Lda, repo: Path, receiver: Any, stub: Any
) -> None:
    assert service.call("GET", "/health").json()["roots"] == []
    commands = {"install_cmd": "sleep 60", "lint_cmd": None, "test_cmd": "true"}
    payload = run_payload(repo, receiver, stub([]), commands=commands)
    assert service.call("POST", "/run", payload).status_code == 202
    health = service.call("GET", "/health").json()
    assert (health["roots"], health["live_runs"]) == ([str(repo.parent)], 1)
    attempt = payload["attempt_id"]
    wait_for(lambda: receiver.payloads(attempt, "gate_started"), "the install command")
    assert receiver.events[attempt][0]["payload"]["tier"] == health["sandbox"]["tier"]
    service.call("POST", f"/runs/{attempt}/cancel")
    wait_for(lambda: service.call("GET", "/health").json()["roots"] == [], "the end of the run")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("none", "root-missing"), ("file", "root-not-directory"), ("repo/.git", "root-protected"),
        ("repo/.git/hooks", "root-protected"), ("bare.git", "root-protected"),
        ("../state", "root-protected"), ("../user", "root-is-home"),
        ("../user/.ssh", "root-protected"), ("..", "root-protected"),
    ],
)  # fmt: skip
def test_a_refused_root_says_why(service: Lda, tmp_path: Path, name: str, code: str) -> None:
    base = service.home.parent / "granted"
    for folder in ("repo/.git/hooks", "bare.git/objects", "bare.git/refs", "../user/.ssh"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / "bare.git/HEAD").write_text("ref: refs/heads/main\n")
    (base / "file").touch()
    answer = service.call("POST", "/roots/validate", {"path": f"{base}/{name}"})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["detail"].endswith(".")


def test_a_granted_root_is_named_canonically(service: Lda, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    answer = service.call("POST", "/roots/validate", {"path": f"{tmp_path}/link/../link/"})
    assert answer.json()["canonical_path"] == str((tmp_path / "real").resolve())


def test_a_root_that_was_replaced_is_refused_until_it_is_granted_again(
    service: Lda, repo: Path, receiver: Any, stub: Any
) -> None:
    root = repo.parent
    granted = service.call("POST", "/roots/validate", {"path": str(root)})
    assert granted.status_code == 200
    root.rename(root.with_name("was"))
    root.mkdir()
    (root.with_name("was") / "project").rename(repo)

    def outcome() -> dict[str, Any]:
        commands = {"install_cmd": "false", "lint_cmd": None, "test_cmd": None}
        payload = run_payload(repo, receiver, stub([]), commands=commands)
        assert service.call("POST", "/run", payload).status_code == 202
        found: dict[str, Any] = wait_for(
            lambda: receiver.status(payload["attempt_id"]), "the end of the run"
        )
        return found

    refused = outcome()
    assert refused["failure"] == "REPO_INVALID"
    assert "is not the folder that was granted any more" in refused["message"]
    service.call("POST", "/roots/validate", {"path": str(root)})
    assert outcome()["failure"] == "GATE_INSTALL"


def test_the_digest_is_of_the_body(service: Lda) -> None:
    body = b'{"path": "/tmp"}'
    token = service.token("POST", "/roots/validate", body)
    assert hashlib.sha256(body).hexdigest() in json.dumps(
        jwt.decode(token, options={"verify_signature": False})
    )
    answer = httpx.post(
        service.facts["url"] + "/roots/validate",
        content=body.replace(b"/tmp", b"/etc"),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "token-binding")
