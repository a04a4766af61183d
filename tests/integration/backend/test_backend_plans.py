"""Decompositions: from a wish to tasks."""

from __future__ import annotations

import pytest

from rootbound_backend.apps.attempts import handover
from rootbound_backend.apps.local_access.decompositions import (
    hand_over_decomposition,
    sweep_decompositions,
)
from rootbound_backend.apps.local_access.models import PMDecomposition
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.tokens import issue_ingest_token
from tests.integration.backend.backend_support import make_agent, make_project

pytestmark = pytest.mark.django_db

PLAN = {
    "summary": "Two steps",
    "tasks": [
        {
            "key": "test",
            "title": "Test it",
            "description": "Run them.",
            "role": "QA",
            "priority": 1,
            "depends_on": ["fix"],
            "acceptance": "Green.",
            "files": ["tests/a.py"],
        },
        {"key": "fix", "title": "Fix it", "description": "", "role": "BACKEND"},
    ],
}


def decompose(user, client, **body):
    make_agent(user, "PM")
    project = make_project(user)
    answer = client.post(f"/api/projects/{project.pk}/decompositions/", {"prompt": "Do", **body})
    assert answer.status_code == 202, answer.content
    return answer.json()


def report(decomposition, body, generation=1):
    from rest_framework.test import APIClient

    found = PMDecomposition.objects.get(pk=decomposition["id"])
    token = issue_ingest_token(
        user_id=found.project.owner_id, decomposition_id=found.pk, lease_generation=generation
    )
    client = APIClient(headers={"Authorization": f"Bearer {token}"})
    return client.post(f"/api/decompositions/{found.pk}/plan/", body, format="json")


def test_a_decomposition_becomes_tasks(user, client, other, lda):
    made = decompose(user, client)
    assert (made["status"], made["plan"], made["tasks_created"]) == ("PENDING", None, [])
    assert hand_over_decomposition(PMDecomposition.objects.get().pk)
    assert sweep_decompositions() == 0
    (body,) = lda.bodies("/plans")
    assert (body["prompt"], body["agent_config"]["role"]) == ("Do", "PM")
    address = f"/api/decompositions/{made['id']}/"
    assert client.post(f"{address}approve/", {}).json()["code"] == "plan-not-ready"
    for _ in range(2):
        answer = report(made, {"plan": PLAN, "response": "Here", "usage": {"steps": 1}})
        assert answer.status_code == 200, answer.content
    ready = client.get(address).json()
    assert (ready["status"], ready["pm_response"]) == ("READY", "Here")
    assert ready["plan"]["tasks"][0]["depends_on"] == ["fix"]
    assert other.get(address).status_code == 404
    assert other.post(f"{address}approve/", {}).status_code == 404
    approved = client.post(f"{address}approve/", {}).json()
    assert approved["status"] == "APPROVED"
    test, fix = (client.get(f"/api/tasks/{one}/").json() for one in approved["tasks_created"])
    assert test["dependencies"] == [fix["id"]]
    assert (test["agent_role"], test["priority"]) == ("QA", 1)
    assert test["description"] == "Run them.\n\nAcceptance:\nGreen.\n\nFiles:\n- tests/a.py"
    assert client.post(f"{address}approve/", {}).json() == approved
    assert Task.objects.count() == 2
    listed = client.get(f"/api/projects/{made['project']}/decompositions/").json()
    assert [one["id"] for one in listed["results"]] == [made["id"]]


def test_auto_approve_and_edited_plans(user, client, lda):
    made = decompose(user, client, auto_approve=True)
    hand_over_decomposition(PMDecomposition.objects.get().pk)
    assert report(made, {"plan": PLAN, "response": ""}).status_code == 200
    facts = client.get(f"/api/decompositions/{made['id']}/").json()
    assert (facts["status"], len(facts["tasks_created"])) == ("APPROVED", 2)
    edited = client.post(
        f"/api/projects/{made['project']}/decompositions/", {"prompt": "Again"}
    ).json()
    hand_over_decomposition(PMDecomposition.objects.get(pk=edited["id"]).pk)
    report(edited, {"plan": PLAN, "response": ""})
    address = f"/api/decompositions/{edited['id']}/approve/"
    loop = [{**PLAN["tasks"][1], "depends_on": ["fix"]}]
    refused = client.post(address, {"tasks": loop})
    assert (refused.status_code, refused.json()["code"]) == (400, "dependency-cycle")
    assert client.post(address, {"tasks": [{"key": "x"}]}).status_code == 400
    blank = client.post(address, {"tasks": [{**PLAN["tasks"][1], "title": "  "}]})
    assert (blank.status_code, blank.json()["detail"]) == (400, "A title may not be blank.")
    answer = client.post(address, {"tasks": [{**PLAN["tasks"][1], "title": " Only this "}]})
    (only,) = answer.json()["tasks_created"]
    assert client.get(f"/api/tasks/{only}/").json()["title"] == "Only this"


def test_failed_and_unusable_plans(user, client, lda):
    made = decompose(user, client)
    hand_over_decomposition(PMDecomposition.objects.get().pk)
    for body in ({}, {"plan": PLAN, "failure": "INTERNAL"}, {"failure": "MOOD"}, {"plan": {}}):
        assert report(made, body).status_code == 400
    assert report(made, {"failure": "INTERNAL"}, generation=7).json()["code"] == "fenced"
    assert report(made, {"failure": "PROVIDER_AUTH", "message": None}).status_code == 200
    facts = client.get(f"/api/decompositions/{made['id']}/").json()
    assert (facts["status"], facts["failure"]) == ("FAILED", "PROVIDER_AUTH")
    assert "rootbound doctor" in facts["failure_message"]
    second = client.post(f"/api/projects/{made['project']}/decompositions/", {"prompt": "x"}).json()
    hand_over_decomposition(PMDecomposition.objects.get(pk=second["id"]).pk)
    loop = {"summary": "", "tasks": [{**PLAN["tasks"][1], "depends_on": ["nothing"]}]}
    report(second, {"plan": loop})
    facts = client.get(f"/api/decompositions/{second['id']}/").json()
    assert (facts["status"], facts["failure"]) == ("FAILED", "AGENT_BLOCKED")
    assert "nothing" in facts["failure_message"]


def test_a_decomposition_needs_a_pm(user, client):
    project = make_project(user)
    answer = client.post(f"/api/projects/{project.pk}/decompositions/", {"prompt": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "agent-missing")
    assert PMDecomposition.objects.count() == 0


def test_a_decomposition_without_the_lda_fails_in_the_end(user, client):
    decompose(user, client)
    found = PMDecomposition.objects.get()
    for _ in range(handover.MAX_TRIES):
        assert sweep_decompositions() == 0
        PMDecomposition.objects.update(next_try_at=None)
    found.refresh_from_db()
    assert (found.status, found.failure) == ("FAILED", "LDA_UNREACHABLE")
