"""Retention drops whole months, leaves a sealed record, and is no tampering."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from rootbound_backend.apps.local_access.audit.partitions import list_partitions
from rootbound_backend.apps.local_access.audit.verify import verify_runs
from rootbound_backend.apps.local_access.models import (
    AuditRetention,
    AuditRetentionAnchor,
    FsAuditEvent,
)
from tests.integration.audit_store.audit_support import (
    TABLE,
    chained,
    findings,
    insert_like,
    make_run,
    records,
    row,
    store,
    stored_run,
    tampering,
)

pytestmark = pytest.mark.django_db


def retain(*arguments):
    out = io.StringIO()
    call_command("audit_retain", *arguments, "--json", stdout=out, stderr=io.StringIO())
    return json.loads(out.getvalue())


@pytest.fixture
def spanning(user):
    """A run from 10 days before the start of a past month into it, and a clock that jumped."""
    run = make_run(user)
    month = (timezone.now() - timedelta(days=200)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    hours = [-30, -20, -10, 10, 20, -5, -4, 30, 900, 4000]
    some = [next(records(1, start=month + timedelta(hours=hour))) for hour in hours]
    store(run, chained(some))
    run.month = month
    return run


def test_old_months_go_and_what_is_left_is_whole(user, client, spanning):
    month = spanning.month
    days = (timezone.now() - month).days
    answer = retain("--older-than-days", str(days))
    (dropped,) = answer["dropped"]
    assert (dropped["rows"], dropped["forced"]) == (5, False)
    assert dropped["partition"] == f"{TABLE}_{month - timedelta(days=1):y%Ym%m}"
    assert list(FsAuditEvent.objects.order_by("seq").values_list("seq", flat=True)) == [
        4, 5, 8, 9, 10,
    ]  # fmt: skip
    report = verify_runs([spanning.pk])
    assert (report.ok, report.entries, report.retained_away) == (True, 5, 5)
    stored = AuditRetention.objects.get()
    assert (stored.rows, stored.range_to) == (5, month)
    anchors = AuditRetentionAnchor.objects.values_list("first_seq", "last_seq")
    assert list(anchors) == [(1, 3), (6, 7)]
    listed = client.get("/api/audit/retention/").json()["results"]
    assert [one["partition"] for one in listed] == [dropped["partition"]]
    assert retain("--older-than-days", str(days))["dropped"] == []


def test_everything_may_go_but_the_present(user, spanning):
    store(spanning, chained([next(records(1, start=timezone.now()))], seq=11,
                            prev=row(spanning, 10).hash))  # fmt: skip
    plan = retain("--keep-bytes", "0", "--dry-run")
    assert plan["dry_run"] is True
    assert len(plan["dropped"]) >= 3
    assert FsAuditEvent.objects.count() == 11
    retain("--keep-bytes", "0")
    assert list(FsAuditEvent.objects.values_list("seq", flat=True)) == [11]
    assert findings(spanning) == []
    assert store(spanning, chained(records(1), seq=12, prev=row(spanning, 11).hash)) == 12
    assert findings(spanning) == []


def test_size_keeps_what_fits(user, spanning):
    total = sum(one.bytes for one in list_partitions())
    oldest = next(one for one in list_partitions() if one.name.endswith(
        f"{spanning.month - timedelta(days=1):y%Ym%m}"))  # fmt: skip
    assert retain("--keep-bytes", str(total))["dropped"] == []
    (dropped,) = retain("--keep-bytes", str(total - 1))["dropped"]
    assert dropped["partition"] == oldest.name


def test_what_was_tampered_with_is_not_swept_away(user, spanning):
    with tampering() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET path = '/x' WHERE seq = 2")
    with pytest.raises(CommandError, match=f"verify --run {spanning.pk}"):
        retain("--keep-bytes", "0")
    assert FsAuditEvent.objects.count() == 10
    assert retain("--keep-bytes", "0", "--force")["dropped"][0]["forced"] is True


def test_a_record_of_retention_cannot_be_forged(user):
    run = stored_run(user, 10)
    with tampering() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE seq <= 4")
        cursor.execute(
            "INSERT INTO local_access_auditretention (performed_at, performed_by, reason, "
            "partition, rows, bytes, forced, seal) "
            "VALUES (now(), 'me', 'x', 'y', 4, 4, false, '') RETURNING id"
        )
        cursor.execute(
            "INSERT INTO local_access_auditretentionanchor "
            "(retention_id, run_id, first_seq, last_seq, last_hash, seal) "
            "VALUES (%s, %s, 1, 4, %s, %s)",
            [cursor.fetchone()[0], run.pk, row(run, 5).hash, "0" * 64],
        )
    kinds = [(one.seq, one.kind) for one in findings(run)]
    assert kinds == [(1, "retention"), (1, "missing"), (2, "missing"), (3, "missing"),
                     (4, "missing")]  # fmt: skip


def test_an_entry_put_back_where_retention_removed_it_is_found(user, spanning):
    kept = row(spanning, 4)
    retain("--keep-bytes", "0")
    store(spanning, chained(records(2, start=timezone.now()), seq=11,
                            prev=chained_hash(spanning)))  # fmt: skip
    with tampering() as cursor:
        insert_like(cursor, spanning, 11, seq=2, hash=kept.hash)
    assert [(one.seq, one.kind) for one in findings(spanning)] == [(2, "inserted")]


def chained_hash(run):
    return AuditRetentionAnchor.objects.filter(run_id=run.pk).order_by("-last_seq")[0].last_hash


@pytest.mark.parametrize("arguments", [[], ["--older-than-days", "0"], ["--keep-bytes", "-1"]])
def test_what_is_asked_for_must_make_sense(user, arguments):
    with pytest.raises(CommandError):
        retain(*arguments)


def test_a_plain_table_is_left_alone(user, monkeypatch):
    from rootbound_backend.apps.local_access.audit import retention

    monkeypatch.setattr(retention, "layout", lambda: "plain")
    with pytest.raises(CommandError, match="not partitioned"):
        retain("--keep-bytes", "0")


def test_the_permanent_partition_is_emptied_and_stays(user):
    run = make_run(user)
    store(run, chained([next(records(1, start=timezone.now().replace(year=1999)))]))
    assert retain("--older-than-days", "365")["dropped"][0]["partition"] == f"{TABLE}_early"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT to_regclass('{TABLE}_early') IS NOT NULL")
        assert cursor.fetchone() == (True,)
    assert findings(run) == []
