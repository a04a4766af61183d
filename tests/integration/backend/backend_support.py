"""Helpers of the backend's tests: an LDA of the tests' own, clients, and made objects."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from django.conf import settings
from rest_framework.test import APIClient

from rootbound_backend.apps.agents.models import AgentProfile
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.services import create_attempt
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.apps.users.models import User
from rootbound_backend.tokens import issue_ingest_token

HEAD = "a" * 40
BASE = "b" * 40
COMMANDS = {"install_cmd": "true", "test_cmd": "pytest -q", "lint_cmd": "ruff check"}


class StubLda:
    """Speaks the LDA's API over HTTP and checks every request's JWT as the LDA does."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.id, self.boot_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.requests: list[tuple[str, str, Any]] = []
        self.refused: list[str] = []
        self.answers: list[tuple[str, str, int, Any]] = []
        self._jtis: set[str] = set()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, document = stub.handle(self.command, self.path, self.headers, body)
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _serve  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        # Looked every half second by default whether it shall end, which every test would wait for.
        serve = functools.partial(self.server.serve_forever, poll_interval=0.01)
        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()
        self.announce()

    @property
    def file(self) -> Path:
        return self.home / "run" / "lda.json"

    def announce(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        facts = {"id": self.id, "boot_id": self.boot_id, "url": self.url, "pid": 1, "version": "0"}
        self.file.write_text(json.dumps(facts))

    def close(self) -> None:
        self.file.unlink(missing_ok=True)
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, pattern: str, status: int, document: Any) -> None:
        """Answer matching requests so from now on."""
        self.answers.insert(0, (method, pattern, status, document))

    def problem(self, method: str, pattern: str, status: int, code: str, **extras: Any) -> None:
        document = {"code": code, "title": code, "detail": f"Because of {code}.", **extras}
        self.answer(method, pattern, status, document)

    def bodies(self, path: str) -> list[Any]:
        return [body for _, target, body in self.requests if re.fullmatch(path, target)]

    def handle(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        try:
            self._verify(method, target, headers, body)
        except (jwt.InvalidTokenError, AssertionError) as error:
            self.refused.append(repr(error))
            return 401, {"code": "unauthorized", "detail": repr(error)}
        document = json.loads(body) if body else None
        self.requests.append((method, target, document))
        for wanted, pattern, status, answer in self.answers:
            if wanted == method and re.fullmatch(pattern, target):
                return status, answer
        return self._default(method, target, document)

    def _verify(self, method: str, target: str, headers: Any, body: bytes) -> None:
        scheme, _, token = headers["Authorization"].partition(" ")
        assert scheme == "Bearer"
        claims = jwt.decode(
            token,
            (Path(settings.SECRETS_DIR) / "lda_verify.pem").read_bytes(),
            algorithms=["EdDSA"],
            audience=f"{self.id}:{self.boot_id}",
            issuer="rootbound-backend",
            options={"require": ["exp", "iat", "jti", "htm", "htu", "bsha"]},
        )
        assert claims["exp"] - claims["iat"] <= 60
        assert claims["jti"] not in self._jtis
        self._jtis.add(claims["jti"])
        assert (claims["htm"], claims["htu"]) == (method, target)
        assert claims["bsha"] == hashlib.sha256(body).hexdigest()
        assert not body or headers["Content-Type"] == "application/json"

    def _default(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        if target == "/repos/validate":
            return 200, {
                "canonical_path": body["path"].rstrip("/"),
                "default_branch": "main",
                "head_commit": BASE,
                "root": "/srv",
            }
        if target == "/roots/validate":
            return 200, {"path": body["path"], "canonical_path": body["path"].rstrip("/")}
        if target == "/run":
            return 202, {"run_id": body["attempt_id"], "state": "STARTING", "reused": False}
        if target == "/plans":
            return 202, {"state": "STARTING"}
        if target == "/health":
            return 200, {"status": "ok", "version": "0", "sandbox": {"tier": "A"}}
        if target.endswith("/merge"):
            return 200, {"merge_commit": "c" * 40, "base_before": BASE, "fast_forward": True}
        if target.endswith(("/cancel", "/discard")):
            return 202, {"state": "CANCELLED"}
        if target.endswith("/diff"):
            stats = {"files": 0, "additions": 0, "deletions": 0}
            return 200, {"base": BASE, "head": HEAD, "files": [], "stats": stats}
        return 404, {"code": "not-found", "detail": "No such run."}


def secret(name: str) -> str:
    return (Path(settings.SECRETS_DIR) / name).read_text().strip()


def api_token(username: str, **claims: Any) -> str:
    now = int(time.time())
    facts = {
        "iss": "rootbound",
        "aud": "rootbound-api",
        "sub": username,
        "iat": now,
        "exp": now + 600,
        "scope": "api",
        **claims,
    }
    return jwt.encode(facts, secret("django.key"), algorithm="HS256")


def identity(username: str, method: str, path: str, **claims: Any) -> str:
    now = int(time.time())
    facts = {
        "iss": "rootbound-jupyter",
        "aud": "rootbound-backend",
        "sub": username,
        "name": username.title(),
        "iat": now,
        "exp": now + 30,
        "method": method,
        "path": path,
        **claims,
    }
    return jwt.encode(facts, secret("identity.key"), algorithm="HS256")


def client_for(username: str) -> APIClient:
    return APIClient(headers={"Authorization": f"Bearer {api_token(username)}"})


def make_project(user: User, **config: Any) -> Project:
    return Project.objects.create(
        owner=user,
        name="Sample",
        repo_path="/srv/sample",
        default_branch="main",
        config={**COMMANDS, **config},
    )


def make_task(project: Project, title: str = "Fix it", **fields: Any) -> Task:
    fields["dependencies"] = [str(task.pk) for task in fields.pop("after", [])]
    return Task.objects.create(project=project, title=title, **fields)


def make_agent(user: User, role: str = "BACKEND", **fields: Any) -> AgentProfile:
    facts = {"name": role.title(), "provider": "GLM", "model": "glm-7", **fields}
    return AgentProfile.objects.create(owner=user, role=role, **facts)


def make_attempt(user: User, task: Task | None = None) -> Attempt:
    """An attempt that the LDA runs, by the real services but without the hand-over."""
    if not AgentProfile.objects.filter(owner=user, role="BACKEND").exists():
        make_agent(user)
    task = task or make_task(make_project(user))
    attempt = create_attempt(user=user, task_id=task.pk)
    Attempt.objects.filter(pk=attempt.pk).update(lease_generation=1)
    attempt.refresh_from_db()
    return attempt


def event(seq: int, type_: str = "LOG", **payload: Any) -> dict[str, Any]:
    payload = payload or {"kind": "text", "step": 1, "delta": f"line {seq}"}
    stamp = f"2026-01-02T03:04:05.{seq % 1_000_000:06d}Z"
    return {"seq": seq, "timestamp": stamp, "type": type_, "payload": payload}


def gate(seq: int, name: str, exit_code: int | None = 0, commit: str = HEAD) -> dict[str, Any]:
    return event(
        seq,
        "ARTIFACT",
        kind="gate",
        name=name,
        commit=commit,
        command=f"run {name}",
        exit_code=exit_code,
        duration_s=1.5,
        log_digest="sha256:" + "0" * 64,
        log_artifact=None,
    )


def status(seq: int, value: str, **fields: Any) -> dict[str, Any]:
    facts = {"failure": None, "message": None, "head_commit": None, "exit_code": None, **fields}
    return event(seq, "STATUS", status=value, **facts)


def way_to_review() -> list[dict[str, Any]]:
    """What the LDA reports of a run that goes well."""
    return [
        event(1, kind="enforcement", tier="A", missing=[], writable=["/w"], network={}),
        event(2, kind="usage", steps=2, input_tokens=10, output_tokens=5, cost_usd=0.5),
        event(3, "ARTIFACT", kind="commit", commit=HEAD, base=BASE, message="Fix"),
        status(4, "GATES"),
        gate(5, "install"),
        gate(6, "lint"),
        gate(7, "test"),
        status(8, "REVIEW", head_commit=HEAD, exit_code=0),
    ]


def ingest_client(attempt: Attempt, generation: int = 1) -> APIClient:
    token = issue_ingest_token(
        user_id=attempt.task.project.owner_id,
        attempt_id=attempt.pk,
        lease_generation=generation,
    )
    return APIClient(headers={"Authorization": f"Bearer {token}"})


def post_events(attempt: Attempt, events: list[Any], generation: int = 1) -> Any:
    return ingest_client(attempt, generation).post(
        f"/api/attempts/{attempt.pk}/events/",
        {"lease_generation": generation, "events": events},
        format="json",
    )


def audit_chain(count: int, *, denied: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
    """Entries as the LDA chains them."""
    before, entries = "0" * 64, []
    for seq in range(1, count + 1):
        entry: dict[str, Any] = {
            "seq": seq,
            "timestamp": f"2026-01-02T03:04:{seq % 60:02d}.5Z",
            "operation": "WRITE" if seq % 2 else "READ",
            "result": "DENIED" if seq in denied else "ALLOWED",
            "path": f"/srv/sample/Grün {seq}.py",
            "source": "tool",
            "detail": {"tool": "write_file", "pid": seq},
        }
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        before = hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()
        entries.append({**entry, "hash": before})
    return entries


def post_audit(attempt: Attempt, entries: list[Any], generation: int = 1) -> Any:
    body = {
        "run_id": str(attempt.pk),
        "attempt_id": str(attempt.pk),
        "lease_generation": generation,
        "entries": entries,
    }
    client = ingest_client(attempt, generation)
    return client.post("/api/audit/ingest/", body, format="json")
