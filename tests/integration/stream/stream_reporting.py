"""An attempt of a running stack, and the LDA's own outbox and shipper to report for it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import psycopg

from rootbound_lda.audit import AuditRecord
from rootbound_lda.outbox import Outbox
from rootbound_lda.outbox_store import Owner
from rootbound_lda.reports import RunAudit
from rootbound_lda.shipper import Shipper
from tests.support.live import LiveStack


def services(stack: LiveStack) -> Any:
    return json.loads((stack.home / "run/stack.json").read_text())["services"]


def new_attempt(stack: LiveStack) -> str:
    name = f"stream-{uuid.uuid4().hex[:8]}"
    project = stack.make_project(name)
    task = stack.make_task(project, name)
    attempt = stack.call("POST", f"/api/tasks/{task['id']}/attempts/", {})
    return str(attempt["id"])


def ingest_token(stack: LiveStack, attempt_id: str, generation: int = 0) -> str:
    with database(stack) as connection:
        ((user_id,),) = connection.execute("SELECT id FROM users_user").fetchall()
    now = int(time.time())
    claims = {
        "iss": "rootbound", "aud": "rootbound-ingest", "run_id": attempt_id,
        "attempt_id": attempt_id, "decomposition_id": None, "user_id": str(user_id),
        "lease_generation": generation, "iat": now, "exp": now + 3600,
    }  # fmt: skip
    key = (stack.home / "secrets/django.key").read_text().strip()
    return jwt.encode(claims, key, algorithm="HS256")


def database(stack: LiveStack) -> psycopg.Connection[Any]:
    from rootbound_server_ext.stack import postgres

    password = (stack.home / "secrets/postgres.password").read_text().strip()
    return psycopg.connect(postgres.PostgresServer(stack.home).url, password=password)


@dataclass
class Reporter:
    """The LDA's outbox and shipper on a thread of their own."""

    stack: LiveStack
    attempt_id: str
    folder: Path | None = None
    outbox: Outbox = field(init=False)
    _stop: asyncio.Event = field(init=False)

    def __post_init__(self) -> None:
        folder = self.folder or self.stack.scratch
        self.outbox = Outbox(folder / f"{self.attempt_id}.sqlite3")
        self.outbox.open_owner(
            Owner(
                self.attempt_id, "attempt", 0, self.stack.url,
                ingest_token(self.stack, self.attempt_id), live=True,
            )
        ).result(10)  # fmt: skip
        self.stream = self.outbox.stream("event", self.attempt_id, self.attempt_id)
        self.audit = RunAudit(self.outbox, self.attempt_id, self.attempt_id)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ship()), daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(10)

    async def _ship(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        shipper = Shipper(self.outbox, lambda owner: None)
        await shipper.start()
        self._ready.set()
        await self._stop.wait()
        await shipper.stop()

    def report(self, document: dict[str, Any]) -> None:
        def build(seq: int, _: str) -> tuple[bytes, str]:
            return json.dumps({**document, "seq": seq}).encode(), ""

        self.outbox.append(self.stream, build, lane="keep")

    def record(self, number: int) -> None:
        detail = {"pid": number, "exact": True}
        self.audit.record(AuditRecord("WRITE", "ALLOWED", f"/tree/{number}", "kernel", detail))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self.outbox.close()
