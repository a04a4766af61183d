"""Runs with audit chains as the LDA writes them, and ways to tamper with what is stored."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.db import connection

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.local_access.audit.verify import verify_runs
from rootbound_backend.apps.local_access.ingest import decode_audit, ingest_audit
from rootbound_backend.apps.local_access.models import FsAuditEvent
from rootbound_backend.tokens import IngestGrant
from rootbound_lda.audit import GENESIS_HASH, AuditRecord, make_entry
from tests.integration.backend.backend_support import make_project, make_task

TABLE = "local_access_fsauditevent"
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def records(count, *, start=START, step_s=1.0, **fields):
    """What a run does: reads and writes, a deletion now and then, by two programs."""
    for number in range(1, count + 1):
        facts = {
            "operation": "DELETE" if number % 5 == 0 else "WRITE" if number % 2 else "READ",
            "result": "ALLOWED",
            "path": f"/srv/sample/src/Grün {number}.py",
            "source": "kernel",
            "detail": {"pid": number, "program": "/usr/bin/python3", "syscall": "openat"},
            "timestamp": start + timedelta(seconds=step_s * (number - 1)),
        }
        yield AuditRecord(**{**facts, **fields})


def chained(some, *, seq=1, prev=GENESIS_HASH):
    """The entries of records, by the LDA's own code."""
    entries = []
    for number, record in enumerate(some, seq):
        entries.append(make_entry(record, seq=number, prev=prev))
        prev = entries[-1]["hash"]
    return entries


def make_run(user, project=None, task=None):
    """An attempt that may report."""
    task = task or make_task(project or make_project(user))
    number = Attempt.objects.filter(task=task).count() + 1
    Attempt.objects.filter(task=task).update(
        status="FAILED", failure="CANCELLED", completed_at=START
    )
    return Attempt.objects.create(
        task=task, number=number, branch_name="attempt/x", lease_generation=1
    )


def grant_of(attempt):
    return IngestGrant(
        run_id=attempt.pk, attempt_id=attempt.pk, decomposition_id=None,
        user_id=attempt.task.project.owner_id, lease_generation=1,
    )  # fmt: skip


def store(attempt, entries):
    """Store entries by way of the real ingestion."""
    import msgspec

    grant = grant_of(attempt)
    batch = decode_audit(msgspec.json.encode(entries), grant=grant)
    return ingest_audit(grant=grant, batch=batch)


def stored_run(user, count=20, project=None, **fields):
    attempt = make_run(user, project)
    store(attempt, chained(records(count, **fields)))
    return attempt


@contextmanager
def tampering():
    """A cursor for whom nothing is append-only."""
    tables = [TABLE, "local_access_auditwatermark", "local_access_auditretentionanchor"]
    with connection.cursor() as cursor:
        # What foreign keys have yet to check would bar ALTER TABLE.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield cursor


def findings(*runs, user=None):
    """What verification finds, page by page, as (run, seq, kind)."""
    wanted = [run.pk for run in runs] if runs else None
    found, cursor = [], None
    while True:
        report = verify_runs(
            wanted, limit=7, cursor=cursor, user_id=None if user is None else user.pk
        )
        found += report.findings
        if report.next is None:
            return found
        cursor = report.next


def row(attempt, seq):
    return FsAuditEvent.objects.get(run_id=attempt.pk, seq=seq)


def insert_like(cursor, attempt, of_seq, **changes):
    """Insert a copy of a stored row with some columns changed; returns nothing."""
    names = ["run_id", "seq", "timestamp", "operation", "result", "path", "source", "detail",
             "hash", "attempt_id", "user_id"]  # fmt: skip
    cells = [f"%({name})s" if name in changes else f'"{name}"' for name in names]
    columns = ", ".join(f'"{name}"' for name in names)
    cursor.execute(
        f"INSERT INTO {TABLE} ({columns}) SELECT {', '.join(cells)} FROM {TABLE} "
        "WHERE run_id = %(of_run)s AND seq = %(of_seq)s",
        {**changes, "of_run": attempt.pk, "of_seq": of_seq},
    )


def some_id():
    return uuid.uuid4()
