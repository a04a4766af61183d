"""What can go wrong around the outbox: a full disk, a clock, odd paths, another hand-over."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rootbound_lda import outbox_writer
from rootbound_lda.audit import AuditRecord, AuditUnavailable, encode_path, verify_chain
from rootbound_lda.outbox import Outbox, Owner
from rootbound_lda.reports import Reporter, RunAudit
from rootbound_lda.shipper import Shipper
from rootbound_lda.wire import Notice, Status
from tests.integration.lda_outbox.outbox_feeder_process import ODD

RECORD = AuditRecord("WRITE", "ALLOWED", "/tree/file", "kernel", {"pid": 1})


def _owner(attempt: Any, url: str, token: str, generation: int = 1) -> Owner:
    return Owner(str(attempt.pk), "attempt", generation, url, token, live=True)


async def _ship(box: Outbox, owner: Owner, *, fenced: list[str] | None = None) -> bool:
    shipper = Shipper(box, (fenced if fenced is not None else []).append)
    await shipper.start()
    shipper.wake(owner.owner)
    done = await shipper.drain(owner.owner, 60)
    await shipper.stop()
    return done


def _entries(attempt: Any) -> list[dict[str, Any]]:
    from rootbound_backend.apps.local_access.models import FsAuditEvent

    rows = FsAuditEvent.objects.filter(run_id=attempt.pk).order_by("seq").values()
    names = ("seq", "operation", "result", "path", "source", "detail", "hash")
    return [
        {name: row[name] for name in names}
        | {"timestamp": row["timestamp"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        for row in rows
    ]


def _texts(attempt: Any) -> list[str]:
    from rootbound_backend.apps.attempts.models import AttemptEvent

    events = AttemptEvent.objects.filter(attempt_id=attempt.pk, type="LOG").order_by("seq")
    return [payload["text"] for payload in events.values_list("payload", flat=True)]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite3")
    yield box
    box.close()


def test_odd_paths_keep_their_place_in_the_chain(
    backend_up: Any, attempt: Any, token: str, box: Outbox
) -> None:
    owner = _owner(attempt, backend_up.url, token)
    box.open_owner(owner).result(20)
    audit = RunAudit(box, owner.owner, owner.owner)
    for raw in ODD:
        text, detail = encode_path(raw)
        facts = {**detail, "program": os.fsdecode(raw)[:50], "nested": {"a\0b": ["\ud800"]}}
        audit.record(AuditRecord("WRITE", "ALLOWED", text, "kernel", facts))
    assert asyncio.run(_ship(box, owner))
    entries = _entries(attempt)
    assert [entry["path"] for entry in entries] == [encode_path(raw)[0] for raw in ODD]
    assert verify_chain(entries) is None, "what is stored is what was hashed"


def test_a_clock_that_jumps_back_changes_no_order(
    backend_up: Any, attempt: Any, token: str, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = _owner(attempt, backend_up.url, token)
    box.open_owner(owner).result(20)
    reporter, audit = Reporter(box, owner.owner), RunAudit(box, owner.owner, owner.owner)
    for number in range(200):
        jump = timedelta(days=400) if number >= 100 else timedelta(0)
        moment = datetime.now(UTC) - jump
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        monkeypatch.setattr("rootbound_lda.reports.now", lambda stamp=stamp: stamp)
        reporter(Notice(f"line {number}"))
        audit.record(AuditRecord("READ", "ALLOWED", f"/{number}", "tool", {}, moment))
    assert asyncio.run(_ship(box, owner))
    assert _texts(attempt) == [f"line {number}" for number in range(200)]
    entries = _entries(attempt)
    assert [entry["path"] for entry in entries] == [f"/{number}" for number in range(200)]
    assert verify_chain(entries) is None


def test_a_superseded_run_cannot_write(
    backend_up: Any, attempt: Any, token: str, tmp_path: Path, caplog: Any
) -> None:
    from rootbound_backend.apps.attempts.models import Attempt
    from rootbound_backend.tokens import issue_ingest_token

    old, new = (Outbox(tmp_path / f"{name}.sqlite3") for name in ("old", "new"))
    first = _owner(attempt, backend_up.url, token)
    old.open_owner(first).result(20)
    old_reporter, old_audit = Reporter(old, first.owner), RunAudit(old, first.owner, first.owner)
    old_reporter(Notice("of the first"))
    assert asyncio.run(_ship(old, first))
    # Another LDA gets the attempt while this one cannot reach the backend.
    Attempt.objects.filter(pk=attempt.pk).update(lease_generation=2)
    for _ in range(50):
        old_reporter(Notice("too late"))
        old_audit.record(RECORD)
    old_reporter.end(Status("FAILED", "INTERNAL", "Too late."))
    fenced: list[str] = []
    with caplog.at_level(logging.WARNING, logger="rootbound_lda.shipper"):
        assert asyncio.run(_ship(old, first, fenced=fenced))
    assert fenced == [first.owner]
    assert "does not want run" in caplog.text
    assert "(hand-over 1): 101 reports are dropped" in caplog.text
    assert old.owners() == []
    assert old.depth() == 0
    token_2 = issue_ingest_token(
        user_id=attempt.task.project.owner_id, attempt_id=attempt.pk, lease_generation=2
    )
    second = _owner(attempt, backend_up.url, token_2, 2)
    new.open_owner(second).result(20)
    # It goes on after what the backend has, which the hand-over tells it.
    stream = new.stream("event", second.owner, second.owner)
    stream.last_seq = stream.acked_seq = 1
    Reporter(new, second.owner)(Notice("of the second"))
    assert asyncio.run(_ship(new, second))
    assert _texts(attempt) == ["of the first", "of the second"]
    attempt.refresh_from_db()
    assert attempt.status == "RUNNING"
    for box in (old, new):
        box.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system; the unit tests bound the file")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_operations_and_loses_no_report(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_writer, "_RETRY_S", 0.02)
    box = Outbox(small_disk / "outbox.sqlite3")
    reporter, audit = Reporter(box, "a1"), RunAudit(box, "a1", "a1")
    recorded = 0
    deadline = time.monotonic() + 60
    with pytest.raises(AuditUnavailable, match="free disk space"):
        while time.monotonic() < deadline:
            audit.record(RECORD)
            recorded += 1
            if recorded % 500 == 0 and box.failure is None:
                box.call(lambda _: None)
    reporter.end(Status("FAILED", "INTERNAL", "The disk is full."))
    assert box.failure is not None
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    box.call(lambda _: None).result(30)
    assert box.failure is None
    audit.record(RECORD)
    box.call(lambda _: None).result(30)
    rows = box.rows(box.stream("audit", "a1", "a1"), limit=10**6)
    entries = [json.loads(row.body) for row in rows]
    assert len(entries) == recorded + 1
    assert verify_chain(entries) is None
    end = box.rows(box.stream("event", "a1", "a1"), limit=9)
    assert [row.terminal for row in end] == [True]
    box.close()
