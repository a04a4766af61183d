"""Schedules against a real database, an LDA of the tests' own, and a clock that is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.local_access.access_models import AccessRequest
from rootbound_backend.apps.local_access.models import PMDecomposition, WritableRoot
from rootbound_backend.apps.local_access.selectors import agent_folders
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.schedules import services
from rootbound_backend.apps.schedules.models import Notice, Schedule, ScheduleRun
from rootbound_backend.apps.schedules.running import tend_runs
from rootbound_backend.apps.schedules.services import fire_due
from tests.integration.backend.backend_support import (
    make_agent,
    make_attempt,
    make_project,
    make_task,
)
from tests.integration.backend.test_backend_plans import PLAN, report

pytestmark = pytest.mark.django_db

NIGHT = datetime(2026, 3, 28, 1, 30, tzinfo=UTC)
"""02:30 in Berlin, the night before the clocks go forward."""


@pytest.fixture
def clock(monkeypatch):
    """The services' clock; ``clock.now`` moves it."""

    class Clock:
        now = NIGHT - timedelta(hours=1)

    monkeypatch.setattr(services.timezone, "now", lambda: Clock.now)
    return Clock


def make(client, user, **fields):
    project = make_project(user)
    body = {
        "name": "Nightly", "project_id": str(project.pk), "kind": "PLAN", "prompt": "Tidy up",
        "crontab": "30 2 * * *", "timezone": "Europe/Berlin", **fields,
    }  # fmt: skip
    answer = client.post("/api/schedules/", body)
    assert answer.status_code == 201, answer.content
    return answer.json()


def make_batch(client, user, **fields):
    WritableRoot.objects.get_or_create(user=user, path="/srv", canonical_path="/srv")
    return make(client, user, kind="BATCH", notebook="/srv/sample/night.ipynb", **fields)


def granted_for_a_task(user):
    attempt = make_attempt(user, make_task(Project.objects.filter(owner=user).last()))
    AccessRequest.objects.create(
        attempt=attempt, run_id=attempt.pk, folder="/data/out", operation="WRITE", status="GRANTED",
        scope="TASK", granted_folder="/data/out", path="/data/out/x", last_denied_at=timezone.now(),
    )  # fmt: skip


def history(client, schedule):
    return client.get(f"/api/schedules/{schedule['id']}/runs/").json()["results"]


def batch_state(lda, state, **facts):
    known = {"state": state, "exit_code": None, "message": "", "has_report": False, **facts}
    lda.answer("GET", r"/batches/[0-9a-f-]+", 200, known)


def test_a_schedule_is_kept_changed_paused_and_only_its_owners(client, other, user, clock):
    made = make(client, user)
    address = f"/api/schedules/{made['id']}/"
    assert made["next_run_at"] == "2026-03-28T01:30:00Z"
    assert client.get("/api/schedules/").json()["results"] == [made]
    assert other.get("/api/schedules/").json()["results"] == []
    changed = client.patch(address, {"crontab": "@hourly", "overlap": "QUEUE"}).json()
    assert (changed["crontab"], changed["next_run_at"]) == ("0 * * * *", "2026-03-28T01:00:00Z")
    paused = client.post(f"{address}pause/").json()
    assert (paused["is_enabled"], paused["next_run_at"]) == (False, None)
    clock.now += timedelta(days=3)
    assert fire_due(clock.now) == 0
    resumed = client.post(f"{address}resume/").json()
    assert resumed["next_run_at"] == "2026-03-31T01:00:00Z"
    for method, path in [
        ("get", address), ("patch", address), ("delete", address), ("post", f"{address}run/"),
        ("post", f"{address}pause/"), ("post", f"{address}resume/"), ("get", f"{address}runs/"),
    ]:  # fmt: skip
        assert getattr(other, method)(path).status_code == 404, path
    theirs = {"name": "x", "kind": "PLAN", "prompt": "x", "crontab": "@daily"}
    stolen = other.post("/api/schedules/", {**theirs, "project_id": made["project_id"]})
    assert stolen.status_code == 404
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


def test_a_crontab_is_looked_at_before_it_is_stored(client, clock):
    clock.now = NIGHT - timedelta(hours=1)
    found = client.get(
        "/api/schedules/preview/", {"crontab": "@daily", "timezone": "Europe/Berlin", "17": ""}
    ).json()
    assert found == {
        "crontab": "0 0 * * *",
        "next_runs": ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"],
    }
    refused = client.get("/api/schedules/preview/", {"crontab": "0 0 31 2 *"})
    assert refused.status_code == 400
    assert "never fires" in refused.json()["errors"]["crontab"][0]
    assert client.get("/api/schedules/preview/").status_code == 400


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"crontab": "0 0 31 2 *"}, "never fires"),
        ({"crontab": "often"}, "has 1 fields"),
        ({"timezone": "Mars/Olympus"}, "no time zone"),
        ({"prompt": " "}, "needs a prompt"),
        ({"kind": "BATCH", "notebook": "night.ipynb"}, "absolute path of a notebook"),
        ({"kind": "BATCH", "notebook": "/srv/../etc/night.ipynb"}, "absolute path"),
        ({"kind": "BATCH", "notebook": "/srv/out/night.ipynb"}, "Agents may write in /srv/out"),
        ({"kind": "BATCH", "parameters": {"a b": 1}}, "cannot be a notebook's parameter"),
        ({"overlap": "SOMETIMES"}, "not a valid choice"),
        ({"crontabs": "x"}, "no such field"),
    ],
)
def test_bad_schedules_are_refused_with_one_sentence(client, user, fields, sentence):
    WritableRoot.objects.create(user=user, path="/srv/out", canonical_path="/srv/out")
    body = {"name": "N", "project_id": str(make_project(user).pk), "kind": "PLAN", "prompt": "Do",
            "crontab": "@daily", **fields}  # fmt: skip
    answer = client.post("/api/schedules/", body)
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]
    assert not Schedule.objects.exists()


def test_it_is_due_once_each_night_over_the_change_of_clocks_and_once_after_sleep(
    client, user, clock, lda
):
    made = make(client, user, overlap="REPLACE")
    starts = []
    # A beat that looks every ten minutes, for three nights with the change in the middle.
    for _ in range(3 * 24 * 6 - 1):
        clock.now += timedelta(minutes=10)
        if fire_due(clock.now):
            starts.append(clock.now.strftime("%d %H:%M"))
    assert starts == ["28 01:30", "29 01:00", "30 00:30"]
    clock.now += timedelta(days=5)  # asleep
    assert [fire_due(clock.now), fire_due(clock.now)] == [1, 0]
    runs = history(client, made)
    assert [run["trigger"] for run in runs] == ["MISSED", "CRON", "CRON", "CRON"]
    assert Schedule.objects.get().next_run_at == datetime(2026, 4, 5, 0, 30, tzinfo=UTC)


def test_overlap_skip_queue_and_replace(client, user, lda):
    batch_state(lda, "RUNNING")
    lda.answer("POST", "/batches", 202, {"state": "RUNNING"})
    lda.answer("POST", r"/batches/[^/]+/cancel", 202, {"state": "RUNNING"})
    made = make_batch(client, user)
    address = f"/api/schedules/{made['id']}/"
    late = datetime(2030, 1, 1, tzinfo=UTC)
    assert client.post(f"{address}run/").status_code == 202
    tend_runs()
    fire_due(late)
    assert [run["status"] for run in history(client, made)] == ["SKIPPED", "RUNNING"]
    refused = client.post(f"{address}run/")
    assert (refused.status_code, refused.json()["code"]) == (409, "schedule-live")
    assert client.delete(address).json()["code"] == "schedule-live"
    client.patch(address, {"overlap": "QUEUE"})
    fire_due(late + timedelta(days=1))
    fire_due(late + timedelta(days=2))  # one waits already
    tend_runs()
    expected = ["SKIPPED", "WAITING", "SKIPPED", "RUNNING"]
    assert [run["status"] for run in history(client, made)] == expected
    batch_state(lda, "ENDED", exit_code=0, has_report=True)
    tend_runs()
    batch_state(lda, "RUNNING")
    tend_runs()
    expected = ["SKIPPED", "RUNNING", "SKIPPED", "SUCCESS"]
    assert [run["status"] for run in history(client, made)] == expected
    client.patch(address, {"overlap": "REPLACE"})
    fire_due(late + timedelta(days=3))
    tend_runs()
    expected = ["RUNNING", "SKIPPED", "CANCELLED", "SKIPPED", "SUCCESS"]
    assert [run["status"] for run in history(client, made)] == expected
    assert not Notice.objects.exists()


def test_a_batch_is_handed_to_the_lda_which_alone_runs_it(client, other, user, lda):
    lda.answer("POST", "/batches", 202, {"state": "RUNNING"})
    made = make_batch(client, user, parameters={"budget": 1.5}, prompt="Tidy", max_parallel=2)
    run = client.post(f"/api/schedules/{made['id']}/run/").json()
    address = f"/api/schedules/{made['id']}/runs/{run['id']}/"
    tend_runs()
    (sent,) = lda.bodies("/batches")
    assert sent["parameters"] == {"budget": 1.5, "prompt": "Tidy"}
    assert (sent["notebook"], sent["max_parallel"], sent["launch"]) == (made["notebook"], 2, 1)
    # What agents may write in is as granted by now, for a task as well; the LDA refuses it there.
    assert (sent["agent_folders"], sent["repositories"]) == (["/srv"], ["/srv/sample"])
    granted_for_a_task(user)
    assert agent_folders(user_id=user.pk)[0] == ["/data/out", "/srv"]
    # The notebook works in its owner's name.
    from rest_framework.test import APIClient

    mine = APIClient(headers={"Authorization": f"Bearer {sent['token']}"})
    assert len(mine.get("/api/schedules/").json()["results"]) == 1
    # Cut off, it goes on; as often as is sensible.
    batch_state(lda, "LOST")
    for launches in (2, 3):
        tend_runs()
        assert len(lda.bodies("/batches")) == launches
    assert client.get(f"{address}report/").status_code == 404
    batch_state(lda, "ENDED", exit_code=1, has_report=True, message="Two attempts failed.")
    tend_runs()
    ended = client.get(address).json()
    assert (ended["status"], ended["exit_code"]) == ("FAILED", 1)
    lda.answer("GET", r"/batches/[^/]+/report", 200, {"nbformat": 4, "cells": []})
    assert client.get(ended["report_url"]).json() == {"nbformat": 4, "cells": []}
    for path in (address, ended["report_url"]):
        assert other.get(path).status_code == 404
    # The failure is told, once, to its owner.
    (notice,) = client.get("/api/notices/?unread=true").json()["results"]
    assert notice["text"] == "The schedule “Nightly” failed: Two attempts failed."
    assert (notice["schedule_id"], notice["schedule_run_id"]) == (made["id"], run["id"])
    assert other.get("/api/notices/").json()["results"] == []
    assert other.post(f"/api/notices/{notice['id']}/read/").status_code == 404
    assert client.post(f"/api/notices/{notice['id']}/read/").status_code == 204
    assert client.get("/api/notices/?unread=true").json()["results"] == []


def test_an_lda_that_is_away_is_waited_for_and_then_told_of(client, user, monkeypatch):
    made = make_batch(client, user)
    client.post(f"/api/schedules/{made['id']}/run/")
    for _ in range(40):
        ScheduleRun.objects.update(next_try_at=None)
        tend_runs()
    (run,) = history(client, made)
    assert run["status"] == "FAILED"
    assert "rootbound up" in run["message"]
    (schedule,) = client.get("/api/schedules/").json()["results"]
    assert schedule["last_status"] == "FAILED"
    # Whoever looks at what is at work hears of it until it is read.
    (notice,) = client.get("/api/live/").json()["notices"]
    assert notice["schedule_id"] == made["id"]
    client.post(f"/api/notices/{notice['id']}/read/")
    assert client.get("/api/live/").json()["notices"] == []


def test_a_plan_is_made_started_and_followed_to_its_end(client, user, lda):
    made = make(client, user)
    address = f"/api/schedules/{made['id']}/"
    client.post(f"{address}run/")
    tend_runs()
    (run,) = history(client, made)
    assert (run["status"], run["message"][:28]) == ("FAILED", "You have no agent with the r")
    for role in ("PM", "BACKEND", "QA"):
        make_agent(user, role)
    client.post(f"{address}run/")
    tend_runs()
    decomposition = PMDecomposition.objects.get()
    assert decomposition.auto_approve
    answer = report({"id": str(decomposition.pk)}, {"plan": PLAN, "response": "{}"}, generation=0)
    assert answer.status_code in {200, 202, 204}, answer.content
    tend_runs()
    attempt = Attempt.objects.get()
    assert attempt.task.title == "Fix it"  # the other one waits for it
    tend_runs()
    assert history(client, made)[0]["status"] == "RUNNING"
    client.post(f"/api/attempts/{attempt.pk}/cancel/")
    tend_runs()
    latest = history(client, made)[0]
    assert (latest["status"], latest["decomposition_id"]) == ("FAILED", str(decomposition.pk))
    assert latest["message"] == "Not everything was done: no attempt passed: Fix it"
    assert Attempt.objects.count() == 1  # nothing is started again by itself


def test_cancelling_a_run_cancels_its_attempts(client, user, lda):
    for role in ("PM", "BACKEND", "QA"):
        make_agent(user, role)
    made = make(client, user)
    run = client.post(f"/api/schedules/{made['id']}/run/").json()
    tend_runs()
    decomposition = PMDecomposition.objects.get()
    report({"id": str(decomposition.pk)}, {"plan": PLAN, "response": "{}"}, generation=0)
    tend_runs()
    cancel = f"/api/schedules/{made['id']}/runs/{run['id']}/cancel/"
    assert client.post(cancel).json()["status"] == "CANCELLED"
    assert Attempt.objects.get().failure == "CANCELLED"
    assert client.post(cancel).json()["code"] == "not-live"
