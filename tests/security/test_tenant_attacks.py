"""Another user's objects, by every route and method, and by what bodies and queries name."""

from __future__ import annotations

import uuid
from typing import Any

import django
import pytest

django.setup()

from django.urls import resolve  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from rootbound_backend.apps.attempts.models import ReviewComment  # noqa: E402
from rootbound_backend.apps.local_access.access_models import AccessRequest  # noqa: E402
from rootbound_backend.apps.local_access.kernel_models import KernelSession  # noqa: E402
from rootbound_backend.apps.local_access.machine_models import Machine  # noqa: E402
from rootbound_backend.apps.local_access.models import (  # noqa: E402
    PMDecomposition,
    WritableRoot,
)
from rootbound_backend.apps.schedules.models import Notice, Schedule, ScheduleRun  # noqa: E402
from rootbound_backend.apps.users.services import ensure_user  # noqa: E402
from tests.integration.backend.backend_support import client_for, make_attempt  # noqa: E402
from tests.support.routes import filled, routes  # noqa: E402

METHODS = ("get", "post", "put", "patch", "delete")
# A run's token is asked for there and no user's; `test_backend_ingest_attacks` is about these.
OF_RUNS = {
    ("attempt-events", "post"), ("audit-ingest", "post"), ("decomposition-plan", "post"),
    ("kernel-ended", "post"),
}  # fmt: skip
# Without it these say 400 whether there is such an attempt or not.
NEEDED = {"attempt-messages": {"text": "x"}, "attempt-comments": {"text": "x"}}
# What a load balancer and a newcomer's Jupyter ask; it says whether services answer.
OPEN = {"health"}


@pytest.fixture
def things(db: None) -> dict[str, Any]:
    """One of everything, all alice's, by the name it has in paths."""
    alice = ensure_user(username="alice")
    attempt = make_attempt(alice)
    project = attempt.task.project
    schedule = Schedule.objects.create(
        owner=alice, project=project, name="Nightly", kind="PLAN", crontab="0 3 * * *", prompt="x"
    )
    run = ScheduleRun.objects.create(schedule=schedule, trigger="MANUAL", due_at=timezone.now())
    return {
        "attempt_id": attempt.pk, "task_id": attempt.task_id, "project_id": project.pk,
        "agent_id": alice.agents.get().pk, "name": "gate.log",
        "comment_id": ReviewComment.objects.create(
            attempt=attempt, author=alice, text="x", path="a", line=1
        ).pk,
        "request_id": AccessRequest.objects.create(
            attempt=attempt, run_id=attempt.pk, folder="/srv/x", operation="WRITE", count=1,
            last_denied_at=timezone.now(),
        ).pk,
        "root_id": WritableRoot.objects.create(user=alice, path="/srv", canonical_path="/srv").pk,
        "session_id": KernelSession.objects.create(
            user=alice, kernel_id=uuid.uuid4(), kernel_name="python3"
        ).pk,
        "machine_id": Machine.objects.create(
            user=alice, name="m", paths=["/srv"], token_digest="0" * 64
        ).pk,
        "decomposition_id": PMDecomposition.objects.create(project=project, user_prompt="x").pk,
        "schedule_id": schedule.pk, "run_id": run.pk,
        "notice_id": Notice.objects.create(owner=alice, project=project, text="x").pk,
    }  # fmt: skip


def methods_of(path: str) -> list[str]:
    func: Any = resolve(path).func
    view = getattr(func, "cls", None) or func.view_class
    found = [method for method in METHODS if hasattr(view, method)]
    assert found, path
    return found


def test_every_route_is_closed_to_others_and_to_nobody(things: dict[str, Any]) -> None:
    alice, mallory, nobody = client_for("alice"), client_for("mallory"), APIClient()
    tried = 0
    for pattern, name in routes():
        # Of what is of a new kind, one must be made above.
        path = filled(pattern, lambda _, name: things[name])
        for method in methods_of(path):
            answer = getattr(nobody, method)(path, {}, format="json")
            if name in OPEN:
                assert set(answer.json()) <= {"status", "version", "services"}, answer.json()
                continue
            assert answer.status_code == 401, (method, path, answer.status_code)
            if "<" not in pattern or (name, method) in OF_RUNS:
                continue
            answer = getattr(mallory, method)(path, NEEDED.get(name, {}), format="json")
            assert answer.status_code == 404, (method, path, answer.status_code, answer.content)
            assert answer.json()["code"] == "not-found"
            tried += 1
            if method == "get":
                # It is there, for its owner; what needs the LDA says that that is not.
                mine = alice.get(path)
                missing = name in {"attempt-artifact", "schedule-run-report"}
                assert mine.status_code != 404 or missing, (path, mine.content)
    assert tried > 55


def test_nothing_of_others_is_named_in_bodies_and_queries(things: dict[str, Any]) -> None:
    mallory = client_for("mallory")
    own = make_attempt(ensure_user(username="mallory"))
    mine = f"/api/projects/{own.task.project_id}"
    theirs = {name: str(value) for name, value in things.items()}
    schedule = {"name": "x", "kind": "PLAN", "crontab": "0 3 * * *", "prompt": "x"}
    task = {"title": "x", "agent_role": "BACKEND"}
    for path, body in (
        ("/api/schedules/", {**schedule, "project_id": theirs["project_id"]}),
        (f"{mine}/tasks/", {**task, "dependencies": [theirs["task_id"]]}),
        (f"{mine}/tasks/", {**task, "assigned_agent_id": theirs["agent_id"]}),
        (f"{mine}/decompositions/", {"prompt": "x", "agent_id": theirs["agent_id"]}),
    ):
        answer = mallory.post(path, body, format="json")
        assert answer.status_code in (400, 404, 422), (path, body, answer.content)
        assert "Sample" not in answer.content.decode(), "no word of what it is"
    answer = mallory.patch(
        f"/api/tasks/{own.task_id}/", {"assigned_agent_id": theirs["agent_id"]}, format="json"
    )
    assert answer.status_code in (400, 404, 422), answer.content
    new = mallory.post(f"{mine}/tasks/", task, format="json").json()["id"]
    answer = mallory.post(
        f"/api/tasks/{new}/attempts/", {"agent_id": theirs["agent_id"]}, format="json"
    )
    assert answer.status_code in (400, 404, 422), answer.content
    # Lists that are narrowed to what is somebody else's are empty, or refused.
    names = {
        "attempt": "attempt_id",
        "run": "attempt_id",
        "task": "task_id",
        "project": "project_id",
    }
    for place in ("audit/logs", "audit/summary", "audit/tree", "audit/timeline", "audit/verify",
                  "access-requests", "costs", "usage", "live", "schedules", "notices"):  # fmt: skip
        for name, thing in names.items():
            said = mallory.get(
                f"/api/{place}/", {name: theirs[thing], "run_id": theirs["attempt_id"]}
            )
            text = said.content.decode().replace(theirs[thing], "")
            for value in theirs.values():
                assert len(value) < 20 or value not in text, (place, name, said.content)
    # A key that somebody used for a request gives nobody else its answer.
    keyed = {"Idempotency-Key": "the-same"}
    made = client_for("alice").post(
        f"/api/projects/{theirs['project_id']}/tasks/", task, format="json", headers=keyed
    )
    other = mallory.post(f"{mine}/tasks/", task, format="json", headers=keyed)
    assert (made.status_code, other.status_code) == (201, 201)
    assert made.json()["id"] != other.json()["id"]
