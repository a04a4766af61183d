"""The outbox and the shipper: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from rootbound_lda import outbox_writer as writer_module
from rootbound_lda import shipper as shipper_module
from rootbound_lda.audit import AuditRecord, AuditUnavailable, verify_chain
from rootbound_lda.outbox import Outbox, OutboxUnavailable, Owner
from rootbound_lda.reports import Reporter, RunAudit
from rootbound_lda.shipper import Pace, Shipper
from rootbound_lda.wire import Notice, Status

OWNER = Owner("a1", "attempt", 1, "http://backend", "token", live=True)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite3")
    yield box
    box.close()


class Backend:
    """Answers as the backend would, or as it is told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.entries: list[dict[str, Any]] = []
        self.order: list[str] = []
        self.answers: list[httpx.Response | Exception] = []
        self.heartbeats = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            if answer.status_code != 299:  # 299: stored, but the answer is lost
                return answer
        body = json.loads(request.content)
        if any(event["payload"].get("text") == "odd" for event in body.get("events", [])):
            return httpx.Response(400, json={"code": "invalid", "detail": "events is odd"})
        kind = "entries" if "entries" in body else "events"
        kept = self.entries if kind == "entries" else self.events
        self.heartbeats += kind == "events" and not body["events"]
        self.order += [kind] * len(body[kind])
        fresh = [item for item in body[kind] if item["seq"] > len(kept)]
        if fresh and fresh[0]["seq"] != len(kept) + 1:
            gap = {"code": "sequence-gap", "expected_seq": len(kept) + 1}
            return httpx.Response(409, json=gap)
        kept += fresh
        if "answer" in locals() and isinstance(answer, httpx.Response):
            raise httpx.ReadTimeout("the answer was lost")
        return httpx.Response(200, json={"seq": len(kept)})


@pytest_asyncio.fixture
async def shipping(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Shipper, Backend, list[str]]]:
    monkeypatch.setattr(shipper_module, "BACKOFF_MAX_S", 0.2)
    backend, fenced = Backend(), []
    shipper = Shipper(box, fenced.append, heartbeat_s=0.2)
    await asyncio.wrap_future(box.open_owner(OWNER))
    await shipper.start()
    assert shipper._client is not None
    await shipper._client.aclose()
    shipper._client = httpx.AsyncClient(transport=httpx.MockTransport(backend))
    yield shipper, backend, fenced
    await shipper.stop()


@pytest.mark.asyncio
async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    for first in (1, 4):
        box = Outbox(path)
        reporter = Reporter(box, "a1")
        for _ in range(3):
            reporter(Notice("x"))
        await box.sync()
        rows = box.rows(box.stream("event", "a1", "a1"), limit=100)
        assert [row.seq for row in rows] == list(range(1, first + 3))
        box.close()


def test_kill_leaves_no_hole_and_an_unbroken_chain(tmp_path: Path) -> None:
    code = """
import sys, pathlib
from rootbound_lda.outbox import Outbox
from rootbound_lda.reports import RunAudit
from rootbound_lda.audit import AuditRecord
box = Outbox(pathlib.Path(sys.argv[1]))
audit = RunAudit(box, "a1", "r1")
print("go", flush=True)
while True:
    audit.record(AuditRecord("WRITE", "ALLOWED", "/x", "tool", {}))
"""
    path = tmp_path / "outbox.sqlite3"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(2000):
        if path.exists() and Path(f"{path}-wal").stat().st_size > 500_000:
            break
        threading.Event().wait(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    box = Outbox(path)
    stream = box.stream("audit", "a1", "r1")
    RunAudit(box, "a1", "r1").record(AuditRecord("READ", "ALLOWED", "/y", "tool", {}))
    box.close()
    bodies = sqlite3.connect(path).execute("SELECT body FROM rows ORDER BY key").fetchall()
    entries = [json.loads(body[0]) for body in bodies]
    assert len(entries) > 100
    assert entries[-1]["seq"] == len(entries) == stream.last_seq
    assert verify_chain(entries) is None


def test_threads_share_one_sequence(box: Outbox) -> None:
    audit = RunAudit(box, "a1", "r1")

    def work() -> None:
        for _ in range(200):
            audit.record(AuditRecord("READ", "ALLOWED", "/x", "kernel", {}))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    box.call(lambda _: None).result(10)
    rows = box.rows(box.stream("audit", "a1", "r1"), limit=5000)
    entries = [json.loads(row.body) for row in rows]
    assert [entry["seq"] for entry in entries] == list(range(1, 1001))
    assert verify_chain(entries) is None


@pytest.mark.asyncio
async def test_a_full_disk_refuses_and_recovers(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, audit = Reporter(box, "a1"), RunAudit(box, "a1", "r1")
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.02)
    await box.sync()
    database = box._store.writer
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    box.call(lambda db: None).result(5)
    database.execute(f"PRAGMA max_page_count={pages}")
    reporter(Notice("x" * 30_000))
    with pytest.raises(OutboxUnavailable, match="free disk space"):
        await box.sync(timeout_s=0.3)
    with pytest.raises(AuditUnavailable):
        audit.record(AuditRecord("WRITE", "ALLOWED", "/x", "tool", {}))
    reporter.end(Status("FAILED", "INTERNAL", "no space"))
    database.execute("PRAGMA max_page_count=1000000")
    await box.sync()
    assert box.failure is None
    assert [row.seq for row in box.rows(box.stream("event", "a1", "a1"), limit=9)] == [1, 2]


@pytest.mark.asyncio
async def test_ships_in_order_and_deletes(box: Outbox, shipping: Any) -> None:
    shipper, backend, _ = shipping
    reporter, audit = Reporter(box, "a1"), RunAudit(box, "a1", "a1")
    for _ in range(1200):
        audit.record(AuditRecord("WRITE", "ALLOWED", "/x", "tool", {}))
        reporter(Notice("x"))
    reporter.end(Status("REVIEW"))
    assert await shipper.drain("a1", 20)
    assert [event["seq"] for event in backend.events] == list(range(1, 1202))
    assert verify_chain(backend.entries) is None
    assert len(backend.entries) == 1200
    assert backend.order[-1] == "events", "the end of the run comes after its audit"
    assert box.depth() == 0


@pytest.mark.asyncio
async def test_retries_until_the_backend_answers(box: Outbox, shipping: Any) -> None:
    shipper, backend, _ = shipping
    backend.answers = [
        httpx.ConnectError("refused"),
        httpx.Response(503),
        httpx.Response(401),
        httpx.Response(200, text="<html>"),
        httpx.Response(299),
    ]
    Reporter(box, "a1")(Notice("x"))
    assert await shipper.drain("a1", 20)
    assert [event["seq"] for event in backend.events] == [1], "stored once though sent twice"


@pytest.mark.asyncio
async def test_a_gap_is_sent_again_from_where_it_is_expected(box: Outbox, shipping: Any) -> None:
    shipper, backend, _ = shipping
    reporter = Reporter(box, "a1")
    backend.events = [{"seq": n} for n in range(1, 4)]  # it has 1-3, the answer got lost
    backend.answers = [httpx.Response(409, json={"code": "sequence-gap", "expected_seq": 4})]
    for _ in range(6):
        reporter(Notice("x"))
    assert await shipper.drain("a1", 10)
    assert [event["seq"] for event in backend.events] == [1, 2, 3, 4, 5, 6]


@pytest.mark.asyncio
async def test_fenced_drops_the_rest_and_a_new_generation_goes_on(
    box: Outbox, shipping: Any
) -> None:
    shipper, backend, fenced = shipping
    reporter = Reporter(box, "a1")
    reporter(Notice("first"))
    assert await shipper.drain("a1", 10)
    backend.answers = [httpx.Response(409, json={"code": "fenced"})]
    reporter(Notice("second"))
    assert await shipper.drain("a1", 10)
    assert fenced == ["a1"]
    reporter(Notice("nobody hears this"))
    await asyncio.wrap_future(box.open_owner(OWNER))
    Reporter(box, "a1")(Notice("third"))
    assert await shipper.drain("a1", 10)
    texts = [event["payload"]["text"] for event in backend.events]
    assert texts == ["first", "third"]
    assert [event["seq"] for event in backend.events] == [1, 2]


@pytest.mark.asyncio
async def test_one_bad_event_does_not_stop_the_stream(box: Outbox, shipping: Any) -> None:
    shipper, backend, _ = shipping
    reporter = Reporter(box, "a1")
    for text in ("even", "odd", "even"):
        reporter(Notice(text))
    assert await shipper.drain("a1", 10)
    texts = [event["payload"]["text"] for event in backend.events]
    assert texts == ["even", "One event could not be stored: events is odd", "even"]


@pytest.mark.asyncio
async def test_heartbeats_while_live(box: Outbox, shipping: Any) -> None:
    _, backend, _ = shipping
    box.stream("event", "a1", "a1")
    async with asyncio.timeout(10):
        while backend.heartbeats < 2:
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_deltas_are_joined(box: Outbox) -> None:
    reporter = Reporter(box, "a1")
    for letter in "abc":
        reporter.text(1, letter)
    reporter.thinking(1, "hm")
    reporter.output("gate:test", "stdout", "out")
    reporter.end(Status("REVIEW"))
    reporter(Notice("too late"))
    await box.sync()
    rows = box.rows(box.stream("event", "a1", "a1"), limit=10)
    payloads = [json.loads(row.body)["payload"] for row in rows]
    assert [payload.get("delta") or payload.get("text") for payload in payloads] == [
        "abc",
        "hm",
        "out",
        None,
    ]


def test_batches_grow_while_the_backend_is_quick_and_shrink_when_it_is_not() -> None:
    pace = Pace()
    pace.went(pace.rows - 1, 0.01)
    assert pace.rows == 500  # what was not full says nothing about larger ones
    sizes = []
    for _ in range(5):
        pace.went(pace.rows, 0.01)
        sizes.append(pace.rows)
    assert sizes == [1000, 2000, 4000, 5000, 5000]
    pace.went(pace.rows, 1.0)
    assert pace.rows == 5000  # neither quick nor slow
    pace.went(pace.rows, 4.0)
    assert pace.rows == 2500
    for _ in range(10):
        pace.failed()
    assert pace.rows == 100
