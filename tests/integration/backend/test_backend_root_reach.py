"""Which running attempts a root reaches, and what makes it leave them."""

from __future__ import annotations

from typing import Any

import pytest

from rootbound_backend.apps.attempts.handover import HandOver, hand_over_attempt
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.services import create_attempt
from rootbound_backend.apps.local_access.live_policy import sweep_policies
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.celery import app as celery_app
from tests.integration.access.test_access_storage import denied
from tests.integration.backend.backend_support import (
    make_agent,
    make_project,
    make_task,
    post_audit,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, lda: Any) -> None:
    monkeypatch.setattr(celery_app, "send_task", lambda name, **_: None)
    lda.answer("POST", "/runs/.*/policy", 200, {"refused": [], "live": True})


def grant(client: Any, path: str) -> str:
    answer = client.post("/api/local-access/roots/", {"path": path}, format="json")
    assert answer.status_code == 201, answer.data
    return f"/api/local-access/roots/{answer.data['id']}/"


def began(project: Project, title: str = "Fix it") -> Attempt:
    attempt = create_attempt(user=project.owner, task_id=make_task(project, title).pk)
    assert hand_over_attempt(attempt.pk) is HandOver.STARTED
    attempt.refresh_from_db()
    return attempt


def told(lda: Any, attempt: Attempt) -> list[list[str]]:
    """Return the roots that the LDA was told for an attempt, at its start and since."""
    first = [body for body in lda.bodies("/run") if body["attempt_id"] == str(attempt.pk)]
    later = lda.bodies(f"/runs/{attempt.pk}/policy")
    return [body["writable_roots"] for body in (*first, *later)]


def test_a_root_for_a_new_project_reaches_no_run_and_leaves_none(
    user: Any, client: Any, lda: Any
) -> None:
    make_agent(user)
    grant(client, "/srv/sample")
    data = grant(client, "/srv/data")
    running = began(make_project(user))
    held = ["/srv/data", "/srv/sample"]

    new = grant(client, "/srv/new")
    facts = {"name": "New", "repo_path": "/srv/new", "config": {"test_cmd": "true"}}
    made = client.post("/api/projects/", facts, format="json")
    assert made.status_code == 201, made.data
    # A project in what the run holds is no withdrawal either.
    inside = {"name": "Data", "repo_path": "/srv/data/repo"}
    assert client.post("/api/projects/", inside, format="json").status_code == 201
    other = grant(client, "/srv/other")
    client.patch(other, {"is_enabled": False}, format="json")
    client.patch(other, {"is_enabled": True}, format="json")
    sweep_policies()
    assert all(lists == held for lists in told(lda, running)), told(lda, running)

    later = began(Project.objects.get(pk=made.data["id"]), "In the new one")
    assert told(lda, later) == [["/srv/new", "/srv/other"]]

    # What is withdrawn leaves at once; granted again it is another root, and reaches none.
    client.delete(new)
    client.delete(data)
    assert told(lda, running)[-1] == ["/srv/sample"]
    grant(client, "/srv/data")
    assert told(lda, running)[-1] == ["/srv/sample"]


def decide(client: Any, attempt: Attempt, scope: str) -> None:
    (request,) = client.get(f"/api/attempts/{attempt.pk}/access-requests/").data["results"]
    url = f"/api/access-requests/{request['id']}/grant/"
    assert client.post(url, {"scope": scope}, format="json").status_code == 200


def test_a_root_reaches_the_run_on_whose_request_it_was_granted(
    user: Any, client: Any, lda: Any
) -> None:
    make_agent(user)
    grant(client, "/srv/sample")
    wide = grant(client, "/srv/data")
    project = make_project(user)
    asking, waiting = began(project, "Asks"), began(project, "Asks and waits")
    for attempt in (asking, waiting):
        rows = [denied(1, {"folder": "/srv/logs"})]
        assert post_audit(attempt, rows).status_code == 200

    # Whoever asks may ask for anything: a root that was granted for something else is no answer.
    other = grant(client, "/srv/logs")
    for attempt in (asking, waiting):
        assert told(lda, attempt)[-1] == ["/srv/data", "/srv/sample"]
    client.delete(other)
    decide(client, asking, "always")
    assert told(lda, asking)[-1] == ["/srv/data", "/srv/logs", "/srv/sample"]
    assert told(lda, waiting)[-1] == ["/srv/data", "/srv/sample"]
    # Off and on again: to whom it was given.
    roots = client.get("/api/local-access/roots/").data["results"]
    logs = next(root["id"] for root in roots if root["canonical_path"] == "/srv/logs")
    for enabled, held in ((False, ["/srv/data"]), (True, ["/srv/data", "/srv/logs"])):
        client.patch(f"/api/local-access/roots/{logs}/", {"is_enabled": enabled}, format="json")
        assert told(lda, asking)[-1] == [*held, "/srv/sample"]
    decide(client, waiting, "always")
    assert told(lda, waiting)[-1] == ["/srv/data", "/srv/logs", "/srv/sample"]

    # A narrower root in one that a run holds opens nothing, and stays when the wide one goes.
    grant(client, "/srv/data/part")
    client.delete(wide)
    assert told(lda, waiting)[-1] == ["/srv/data/part", "/srv/logs", "/srv/sample"]


def test_a_grant_for_a_task_is_none_for_what_became_a_project(
    user: Any, client: Any, lda: Any
) -> None:
    make_agent(user)
    grant(client, "/srv/sample")
    first = began(make_project(user))
    assert post_audit(first, [denied(1, {"folder": "/srv/next"})]).status_code == 200
    decide(client, first, "task")
    held = ["/srv/sample", "/srv/next"]
    assert told(lda, first)[-1] == held
    grant(client, "/srv/next")
    facts = {"name": "Next", "repo_path": "/srv/next/repo", "config": {"test_cmd": "true"}}
    assert client.post("/api/projects/", facts, format="json").status_code == 201
    client.delete(grant(client, "/srv/other"))
    assert told(lda, first)[-1] == held, "it goes on with what it has"
    assert client.post(f"/api/attempts/{first.pk}/cancel/").status_code == 200
    again = create_attempt(user=user, task_id=first.task_id)
    assert hand_over_attempt(again.pk) is HandOver.STARTED
    assert told(lda, again) == [["/srv/sample"]], "the checkout of another project is not its own"


def test_a_root_around_the_project_is_its_worktree_alone(user: Any, client: Any, lda: Any) -> None:
    make_agent(user)
    around = grant(client, "/srv")
    running = began(make_project(user))
    grant(client, "/srv/beside")
    assert told(lda, running)[-1] == ["/srv"], "what lies beside was never open"
    grant(client, "/srv/sample")
    client.delete(around)
    assert told(lda, running)[-1] == ["/srv/sample"], "the project stays granted: the run goes on"
