"""Ingestion: once, in order, without holes, whole batches only."""

from __future__ import annotations

import json
import threading
import time
import uuid

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from rootbound_backend import tokens
from rootbound_backend.apps.attempts.ingest import MAX_PAYLOAD_BYTES
from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent, Gate
from rootbound_backend.apps.local_access.models import FsAuditEvent
from tests.integration.backend.backend_support import (
    BASE,
    HEAD,
    audit_chain,
    event,
    gate,
    ingest_client,
    make_attempt,
    post_audit,
    post_events,
    status,
    way_to_review,
)


def _raw(attempt, body: bytes):
    return ingest_client(attempt).post(
        f"/api/attempts/{attempt.pk}/events/", data=body, content_type="application/json"
    )


def _stored(attempt):
    return list(AttemptEvent.objects.filter(attempt=attempt).order_by("seq"))


def _source_lines(attempt):
    return [one.payload["delta"] for one in _stored(attempt) if "delta" in one.payload]


@pytest.mark.django_db
def test_a_batch_is_stored_once_however_often_it_is_sent(user):
    attempt = make_attempt(user)
    assert post_events(attempt, [event(1), event(2)]).json() == {"seq": 2}
    assert post_events(attempt, [event(1), event(2)]).json() == {"seq": 2}
    assert post_events(attempt, [event(2), event(3)]).json() == {"seq": 3}
    assert _source_lines(attempt) == ["line 1", "line 2", "line 3"]
    assert [one.seq for one in _stored(attempt)] == [1, 2, 3, 4, 5]
    attempt.refresh_from_db()
    assert (attempt.last_seq, attempt.last_source_seq) == (5, 3)


@pytest.mark.django_db
def test_a_token_that_was_good_expires_and_goes_with_its_key(user, monkeypatch, tmp_path):
    attempt = make_attempt(user)
    sender = ingest_client(attempt)

    def answer() -> int:
        return sender.post(f"/api/attempts/{attempt.pk}/events/", [], format="json").status_code

    assert answer() == 200
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + tokens.INGEST_TOKEN_TTL_S + 60)
    assert answer() == 401
    monkeypatch.undo()
    assert answer() == 200
    (tmp_path / "django.key").write_text("another key, as long as a key has to be: 0123456789")
    monkeypatch.setattr(settings, "SECRETS_DIR", tmp_path)
    assert answer() == 401


@pytest.mark.django_db
def test_a_hole_is_refused_with_what_is_expected(user):
    attempt = make_attempt(user)
    post_events(attempt, [event(1)])
    for events in ([event(3)], [event(2), event(4)], [event(2), event(2)]):
        answer = post_events(attempt, events)
        assert (answer.status_code, answer.json()["code"]) == (409, "sequence-gap")
        assert answer.json()["expected_seq"] in {2, 3}
    assert _source_lines(attempt) == ["line 1"]


@pytest.mark.django_db
def test_a_stale_generation_is_fenced_off(user):
    attempt = make_attempt(user)
    Attempt.objects.filter(pk=attempt.pk).update(lease_generation=2)
    answer = post_events(attempt, [event(1)], generation=1)
    assert (answer.status_code, answer.json()["code"]) == (409, "fenced")
    assert post_events(attempt, [event(1)], generation=2).status_code == 200
    audit = post_audit(attempt, audit_chain(1), generation=1)
    assert (audit.status_code, audit.json()["code"]) == (409, "fenced")
    body = {"lease_generation": 2, "events": []}
    mixed = ingest_client(attempt, 1).post(f"/api/attempts/{attempt.pk}/events/", body)
    assert mixed.json()["code"] == "fenced"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seq": 0}, "events[1].seq"),
        ({"seq": "2"}, "events[1].seq"),
        ({"type": "GOSSIP"}, "events[1].type"),
        ({"timestamp": "2026-01-02T03:04:05"}, "events[1].timestamp"),
        ({"timestamp": "yesterday"}, "events[1].timestamp"),
        ({"payload": [1]}, "events[1].payload"),
        ({"payload": {"delta": "x" * MAX_PAYLOAD_BYTES}}, "events[1].payload"),
        ({"extra": 1}, "events[1]"),
        ({"type": "STATUS", "payload": {"status": "DONE"}}, "events[1].payload.status"),
        ({"type": "STATUS", "payload": {}}, "events[1].payload"),
        ({"type": "ARTIFACT", "payload": {"kind": "gate"}}, "events[1].payload"),
    ],
)
def test_one_bad_row_refuses_the_whole_batch_by_name(user, change, named):
    attempt = make_attempt(user)
    answer = post_events(attempt, [event(1), {**event(2), **change}])
    assert answer.status_code == 400, answer.content
    assert answer.json()["code"] == "invalid"
    assert named in answer.json()["detail"]
    assert _source_lines(attempt) == []
    attempt.refresh_from_db()
    assert (attempt.last_source_seq, attempt.status) == (0, "QUEUED")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"\xff", b'{"lease_generation":1}', b"[" * 9000]
)
def test_what_is_not_a_batch_is_a_400(user, body):
    answer = _raw(make_attempt(user), body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


@pytest.mark.django_db
def test_nul_and_lone_surrogates_are_replaced(user):
    attempt = make_attempt(user)
    text = json.dumps({"lease_generation": 1, "events": [event(1, kind="text", delta="@")]})
    body = text.replace("@", r"a\u0000b\udcffc\ud83d\ude00d\\u0000").encode()
    assert _raw(attempt, body).json() == {"seq": 1}
    assert _source_lines(attempt) == ["a\ufffdb\ufffdc😀d\\u0000"]
    entries = audit_chain(1)
    raw = json.dumps({"run_id": str(attempt.pk), "attempt_id": str(attempt.pk),
                      "lease_generation": 1, "entries": entries})  # fmt: skip
    raw = raw.replace("/srv/sample/", r"/srv/\u0000\udc80/")
    answer = ingest_client(attempt).post(
        "/api/audit/ingest/", data=raw.encode(), content_type="application/json"
    )
    assert answer.status_code == 200
    assert FsAuditEvent.objects.get().path.startswith("/srv/\ufffd\ufffd/")


@pytest.mark.django_db
def test_a_number_that_cannot_be_stored_is_a_400(user):
    attempt = make_attempt(user)
    text = json.dumps({"lease_generation": 1, "events": [event(1, kind="text", delta=7)]})
    answer = _raw(attempt, text.replace("7}", "1e999999}").encode())
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert post_events(attempt, [event(1)]).json() == {"seq": 1}


@pytest.mark.django_db
def test_a_heartbeat_extends_the_lease_and_the_first_report_starts_the_run(user):
    attempt = make_attempt(user)
    assert post_events(attempt, []).json() == {"seq": 0}
    attempt.refresh_from_db()
    assert attempt.status == "RUNNING"
    assert attempt.handed_over_at is not None
    Attempt.objects.filter(pk=attempt.pk).update(lease_expires_at=attempt.created_at)
    post_events(attempt, [])
    attempt.refresh_from_db()
    assert attempt.lease_expires_at > attempt.created_at


@pytest.mark.django_db
def test_a_good_run_comes_to_review_with_its_task(user):
    attempt = make_attempt(user)
    assert post_events(attempt, way_to_review()).json() == {"seq": 8}
    attempt.refresh_from_db()
    attempt.task.refresh_from_db()
    assert (attempt.status, attempt.task.status) == ("REVIEW", "REVIEW")
    assert (attempt.base_commit, attempt.head_commit, attempt.exit_code) == (BASE, HEAD, 0)
    assert attempt.lease_expires_at is None
    assert Gate.objects.filter(attempt=attempt, commit=HEAD).count() == 3
    statuses = [one.payload["status"] for one in _stored(attempt) if one.type == "STATUS"]
    assert statuses == ["QUEUED", "RUNNING", "GATES", "REVIEW"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("index", "instead", "says"),
    [
        (4, gate(5, "install", 1), "install gate is not green"),
        (5, event(6), "lint gate did not run"),
        (6, gate(7, "test", 1), "test gate is not green"),
        (6, gate(7, "test", None), "test gate is not green"),
        (6, gate(7, "test", 0, "d" * 40), "test gate did not run"),
        (7, status(8, "REVIEW", head_commit="e" * 40), "No gate ran"),
        (7, status(8, "REVIEW"), "without a commit"),
        (7, status(8, "REVIEW", head_commit=BASE), "without any change"),
    ],
)
def test_review_needs_green_evidence_at_the_head(user, index, instead, says):
    attempt = make_attempt(user)
    events = way_to_review()
    events[index] = instead
    assert post_events(attempt, events).json() == {"seq": 8}
    attempt.refresh_from_db()
    assert (attempt.status, attempt.failure) == ("FAILED", "INTERNAL")
    assert says in attempt.failure_message
    last = _stored(attempt)[-1]
    assert (last.payload["status"], last.payload["failure"]) == ("FAILED", "INTERNAL")


@pytest.mark.django_db
def test_a_failure_is_applied_and_frees_the_task(user):
    attempt = make_attempt(user)
    post_events(attempt, [event(1), status(2, "FAILED", failure="AGENT_LIMIT_STEPS")])
    attempt.refresh_from_db()
    attempt.task.refresh_from_db()
    assert (attempt.status, attempt.failure) == ("FAILED", "AGENT_LIMIT_STEPS")
    assert "max_steps" in attempt.failure_message
    assert attempt.task.status == "TODO"
    bad = post_events(attempt, [status(3, "FAILED", failure="BAD_MOOD")])
    assert bad.status_code == 400


@pytest.mark.django_db
def test_reports_after_the_end_are_kept_but_change_nothing(user, client):
    attempt = make_attempt(user)
    post_events(attempt, [event(1)])
    client.post(f"/api/attempts/{attempt.pk}/cancel/")
    answer = post_events(attempt, [event(2), status(3, "GATES"), status(4, "FAILED")])
    assert answer.json() == {"seq": 4}
    attempt.refresh_from_db()
    assert attempt.failure == "CANCELLED"
    assert "changes nothing" in _stored(attempt)[-2].payload["text"]


@pytest.mark.django_db(transaction=True)
def test_overlapping_batches_of_eight_threads_leave_no_hole_and_no_double(user):
    attempt = make_attempt(user)
    total, size = 400, 20
    errors: list[str] = []

    def sender(offset: int) -> None:
        try:
            client = ingest_client(attempt)
            address = f"/api/attempts/{attempt.pk}/events/"
            start = 1
            while start <= total:
                last = min(total, start + size + offset - 1)
                events = [event(seq) for seq in range(start, last + 1)]
                body = {"lease_generation": 1, "events": events}
                answer = client.post(address, body, format="json")
                if answer.status_code == 200:
                    start = min(answer.json()["seq"], last) + 1 - offset % 3
                    if answer.json()["seq"] >= total:
                        return
                elif answer.status_code == 409:
                    start = answer.json()["expected_seq"]
                else:
                    errors.append(answer.content.decode())
                    return
        finally:
            connection.close()

    threads = [threading.Thread(target=sender, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert _source_lines(attempt) == [f"line {seq}" for seq in range(1, total + 1)]
    rows = list(AttemptEvent.objects.order_by("id").values_list("seq", flat=True))
    assert rows == list(range(1, len(rows) + 1))


@pytest.mark.django_db
def test_the_audit_log_is_stored_counted_and_listed(user, client, other):
    attempt = make_attempt(user)
    entries = audit_chain(6, denied=frozenset({2, 5}))
    assert post_audit(attempt, entries[:4]).json() == {"seq": 4}
    assert post_audit(attempt, entries).json() == {"seq": 6}
    assert post_audit(attempt, entries).json() == {"seq": 6}
    facts = client.get(f"/api/attempts/{attempt.pk}/").json()
    assert facts["denied_count"] == 2
    listed = client.get("/api/audit/logs/", {"attempt": str(attempt.pk), "limit": 4}).json()
    assert [one["seq"] for one in listed["results"]] == [6, 5, 4, 3]
    query = {"attempt": str(attempt.pk), "limit": 4, "cursor": listed["next"]}
    rest = client.get("/api/audit/logs/", query).json()["results"]
    assert [one["seq"] for one in rest] == [2, 1]
    denied = client.get("/api/audit/logs/", {"result": "DENIED"}).json()["results"]
    assert [one["seq"] for one in denied] == [5, 2]
    assert denied[0]["detail"] == {"tool": "write_file", "pid": 5}
    assert denied[0]["attempt"] == str(attempt.pk)
    project = {"project": str(attempt.task.project_id)}
    assert len(client.get("/api/audit/logs/", project).json()["results"]) == 6
    prefix = {"path_prefix": "/srv/sample/Grün 3"}
    assert len(client.get("/api/audit/logs/", prefix).json()["results"]) == 1
    counts = client.get("/api/audit/summary/", project).json()["counts"]
    assert {"operation": "WRITE", "result": "DENIED", "count": 1} in counts
    assert sum(one["count"] for one in counts) == 6
    assert other.get("/api/audit/logs/").json()["results"] == []
    assert other.get("/api/audit/summary/", project).json() == {"counts": []}
    assert client.get("/api/audit/logs/", {"result": "MAYBE"}).status_code == 400


@pytest.mark.django_db
def test_audit_holes_and_bad_rows_are_refused(user):
    attempt = make_attempt(user)
    entries = audit_chain(3)
    gap = post_audit(attempt, entries[1:])
    assert (gap.json()["code"], gap.json()["expected_seq"]) == ("sequence-gap", 1)
    for change, named in [
        ({"operation": "CHMOD"}, "entries[1].operation"),
        ({"path": "x" * 1025}, "entries[1].path"),
        ({"hash": "x"}, "entries[1].hash"),
        ({"detail": 1}, "entries[1].detail"),
    ]:
        answer = post_audit(attempt, [entries[0], {**entries[1], **change}])
        assert answer.status_code == 400
        assert named in answer.json()["detail"]
    assert FsAuditEvent.objects.count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE local_access_fsauditevent SET path = 'x'",
        "DELETE FROM local_access_fsauditevent",
        (
            "ALTER TABLE local_access_fsauditevent ENABLE ALWAYS TRIGGER audit_no_truncate;"
            "TRUNCATE local_access_fsauditevent"
        ),
    ],
)
def test_the_audit_log_cannot_be_changed(user, statement):
    post_audit(make_attempt(user), audit_chain(2))
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert FsAuditEvent.objects.count() == 2


@pytest.mark.django_db
def test_the_audit_log_outlives_its_project(user, client):
    attempt = make_attempt(user)
    post_audit(attempt, audit_chain(2))
    client.post(f"/api/attempts/{attempt.pk}/cancel/")
    assert client.delete(f"/api/projects/{attempt.task.project_id}/").status_code == 204
    assert len(client.get("/api/audit/logs/").json()["results"]) == 2
    assert AttemptEvent.objects.count() == 0


@pytest.mark.django_db
def test_the_audit_table_can_become_a_hypertable(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'local_access_fsauditevent'"
        )
        indexes = [row[0] for row in cursor.fetchall()]
        cursor.execute(
            "SELECT count(*) FROM pg_constraint WHERE contype = 'f' "
            "AND conrelid = 'local_access_fsauditevent'::regclass"
        )
        assert cursor.fetchone() == (0,)
    unique = [index for index in indexes if "UNIQUE" in index]
    assert len(unique) == 2
    assert all('"timestamp"' in index for index in unique)
    assert any("brin" in index for index in indexes)


@pytest.mark.django_db
def test_a_deleted_attempt_is_a_404_for_its_run(user):
    attempt = make_attempt(user)
    attempt_id = attempt.pk
    client = ingest_client(attempt)
    attempt.task.project.delete()
    body = {"lease_generation": 1, "events": []}
    assert client.post(f"/api/attempts/{attempt_id}/events/", body).status_code == 404
    assert client.post(f"/api/attempts/{uuid.uuid4()}/events/", body).status_code == 404
