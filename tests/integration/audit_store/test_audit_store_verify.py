"""Verification: a whole log is whole, and each kind of tampering is found and named."""

from __future__ import annotations

import json

import pytest

from rootbound_backend.apps.local_access.audit import verify
from rootbound_backend.apps.local_access.audit.verify import Report, RunVerifier, verify_runs
from rootbound_backend.apps.local_access.ingest import decode_audit, ingest_audit
from rootbound_backend.apps.local_access.models import AuditWatermark, FsAuditEvent
from rootbound_lda.audit import GENESIS_HASH, entry_hash
from tests.integration.audit_store.audit_support import (
    TABLE,
    chained,
    findings,
    grant_of,
    insert_like,
    make_run,
    records,
    row,
    store,
    stored_run,
    tampering,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(user):
    return stored_run(user)


def update(run, seq, **changes):
    cells = ", ".join(f'"{name}" = %({name})s' for name in changes)
    with tampering() as cursor:
        cursor.execute(
            f"UPDATE {TABLE} SET {cells} WHERE run_id = %(run)s AND seq = %(place)s",
            {**changes, "run": run.pk, "place": seq},
        )
        assert cursor.rowcount == 1


def named(found):
    return [(one.run_id, one.seq, one.id, one.kind) for one in found]


def test_a_whole_log_is_whole(user, run):
    other = stored_run(user, 3)
    assert findings() == []
    report = verify_runs(None)
    assert (report.ok, report.runs, report.entries) == (True, 2, 23)
    assert findings(run) == findings(other) == []


def test_what_cannot_be_stored_does_not_break_the_chain(user):
    run = make_run(user)
    (entry,) = chained(records(1))
    del entry["hash"]
    entry["detail"] = {"program": "/bin/a\x00b", "deep": [{"\ud800": 1}]}
    entry["hash"] = entry_hash(GENESIS_HASH, entry)
    grant = grant_of(run)
    assert ingest_audit(grant=grant, batch=decode_audit(_encoded([entry]), grant=grant)) == 1
    assert row(run, 1).detail["program"] == "/bin/a\ufffdb"
    assert findings(run) == []
    update(run, 1, detail=json.dumps({**row(run, 1).detail, "program": "/bin/innocent"}))
    assert named(findings(run)) == [(run.pk, 1, row(run, 1).id, "changed")]


def _encoded(entries):
    return json.dumps(entries).encode()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"path": "/srv/sample/innocent.py"}, "path"),
        ({"result": "DENIED"}, "result, from ALLOWED to DENIED"),
        ({"operation": "READ"}, "operation, from WRITE to READ"),
        ({"source": "tool"}, "source, from kernel to tool"),
        ({"detail": "{}"}, "detail"),
        ({"timestamp": "2026-01-02T03:04:00Z"}, "time"),
        ({"hash": "0" * 64}, "hash"),
    ],
)
def test_a_changed_entry_is_named(run, changes, word):
    update(run, 7, **changes)
    (found,) = findings(run)
    assert named([found]) == [(run.pk, 7, row(run, 7).id, "changed")]
    assert word in found.detail


def test_the_first_and_the_last_entry_are_not_exempt(run):
    update(run, 1, path="/x")
    update(run, 20, path="/x")
    assert [(one.seq, one.kind) for one in findings(run)] == [(1, "changed"), (20, "changed")]


def test_a_missing_entry_is_named(run):
    with tampering() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE run_id = %s AND seq IN (4, 5, 11)", [run.pk])
    assert [(one.seq, one.id, one.kind) for one in findings(run)] == [
        (4, None, "missing"),
        (5, None, "missing"),
        (11, None, "missing"),
    ]


def test_a_missing_tail_is_named(run):
    with tampering() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE run_id = %s AND seq > 17", [run.pk])
    assert [(one.seq, one.kind) for one in findings(run)] == [
        (18, "truncated"),
        (19, "truncated"),
        (20, "truncated"),
    ]


def test_a_missing_run_is_named(user, run):
    with tampering() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE run_id = %s", [run.pk])
    found = findings(user=user)
    assert {one.kind for one in found} == {"truncated"}
    assert [one.seq for one in found] == list(range(1, 21))


def test_a_doubled_row_is_named(run):
    with tampering() as cursor:
        insert_like(cursor, run, 6, timestamp="2026-01-02T09:00:00Z")
    twins = FsAuditEvent.objects.filter(run_id=run.pk, seq=6).order_by("id")
    (found,) = findings(run)
    assert named([found]) == [(run.pk, 6, twins[1].id, "doubled")]


def test_a_row_doubled_behind_the_end_is_named(run):
    with tampering() as cursor:
        insert_like(cursor, run, 6, seq=21)
    (found,) = findings(run)
    assert named([found]) == [(run.pk, 21, row(run, 21).id, "doubled")]


@pytest.mark.parametrize(("one", "other"), [(8, 9), (3, 17), (1, 20)])
def test_swapped_rows_are_named(run, one, other):
    first, second = row(run, one), row(run, other)
    with tampering() as cursor:
        statement = f"UPDATE {TABLE} SET seq = %s WHERE id = %s"
        for seq, row_id in [(1000, first.id), (one, second.id), (other, first.id)]:
            cursor.execute(statement, [seq, row_id])
    assert named(findings(run)) == [
        (run.pk, one, second.id, "reordered"),
        (run.pk, other, first.id, "reordered"),
    ]


def test_a_forged_row_beside_a_genuine_one_is_named(run):
    with tampering() as cursor:
        insert_like(cursor, run, 6, timestamp="2026-01-02T09:00:00Z", path="/srv/forged")
    forged = FsAuditEvent.objects.get(path="/srv/forged")
    (found,) = findings(run)
    assert named([found]) == [(run.pk, 6, forged.id, "inserted")]


def test_a_forged_end_is_named_although_it_is_chained(run):
    last = row(run, 20)
    (forged,) = chained(records(1, path="/srv/forged"), seq=21, prev=last.hash)
    with tampering() as cursor:
        insert_like(cursor, run, 20, seq=21, path="/srv/forged", timestamp=forged["timestamp"],
                    operation=forged["operation"], detail=json.dumps(forged["detail"]),
                    hash=forged["hash"])  # fmt: skip
    (found,) = findings(run)
    assert named([found]) == [(run.pk, 21, row(run, 21).id, "inserted")]


def test_a_rewritten_chain_is_found_by_its_seal(run):
    """Whoever recomputes the whole chain and the watermark has not got the key of the seal."""
    forged = chained(records(20, path="/srv/forged"))
    with tampering() as cursor:
        for entry in forged:
            cursor.execute(
                f"UPDATE {TABLE} SET path = %s, hash = %s WHERE run_id = %s AND seq = %s",
                [entry["path"], entry["hash"], run.pk, entry["seq"]],
            )
        cursor.execute(
            "UPDATE local_access_auditwatermark SET last_hash = %s WHERE run_id = %s",
            [forged[-1]["hash"], run.pk],
        )
    assert [(one.seq, one.kind) for one in findings(run)] == [(20, "watermark")]


def test_a_run_that_nobody_reported_is_found(user, run):
    with tampering() as cursor:
        stranger = "00000000-0000-0000-0000-000000000001"
        insert_like(cursor, run, 1, run_id=stranger)
    (found,) = findings(user=user)
    assert (str(found.run_id), found.seq, found.kind) == (stranger, 1, "inserted")


@pytest.mark.parametrize("seq", [1, 9])
def test_rows_moved_to_another_run_are_named_on_both_sides(user, run, seq):
    other = stored_run(user, 20, step_s=2, start=records(1).__next__().timestamp.replace(hour=9))
    row_id = row(run, seq).id
    with tampering() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET run_id = %s WHERE id = %s", [other.pk, row_id])
    found = {(one.run_id, one.seq, one.id, one.kind): one for one in findings(user=user)}
    assert set(found) == {
        (run.pk, seq, None, "missing"),
        (other.pk, seq, row_id, "moved"),
    }
    assert str(run.pk) in found[other.pk, seq, row_id, "moved"].detail
    if seq > 1:
        assert str(other.pk) in found[run.pk, seq, None, "missing"].detail


def test_entries_that_come_in_meanwhile_are_no_forgery(user, run):
    """The watermark is read before the rows behind it, and looked at again."""
    report = Report()
    verifier = RunVerifier(run.pk, report)
    last = row(run, 20)
    store(run, chained(records(5), seq=21, prev=last.hash))
    assert verifier.walk(1000)
    assert report.findings == []
    assert AuditWatermark.objects.get(pk=run.pk).last_seq == 25


def test_a_flood_of_tampering_is_told_in_parts(user, monkeypatch):
    monkeypatch.setattr(verify, "MAX_FINDINGS", 20)
    run = stored_run(user, 30)
    with tampering() as cursor:
        cursor.execute(f"UPDATE {TABLE} SET path = '/x' WHERE run_id = %s", [run.pk])
    first = verify_runs([run.pk])
    assert 20 <= len(first.findings) < 30
    assert first.next is not None
    second = verify_runs([run.pk], cursor=first.next)
    assert len(first.findings) + len(second.findings) == 30


def test_over_http(client, user, run):
    address = "/api/audit/verify/"
    query = {"run": str(run.pk), "limit": 8}
    first = client.get(address, query).json()
    assert (first["ok"], first["runs"], first["entries"]) == (True, 0, 8)
    second = client.get(address, {**query, "cursor": first["next"]}).json()
    third = client.get(address, {**query, "cursor": second["next"]}).json()
    assert (third["runs"], third["entries"], third["next"]) == (1, 4, None)
    update(run, 7, path="/x")
    answer = client.get(address, {"project": str(run.task.project_id)}).json()
    assert (answer["ok"], answer["findings"][0]["seq"]) == (False, 7)
    assert client.get(address, {"cursor": "nonsense"}).json()["errors"].keys() == {"cursor"}
    assert client.get(address, {"run": "00000000-0000-0000-0000-000000000009"}).status_code == 404
