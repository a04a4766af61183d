"""A real LDA on loopback, a receiver in the backend's place, a real repository."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rootbound.testing.model_stub import ModelStub

DEADLINE_S = 40.0


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come in {deadline_s} s")


def git(folder: Path, *argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass
class Receiver:
    """Takes reports as the backend does: watermarks, gaps, fences; and can be told to fail."""

    url: str = ""
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    audit: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused_plans: list[dict[str, Any]] = field(default_factory=list)
    order: list[tuple[str, str, int]] = field(default_factory=list)
    heartbeats: int = 0
    down: bool = False
    refusing: bool = False
    fenced: set[str] = field(default_factory=set)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/attempts/{id}/events/", self.take_events, methods=["POST"]),
                Route("/api/audit/ingest/", self.take_audit, methods=["POST"]),
                Route("/api/decompositions/{id}/plan/", self.take_plan, methods=["POST"]),
            ]
        )

    def _take(self, kept: list[dict[str, Any]], new: list[dict[str, Any]]) -> Response:
        fresh = [item for item in new if item["seq"] > len(kept)]
        if fresh and fresh[0]["seq"] != len(kept) + 1:
            body = {"code": "sequence-gap", "expected_seq": len(kept) + 1}
            return JSONResponse(body, 409, media_type="application/problem+json")
        kept += fresh
        return JSONResponse({"seq": len(kept)})

    async def take_events(self, request: Request) -> Response:
        attempt = request.path_params["id"]
        body = await request.json()
        if self.down:
            return Response(status_code=503)
        if attempt in self.fenced:
            return JSONResponse({"code": "fenced"}, 409)
        assert request.headers["authorization"] == f"Bearer ingest-{attempt}"
        if not body["events"]:
            self.heartbeats += 1
        self.order += [("event", attempt, event["seq"]) for event in body["events"]]
        return self._take(self.events.setdefault(attempt, []), body["events"])

    async def take_audit(self, request: Request) -> Response:
        body = await request.json()
        if self.down:
            return Response(status_code=503)
        run = body["run_id"]
        self.order += [("audit", run, entry["seq"]) for entry in body["entries"]]
        return self._take(self.audit.setdefault(run, []), body["entries"])

    async def take_plan(self, request: Request) -> Response:
        report = await request.json()
        if self.refusing and report["plan"] is not None:
            self.refused_plans.append(report)
            body = {"code": "invalid", "detail": "The report does not fit."}
            return JSONResponse(body, 400, media_type="application/problem+json")
        self.plans[request.path_params["id"]] = report
        return JSONResponse({"status": "ok"})

    def status(self, attempt: str) -> dict[str, Any] | None:
        """Return the payload of the terminal STATUS event."""
        for event in self.events.get(attempt, []):
            if event["type"] == "STATUS" and event["payload"]["status"] in ("REVIEW", "FAILED"):
                return event["payload"]
        return None

    def payloads(self, attempt: str, kind: str) -> list[dict[str, Any]]:
        return [
            event["payload"]
            for event in self.events.get(attempt, [])
            if event["payload"].get("kind") == kind
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    server = uvicorn.Server(
        uvicorn.Config(receiver.app(), host="127.0.0.1", port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, "the receiver")
    port = server.servers[0].sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{port}"
    yield receiver
    server.should_exit = True
    thread.join(timeout=10)


@dataclass
class Lda:
    """A process of the LDA and a client that signs as the backend does."""

    home: Path
    key: Ed25519PrivateKey
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        address = self.home / "run" / "lda.json"
        address.unlink(missing_ok=True)
        log = (self.home / "lda.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rootbound_lda"],
            env={**os.environ, **self.env},
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_for(lambda: address.exists() or self.process.poll() is not None, "lda.json")
        assert self.process.poll() is None, (self.home / "lda.log").read_text()
        self.facts = json.loads(address.read_text())

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def token(self, method: str, target: str, body: bytes, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": "rootbound-backend",
            "aud": f"{self.facts['id']}:{self.facts['boot_id']}",
            "iat": now,
            "exp": now + 60,
            "jti": uuid.uuid4().hex,
            "htm": method,
            "htu": target,
            "bsha": hashlib.sha256(body).hexdigest(),
            **changes,
        }
        return jwt.encode(claims, self.key, algorithm="EdDSA")

    def call(self, method: str, target: str, body: Any = None) -> httpx.Response:
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token(method, target, data)}"}
        if data:
            headers["Content-Type"] = "application/json"
        url = self.facts["url"] + target
        return httpx.request(method, url, content=data, headers=headers, timeout=30)


@pytest.fixture(scope="session")
def lda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lda]:
    tmp_path = tmp_path_factory.mktemp("lda")
    key = Ed25519PrivateKey.generate()
    home = tmp_path / "state"
    (home / "secrets").mkdir(parents=True, mode=0o700)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (home / "secrets" / "lda_verify.pem").write_bytes(public)
    user = tmp_path / "user"
    user.mkdir()
    env = {
        "ROOTBOUND_HOME": str(home),
        "ROOTBOUND_LDA_PORT": "18400",
        "HOME": str(user),
        "GLM_API_KEY": "secret-of-the-user",
    }
    lda = Lda(home, key, env)
    lda.start()
    yield lda
    if lda.process is not None and lda.process.poll() is None:
        lda.stop()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "granted" / "project"
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "Ada Owner")
    git(root, "config", "user.email", "ada@example.org")
    (root / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (root / "check.py").write_text(
        "from calc import add\n\nassert add(2, 3) == 5, add(2, 3)\nprint('all good')\n"
    )
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "A broken sum")
    return root


@pytest.fixture
def stub() -> Iterator[Callable[..., ModelStub]]:
    stubs: list[ModelStub] = []

    def start(script: Any, **options: Any) -> ModelStub:
        stubs.append(ModelStub(script, **options).start())
        return stubs[-1]

    yield start
    for model in stubs:
        model.stop()


def run_payload(repo: Path, receiver: Receiver, model: ModelStub, **changes: Any) -> dict[str, Any]:
    attempt = changes.pop("attempt_id", str(uuid.uuid4()))
    provider = changes.pop("provider", "GLM")
    gemini = provider == "GEMINI"  # all others speak the OpenAI wire
    return {
        "version": 1,
        "attempt_id": attempt,
        "project_id": str(uuid.uuid4()),
        "user_id": str(uuid.uuid4()),
        "repo_path": str(repo),
        "base_ref": "main",
        "writable_roots": [str(repo.parent)],
        "commands": {
            "install_cmd": "mkdir -p .venv && echo made > .venv/made",
            "lint_cmd": "python3 -m py_compile calc.py",
            "test_cmd": "python3 check.py",
        },
        "agent_config": {
            "provider": provider,
            "model": "gemini-2.5-flash" if gemini else "glm-7",
            "base_url": model.gemini_url() if gemini else model.glm_url(),
            "name": "Fixer",
            "role": "BACKEND",
            "settings": {"replay": True},
        },
        "task": {"id": str(uuid.uuid4()), "title": "Repair add", "description": "It subtracts."},
        "ingest": {"base_url": receiver.url, "token": f"ingest-{attempt}"},
        "lease_generation": 1,
        **changes,
    }
