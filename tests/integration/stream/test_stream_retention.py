"""What is kept, for how long, where, and what happens when there is no more room."""

from __future__ import annotations

import importlib
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from rootbound_backend.apps.attempts.disk import measure_disk, remove_orphans
from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent
from rootbound_backend.apps.attempts.partitions import ensure_partitions, list_partitions, week_of
from rootbound_backend.apps.attempts.retention import MIB, clear_away, project_use
from rootbound_backend.apps.attempts.tasks import tend_events_task
from rootbound_backend.apps.attempts.transitions import apply_transition
from rootbound_backend.apps.projects.models import Project
from tests.integration.backend.backend_support import (
    event,
    make_attempt,
    make_project,
    make_task,
    post_events,
)

pytestmark = pytest.mark.django_db


def ended(user, project=None, *, days_ago: float = 0, size: int = 100) -> Attempt:
    """An ended attempt with three stored events of a run, made and ended in the past."""
    task = make_task(project or make_project(user))
    attempt = make_attempt(user, task)
    made = timezone.now() - timedelta(days=days_ago)
    Attempt.objects.filter(pk=attempt.pk).update(created_at=made)
    AttemptEvent.objects.filter(attempt=attempt).update(attempt_created_at=made)
    post_events(attempt, [event(seq, kind="text", delta="x" * size) for seq in (1, 2, 3)])
    apply_transition(attempt_id=attempt.pk, to="FAILED", failure="CANCELLED")
    Attempt.objects.filter(pk=attempt.pk).update(completed_at=made)
    attempt.refresh_from_db()
    return attempt


def count(attempt) -> int:
    return AttemptEvent.objects.filter(attempt=attempt).count()


def where(attempt) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT tableoid::regclass::text FROM attempts_attemptevent "
            "WHERE attempt_id = %s",
            [attempt.pk],
        )
        ((name,),) = cursor.fetchall()
    return name


def test_an_attempts_events_lie_in_the_partition_of_its_week(user):
    attempt = make_attempt(user)
    # Their own clocks may say what they like.
    odd = [event(1), {**event(2), "timestamp": "1999-01-01T00:00:00Z"}]
    assert post_events(attempt, odd).status_code == 200
    assert where(attempt) == f"attempts_attemptevent_w{week_of(attempt.created_at):%Y%m%d}"


def test_partitions_are_made_ahead_and_take_in_what_waited(user):
    old = ended(user, days_ago=70)
    assert where(old) == "attempts_attemptevent_default"
    now = timezone.now()
    future = now + timedelta(weeks=3)
    assert ensure_partitions(future) == 4
    assert ensure_partitions(future) == 0
    assert where(old) == f"attempts_attemptevent_w{week_of(old.created_at):%Y%m%d}"
    assert count(old) == 6
    starts = {one.start for one in list_partitions()}
    assert {week_of(now) + timedelta(weeks=week) for week in range(8)} <= starts


def test_the_weeks_begin_on_monday_in_utc():
    sunday = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    assert week_of(sunday) == datetime(2026, 2, 23, tzinfo=UTC)
    assert week_of(sunday + timedelta(seconds=1)) == datetime(2026, 3, 2, tzinfo=UTC)


def test_age_removes_whole_partitions_and_keeps_the_attempts(client, user):
    old, young = ended(user, days_ago=200), ended(user, days_ago=1)
    ensure_partitions(timezone.now())
    partition = where(old)
    folder = Path(settings.HOME) / "artifacts" / str(old.pk)
    folder.mkdir(parents=True)
    (folder / "test.log").write_text("long")
    assert clear_away(timezone.now()) == 1
    assert partition not in {one.name for one in list_partitions()}
    assert (count(old), count(young)) == (0, 6)
    assert not folder.exists()
    old.refresh_from_db()
    assert (old.status, old.first_seq, old.last_seq, old.event_bytes) == ("FAILED", 7, 6, 0)
    assert clear_away(timezone.now()) == 0
    page = client.get(f"/api/attempts/{old.pk}/events/").json()
    assert page == {"results": [], "next": None, "previous": None, "first_seq": 7, "last_seq": 6}


def test_each_project_has_its_own_rule(user):
    short = make_project(user, retention={"days": 1})
    for_ever = make_project(user, retention={"days": None, "max_mb": None})
    gone, kept = ended(user, short, days_ago=200), ended(user, for_ever, days_ago=200)
    fresh = ended(user, short, days_ago=0.5)
    ensure_partitions(timezone.now())
    assert where(gone) == where(kept)
    assert clear_away(timezone.now()) == 1
    # The week's partition stays for the one that is kept in it.
    assert (count(gone), count(kept), count(fresh)) == (0, 6, 6)


def test_size_removes_the_oldest_ended_ones_only(user):
    project = make_project(user, retention={"max_mb": 1})
    attempts = [ended(user, project, days_ago=days, size=120_000) for days in (4, 3, 2, 1)]
    live = make_attempt(user, make_task(project))
    post_events(live, [event(seq, kind="text", delta="x" * 120_000) for seq in (1, 2, 3)])
    assert project_use(project).total > MIB
    assert clear_away(timezone.now()) == 3
    assert [count(one) > 0 for one in attempts] == [False, False, False, True]
    assert count(live) > 0
    assert project_use(project).total < MIB
    assert clear_away(timezone.now()) == 0


def test_the_quota_warns_in_the_stream_and_then_stops(client, user):
    project = make_project(user, retention={"max_mb": 1})
    live = make_attempt(user, make_task(project))
    big = [event(seq, kind="text", delta="x" * 225_000) for seq in (1, 2, 3, 4)]
    post_events(live, big)
    task = make_task(project, "Another")
    warned = client.post(f"/api/tasks/{task.pk}/attempts/", {})
    assert warned.status_code == 201, warned.content
    (notice,) = AttemptEvent.objects.filter(attempt_id=warned.json()["id"], type="LOG")
    assert notice.payload["kind"] == "notice"
    assert "of 1 MB" in notice.payload["text"]
    usage = client.get("/api/usage/").json()["projects"]
    assert [one["state"] for one in usage if one["id"] == str(project.pk)] == ["warning"]
    post_events(live, [event(5, kind="text", delta="x" * 200_000)])
    last = make_task(project, "One more")
    refused = client.post(f"/api/tasks/{last.pk}/attempts/", {})
    assert (refused.status_code, refused.json()["code"]) == (507, "quota-exceeded")
    assert "retention.max_mb" in refused.json()["detail"]
    assert not Attempt.objects.filter(task=last).exists()
    answer = client.patch(f"/api/projects/{project.pk}/", {"config": {"retention": {"max_mb": 10}}})
    assert answer.status_code == 200, answer.content
    assert client.post(f"/api/tasks/{last.pk}/attempts/", {}).status_code == 201


def test_a_full_disk_refuses_new_work(client, user, monkeypatch):
    make_attempt(user)
    monkeypatch.setattr(settings, "MIN_FREE_MB", shutil.disk_usage("/").total // MIB + 1)
    task = make_task(Project.objects.get())
    answer = client.post(f"/api/tasks/{task.pk}/attempts/", {})
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")


@pytest.mark.parametrize("rule", [{"days": 0}, {"max_mb": 0}, {"days": "x"}, {"weeks": 1}, 7])
def test_a_rule_that_cannot_be_kept_is_refused(client, user, rule):
    project = make_project(user)
    answer = client.patch(f"/api/projects/{project.pk}/", {"config": {"retention": rule}})
    assert answer.status_code == 400


def test_disk_use_is_measured_shown_and_orphans_go(client, user):
    import os

    attempt = ended(user)
    folder = Path(settings.HOME) / "artifacts" / str(attempt.pk)
    folder.mkdir(parents=True)
    (folder / "test.log").write_bytes(b"x" * 100_000)
    orphan = Path(settings.HOME) / "artifacts" / "00000000-0000-4000-8000-000000000000"
    orphan.mkdir()
    os.utime(orphan, (0, 0))
    report = measure_disk(timezone.now())
    assert report["parts"]["artifacts"] >= 100_000
    assert report["parts"]["postgres"] > MIB
    attempt.refresh_from_db()
    assert 100_000 <= attempt.file_bytes < 200_000
    assert remove_orphans() == 1
    assert folder.exists()
    assert not orphan.exists()
    document = client.get("/api/usage/").json()
    assert document["disk"]["parts"] == report["parts"]
    assert document["disk"]["free_bytes"] > 0
    shutil.rmtree(folder)
    measure_disk(timezone.now())
    attempt.refresh_from_db()
    assert attempt.file_bytes == 0


def test_the_task_does_all_of_it(user):
    old = ended(user, days_ago=200)
    assert tend_events_task() == 1
    assert count(old) == 0


def test_the_migration_goes_back_and_forth_without_losing_an_event(user):
    attempt = ended(user)
    columns = ("id", "attempt_id", "seq", "timestamp", "type", "payload")

    def rows() -> list:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(columns)} FROM attempts_attemptevent ORDER BY id")
            return cursor.fetchall()

    def kind() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT relkind FROM pg_class WHERE relname = 'attempts_attemptevent'")
            ((value,),) = cursor.fetchall()
        return value

    before = rows()
    assert len(before) == 6
    migration = importlib.import_module(
        "rootbound_backend.apps.attempts.migrations.0002_event_partitions"
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(migration.PLAIN)
        assert (kind(), rows()) == ("r", before)
        Attempt.objects.update(event_bytes=0)
        cursor.execute(migration.PARTITION)
        assert (kind(), rows()) == ("p", before)
        attempt.refresh_from_db()
        assert attempt.event_bytes > 300
        with connection.cursor() as cursor:
            cursor.execute("SELECT nextval(pg_get_serial_sequence('attempts_attemptevent', 'id'))")
            assert cursor.fetchone()[0] > before[-1][0]
        transaction.set_rollback(True)
