"""What the outbox does when there is no room: in memory, on the disk, or for an old run."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rootbound_lda import outbox as outbox_module
from rootbound_lda import outbox_writer as writer_module
from rootbound_lda.audit import AuditRecord, AuditUnavailable, encode_entry, verify_chain
from rootbound_lda.outbox import Outbox, OutboxUnavailable, Owner
from rootbound_lda.reports import Reporter, RunAudit
from rootbound_lda.wire import Notice, Output, Status, ToolCall

OWNER = Owner("a1", "attempt", 1, "http://backend", "token", live=True)
RECORD = AuditRecord("WRITE", "ALLOWED", "/x", "kernel", {"pid": 1})
MIB = 1 << 20


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite3", max_bytes=MIB)
    yield box
    box.close()


def flush(box: Outbox) -> None:
    box.call(lambda _: None).result(20)


@contextmanager
def writer_busy(box: Outbox) -> Iterator[threading.Event]:
    """Keep the writer thread from writing until the event is set."""
    entered, release = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        entered.set()
        assert release.wait(30)

    box.call(wait)
    assert entered.wait(10)
    try:
        yield release
    finally:
        release.set()


def bodies(box: Outbox, kind: Any = "event") -> list[dict[str, Any]]:
    flush(box)
    return [json.loads(row.body) for row in box.rows(box.stream(kind, "a1", "a1"), limit=10**6)]


# -- in memory ---------------------------------------------------------------------------------


def test_a_burst_waits_for_the_disk_and_goes_on(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_PENDING", 100)
    monkeypatch.setattr(outbox_module, "PATIENCE_S", 30.0)
    audit = RunAudit(box, "a1", "a1")
    recorded = threading.Event()

    def burst() -> None:
        for _ in range(101):
            audit.record(RECORD)
        recorded.set()

    flush(box)
    with writer_busy(box) as release:
        thread = threading.Thread(target=burst)
        thread.start()
        while box._writer.pending < 100:
            time.sleep(0.001)
        assert not recorded.wait(0.1), "the entry beyond the bound must wait"
        assert box._writer.pending == 100
        release.set()
        assert recorded.wait(20), "room came, and it went on"
        thread.join()
    assert len(bodies(box, "audit")) == 101
    assert verify_chain(bodies(box, "audit")) is None


@pytest.mark.parametrize(("name", "bound"), [("MAX_PENDING", 100), ("MAX_PENDING_BYTES", 20_000)])
def test_patience_ends_with_a_refusal_but_the_end_is_taken(
    box: Outbox, monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    monkeypatch.setattr(outbox_module, name, bound)
    monkeypatch.setattr(outbox_module, "PATIENCE_S", 0.05)
    audit, reporter = RunAudit(box, "a1", "a1"), Reporter(box, "a1")
    flush(box)
    kept = 0
    with writer_busy(box):
        with pytest.raises(AuditUnavailable, match="cannot keep up"):
            while kept < 1000:
                audit.record(RECORD)
                kept += 1
        with pytest.raises(OutboxUnavailable):
            reporter(Notice("no room either"))
        assert box._writer.pending_bytes < 40_000
        reporter.end(Status("FAILED", "INTERNAL", "The outbox cannot keep up."))
    entries = bodies(box, "audit")
    assert [entry["seq"] for entry in entries] == list(range(1, kept + 1))
    assert verify_chain(entries) is None
    assert [event["payload"]["status"] for event in bodies(box)] == ["FAILED"]


def test_closing_wakes_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MAX_PENDING", 1)
    monkeypatch.setattr(outbox_module, "PATIENCE_S", 60.0)
    box = Outbox(tmp_path / "outbox.sqlite3")
    audit = RunAudit(box, "a1", "a1")
    flush(box)
    refused = threading.Event()

    def record() -> None:
        with pytest.raises(AuditUnavailable):
            audit.record(RECORD)
        refused.set()

    with writer_busy(box) as release:
        audit.record(RECORD)
        waiting = threading.Thread(target=record)
        waiting.start()
        closing = threading.Thread(target=box.close)
        closing.start()
        assert refused.wait(20)
        release.set()
    waiting.join(20)
    closing.join(20)


def test_neither_a_cancelled_nor_a_failed_action_ends_the_writer(box: Outbox) -> None:
    reporter = Reporter(box, "a1")
    with writer_busy(box):
        reporter(Notice("before"))
        cancelled = box.acknowledge(box.stream("event", "a1", "a1"), 1)
        failed = box.call(lambda _: 1 // 0)
        reporter(Notice("after"))
        assert cancelled.cancel()
    with pytest.raises(ZeroDivisionError):
        failed.result(20)
    assert [event["payload"]["text"] for event in bodies(box)] == ["after"]
    assert box.failure is None


# -- on the disk -------------------------------------------------------------------------------


def test_large_log_bodies_go_first_and_say_so(box: Outbox) -> None:
    reporter, audit = Reporter(box, "a1"), RunAudit(box, "a1", "a1")
    reporter(Status("GATES", head_commit="a" * 40))
    for number in range(200):
        reporter(Output(f"command:{number}", "stdout", f"{number} " + "x" * (8000 + number)))
        reporter(ToolCall(number, f"c{number}", "write_file", {"path": "p", "content": "y" * 900}))
        audit.record(RECORD)
        flush(box)
        assert box.waiting_bytes < MIB + 20_000
    reporter.end(Status("FAILED", "AGENT_BLOCKED", "z" * 5000))
    events = bodies(box)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["payload"]["status"] == "GATES"
    assert events[-1]["payload"]["message"] == "z" * 5000, "a status is never touched"
    outputs = [event["payload"] for event in events if event["payload"].get("kind") == "output"]
    assert len(outputs) == 200
    short = [one for one in outputs if "characters left out: the outbox was full" in one["text"]]
    assert 50 < len(short) < 200
    assert all(one["text"].startswith(one["source"].partition(":")[2] + " ") for one in outputs)
    calls = [event["payload"] for event in events if event["payload"].get("kind") == "tool_call"]
    assert [len(call["args"]["content"]) for call in calls] == [900] * 200, "small ones stay"
    assert verify_chain(bodies(box, "audit")) is None
    assert len(bodies(box, "audit")) == 200


def test_when_only_audit_is_left_operations_are_refused(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "PATIENCE_S", 0.02)
    reporter, audit = Reporter(box, "a1"), RunAudit(box, "a1", "a1")
    with pytest.raises(AuditUnavailable, match="ROOTBOUND_LDA_OUTBOX_MAX_BYTES"):
        for _ in range(10_000):
            audit.record(RECORD)
    entries = bodies(box, "audit")
    assert verify_chain(entries) is None
    assert 1000 < len(entries) < 10_000
    for _ in range(7):
        reporter(Notice("left out"))
    reporter(Status("GATES", head_commit="a" * 40))
    box.acknowledge(box.stream("audit", "a1", "a1"), len(entries)).result(20)
    audit.record(RECORD)
    reporter(Notice("taken again"))
    payloads = [event["payload"] for event in bodies(box)]
    assert payloads[0]["text"] == "7 messages were left out here: the outbox was full."
    assert [payload.get("status") or payload["text"] for payload in payloads[1:]] == [
        "GATES",
        "taken again",
    ]
    after = bodies(box, "audit")
    assert [entry["seq"] for entry in after] == [len(entries) + 1]
    assert verify_chain([*entries, *after]) is None


def test_acknowledged_pages_go_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    box = Outbox(path)
    reporter = Reporter(box, "a1")
    for _ in range(1500):
        reporter(Output("command:1", "stdout", "x" * 31_000))
    stream = box.stream("event", "a1", "a1")
    flush(box)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    other.close()
    assert path.stat().st_size > 40 * MIB
    box.acknowledge(stream, stream.last_seq).result(20)
    flush(box)
    deadline = time.monotonic() + 20
    while box._store.writer.execute("PRAGMA freelist_count").fetchone()[0] > 4096:
        assert time.monotonic() < deadline
        flush(box)
    box.close()
    assert path.stat().st_size < 20 * MIB


def test_an_acknowledgement_makes_room_on_a_full_disk(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.01)
    reporter = Reporter(box, "a1")
    for number in range(10):
        reporter(Output("command:1", "stdout", f"{number}" * 30_000))
    stream = box.stream("event", "a1", "a1")
    flush(box)
    database = box._store.writer
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    box.call(lambda db: db.execute(f"PRAGMA max_page_count={pages}")).result(20)
    for number in range(5):
        reporter(Output("command:1", "stdout", f"{number}" * 30_000))
    deadline = time.monotonic() + 20
    while box.failure is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    # The backend is up: what it takes is deleted although the rows before cannot be stored.
    box.acknowledge(stream, 8).result(20)
    flush(box)
    assert box.failure is None
    assert [row.seq for row in box.rows(stream, limit=99)] == list(range(9, 16))


# -- earlier runs and earlier files ------------------------------------------------------------


def test_a_later_hand_over_supersedes_reports_but_not_audit(box: Outbox) -> None:
    box.open_owner(OWNER).result(20)
    reporter, audit = Reporter(box, "a1"), RunAudit(box, "a1", "a1")
    for number in range(6):
        reporter(Notice(f"old {number + 1}"))
        audit.record(RECORD)
    flush(box)
    events = box.stream("event", "a1", "a1")
    box.acknowledge(events, 2).result(20)
    events.unsure_seq = 4  # the answer to a post of 3 and 4 got lost
    box.open_owner(Owner("a1", "attempt", 2, "http://backend", "token-2", live=True)).result(20)
    Reporter(box, "a1")(Notice("new 5"))
    found = [(event["seq"], event["payload"]["text"]) for event in bodies(box)]
    assert [seq for seq, _ in found] == [3, 4, 5]
    assert found[2][1] == "new 5"
    assert all("earlier hand-over" in text for _, text in found[:2])
    assert len(bodies(box, "audit")) == 6
    owner = box.owner("a1")
    assert owner is not None
    assert (owner.generation, owner.token) == (2, "token-2")


def test_a_refused_run_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    box = Outbox(path)
    box.open_owner(OWNER).result(20)
    Reporter(box, "a1")(Notice("old"))
    box.drop("a1").result(20)
    box.close()
    box = Outbox(path)
    assert box.owners() == []
    assert box.depth() == 0
    assert box.append(box.stream("event", "a1", "a1"), lambda *_: (b"{}", "")) == 0
    box.open_owner(Owner("a1", "attempt", 2, "http://backend", "token", live=True)).result(20)
    Reporter(box, "a1")(Notice("new"))
    assert [event["payload"]["text"] for event in bodies(box)] == ["new"]
    box.close()


VERSION_1 = """
CREATE TABLE owners (
  owner TEXT PRIMARY KEY, subject TEXT NOT NULL, generation INTEGER NOT NULL,
  base_url TEXT NOT NULL, token TEXT NOT NULL, live INTEGER NOT NULL);
CREATE TABLE streams (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
  last_seq INTEGER NOT NULL, last_hash TEXT NOT NULL,
  acked_seq INTEGER NOT NULL, acked_hash TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE rows (
  id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, seq INTEGER NOT NULL,
  terminal INTEGER NOT NULL, hash TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (stream, seq));
INSERT INTO owners VALUES ('a1', 'attempt', 3, 'http://backend', 'token', 1);
PRAGMA user_version=1;
"""


def test_a_file_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_1)
        previous, entries = "0" * 64, []
        for seq in range(1, 6):
            body, digest = encode_entry(RECORD, seq=seq, prev=previous)
            entries.append((1, seq, 0, digest, body))
            previous = digest
        old.executemany(
            "INSERT INTO rows (stream, seq, terminal, hash, body) VALUES (?,?,?,?,?)", entries[2:]
        )
        values = (1, "audit", "a1", "a1", 5, previous, 2, entries[1][3])
        old.execute("INSERT INTO streams VALUES (?,?,?,?,?,?,?,?)", values)
    old.close()
    box = Outbox(path)
    assert [(owner.owner, owner.generation) for owner in box.owners()] == [("a1", 3)]
    RunAudit(box, "a1", "a1").record(RECORD)
    found = bodies(box, "audit")
    assert verify_chain(found, prev=entries[1][3], first_seq=3) is None
    assert [entry["seq"] for entry in found] == [3, 4, 5, 6]
    box.close()
    box = Outbox(path)
    assert box.depth() == 4
    box.close()


@pytest.mark.asyncio
async def test_the_bound_holds_across_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    box = Outbox(path, max_bytes=MIB)
    reporter = Reporter(box, "a1")
    for _ in range(20):
        reporter(Output("command:1", "stdout", "x" * 31_000))
    await box.sync()
    before = box.waiting_bytes
    box.close()
    box = Outbox(path, max_bytes=MIB)
    assert box.waiting_bytes == before
    await asyncio.wrap_future(box.acknowledge(box.stream("event", "a1", "a1"), 20))
    assert box.waiting_bytes == 0
    box.close()
