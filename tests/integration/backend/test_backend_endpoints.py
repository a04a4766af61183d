"""Every endpoint: the happy path, strangers, and people without a token."""

from __future__ import annotations

import uuid
from importlib.metadata import version

import pytest
from rest_framework.test import APIClient

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.users.models import User
from tests.integration.backend.backend_support import (
    COMMANDS,
    HEAD,
    api_token,
    identity,
    make_agent,
    make_attempt,
    make_project,
    make_task,
    post_events,
    way_to_review,
)

pytestmark = pytest.mark.django_db


def test_a_project_is_made_listed_changed_and_deleted(client, user, lda):
    client.post("/api/local-access/roots/", {"path": "/srv"})
    made = client.post(
        "/api/projects/", {"name": "Sample", "repo_path": "/srv/sample/", "config": COMMANDS}
    )
    assert made.status_code == 201, made.data
    assert lda.bodies("/repos/validate") == [{"path": "/srv/sample/", "writable_roots": ["/srv"]}]
    project = made.json()
    assert project["repo_path"] == "/srv/sample"
    assert project["default_branch"] == "main"
    assert project["task_counts"] == {"TODO": 0, "IN_PROGRESS": 0, "REVIEW": 0, "DONE": 0}
    address = f"/api/projects/{project['id']}/"
    changed = client.patch(address, {"name": "New", "config": {"max_parallel": 2}}).json()
    assert changed["name"] == "New"
    assert changed["config"] == {**COMMANDS, "max_parallel": 2}
    assert client.get("/api/projects/").json() == {"results": [changed], "next": None}
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


def test_a_project_needs_the_ldas_consent(client, lda):
    lda.problem("POST", "/repos/validate", 422, "repo-bare")
    answer = client.post("/api/projects/", {"name": "x", "repo_path": "/srv/bare"})
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "https://rootbound.dev/problems/repo-bare",
        "title": "repo-bare",
        "status": 422,
        "detail": "Because of repo-bare.",
        "code": "repo-bare",
    }
    assert client.get("/api/projects/").json()["results"] == []


def test_without_the_lda_a_project_is_refused_with_the_way_to_start_it(client):
    answer = client.post("/api/projects/", {"name": "x", "repo_path": "/srv/sample"})
    assert answer.status_code == 503
    assert answer.json()["code"] == "lda-unreachable"
    assert "rootbound up" in answer.json()["detail"]
    assert answer["Retry-After"]


def test_roots(client, other, lda):
    made = client.post("/api/local-access/roots/", {"path": "/srv/"})
    assert made.status_code == 201
    root = made.json()
    assert (root["path"], root["canonical_path"], root["is_enabled"]) == ("/srv/", "/srv", True)
    again = client.post("/api/local-access/roots/", {"path": "/srv"})
    assert (again.status_code, again.json()["code"]) == (409, "root-exists")
    address = f"/api/local-access/roots/{root['id']}/"
    assert other.get(address).status_code == 404
    assert other.patch(address, {"is_enabled": False}).status_code == 404
    assert other.delete(address).status_code == 404
    assert client.patch(address, {"is_enabled": False}).json()["is_enabled"] is False
    assert client.patch(address, {"is_enabled": True}).json()["is_enabled"] is True
    status = client.get("/api/local-access/status/").json()
    assert status["lda"]["reachable"] is True
    assert status["lda"]["sandbox"] == {"tier": "A"}
    assert [one["id"] for one in status["roots"]] == [root["id"]]
    assert client.delete(address).status_code == 204
    lda.problem("POST", "/roots/validate", 422, "root-is-home")
    refused = client.post("/api/local-access/roots/", {"path": "/root"})
    assert (refused.status_code, refused.json()["code"]) == (422, "root-is-home")


def test_unsaved_documents_are_told_to_the_lda_under_the_user(client, user, lda):
    lda.answer("POST", "/unsaved", 200, {"expires_in_s": 150.0})
    said = {"editor": "page-1", "paths": ["/srv/a.ipynb"]}
    answer = client.post("/api/local-access/unsaved/", said)
    assert (answer.status_code, answer.json()) == (200, {"expires_in_s": 150.0})
    assert lda.bodies("/unsaved") == [{"user_id": str(user.pk), **said}]
    for wrong in (
        {**said, "paths": ["a.ipynb"]}, {**said, "paths": ["/x"] * 201}, {**said, "editor": "../x"},
        {**said, "user_id": "eve"},
    ):  # fmt: skip
        assert client.post("/api/local-access/unsaved/", wrong).status_code == 400
    assert len(lda.bodies("/unsaved")) == 1


def test_local_access_status_without_the_lda(client):
    status = client.get("/api/local-access/status/").json()
    assert status["lda"]["reachable"] is False
    assert "rootbound up" in status["lda"]["detail"]


def test_agents(client, other):
    made = client.post(
        "/api/agents/",
        {"name": "B", "provider": "GLM", "role": "BACKEND", "settings": {"replay": True}},
    )
    assert made.status_code == 201, made.data
    agent = made.json()
    assert (agent["model"], agent["is_replay"], agent["base_url"]) == ("glm-7", True, None)
    address = f"/api/agents/{agent['id']}/"
    assert other.get(address).status_code == 404
    changed = client.patch(
        address, {"limits": {"max_steps": 5}, "base_url": "http://127.0.0.1:9/v1"}
    )
    assert changed.json()["limits"] == {"max_steps": 5}
    assert client.get("/api/agents/").json()["results"] == [changed.json()]
    assert other.get("/api/agents/").json()["results"] == []
    assert client.delete(address).status_code == 204


def test_a_key_is_never_stored(client):
    answer = client.post(
        "/api/agents/",
        {"name": "B", "provider": "GLM", "role": "QA", "settings": {"api_key": "sk-secret"}},
    )
    assert answer.status_code == 400
    assert "GLM_API_KEY" in answer.json()["detail"]
    assert "sk-secret" not in answer.content.decode()


def test_tasks_with_dependencies_and_latest_attempt(client, user):
    project = make_project(user)
    make_agent(user)
    address = f"/api/projects/{project.pk}/tasks/"
    first = client.post(address, {"title": "First", "priority": 3}).json()
    second = client.post(address, {"title": "Second", "dependencies": [first["id"]]}).json()
    assert second["blocked_by"] == [first["id"]]
    assert second["latest_attempt"] is None
    started = client.post(f"/api/tasks/{first['id']}/attempts/", {"reference_paths": ["a.py"]})
    assert started.status_code == 201, started.data
    listed = client.get(address).json()["results"]
    assert [task["title"] for task in listed] == ["First", "Second"]
    assert listed[0]["status"] == "IN_PROGRESS"
    assert listed[0]["latest_attempt"] == started.json()
    counts = client.get(f"/api/projects/{project.pk}/").json()["task_counts"]
    assert counts == {"TODO": 1, "IN_PROGRESS": 1, "REVIEW": 0, "DONE": 0}
    blocked = client.post(f"/api/tasks/{second['id']}/attempts/", {})
    assert (blocked.status_code, blocked.json()["code"]) == (409, "dependencies-open")
    assert blocked.json()["blocked_by"] == [first["id"]]
    live = client.post(f"/api/tasks/{first['id']}/attempts/", {})
    assert (live.status_code, live.json()["code"]) == (409, "attempt-live")
    assert client.delete(f"/api/projects/{project.pk}/").json()["code"] == "attempt-live"
    assert client.delete(f"/api/tasks/{first['id']}/").json()["code"] == "attempt-live"
    client.post(f"/api/attempts/{started.json()['id']}/cancel/")
    assert client.delete(f"/api/tasks/{first['id']}/").status_code == 204
    assert client.get(f"/api/tasks/{second['id']}/").json()["dependencies"] == []


def test_a_task_is_changed_and_a_stale_version_refused(client, user):
    task = make_task(make_project(user))
    address = f"/api/tasks/{task.pk}/"
    changed = client.patch(address, {"title": "Better", "version": 1})
    assert (changed.json()["title"], changed.json()["version"]) == ("Better", 2)
    stale = client.patch(address, {"title": "Worse", "version": 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "version-conflict")
    assert client.patch(address, {"status": "DONE"}).json()["status"] == "DONE"
    assert client.post(f"{address}attempts/", {}).json()["code"] == "task-done"
    assert client.patch(address, {"status": "REVIEW"}).json()["code"] == "illegal-transition"
    assert client.patch(address, {"status": "TODO"}).json()["status"] == "TODO"


def test_a_cycle_is_refused_with_its_path(client, user):
    project = make_project(user)
    a = make_task(project, "A")
    b = make_task(project, "B", after=[a])
    c = make_task(project, "C", after=[b])
    answer = client.patch(f"/api/tasks/{a.pk}/", {"dependencies": [str(c.pk)]})
    assert (answer.status_code, answer.json()["code"]) == (400, "dependency-cycle")
    assert answer.json()["path"] == [str(a.pk), str(c.pk), str(b.pk), str(a.pk)]
    assert "“A” → “C” → “B” → “A”" in answer.json()["detail"]
    itself = client.patch(f"/api/tasks/{a.pk}/", {"dependencies": [str(a.pk)]})
    assert itself.json()["path"] == [str(a.pk), str(a.pk)]
    elsewhere = make_task(make_project(user), "Elsewhere")
    foreign = client.patch(f"/api/tasks/{a.pk}/", {"dependencies": [str(elsewhere.pk)]})
    assert (foreign.status_code, foreign.json()["code"]) == (400, "invalid")


def test_an_attempt_needs_an_agent_and_a_gate(client, user):
    task = make_task(make_project(user))
    missing = client.post(f"/api/tasks/{task.pk}/attempts/", {})
    assert (missing.status_code, missing.json()["code"]) == (409, "agent-missing")
    assert "POST /api/agents/" in missing.json()["detail"]
    make_agent(user)
    bare = make_task(make_project(user, install_cmd="", test_cmd=None, lint_cmd=""))
    answer = client.post(f"/api/tasks/{bare.pk}/attempts/", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "gates-missing")
    assert Attempt.objects.count() == 0


def test_an_attempt_is_read(client, user, lda):
    attempt = make_attempt(user)
    assert post_events(attempt, way_to_review()).json() == {"seq": 8}
    address = f"/api/attempts/{attempt.pk}/"
    facts = client.get(address).json()
    assert facts["status"] == "REVIEW"
    assert facts["agent"] == {
        "name": "Backend",
        "provider": "GLM",
        "model": "glm-7",
        "is_replay": False,
        "max_steps": None,
    }
    assert facts["usage"] == {"steps": 2, "input_tokens": 10, "output_tokens": 5, "cost_usd": 0.5}
    assert [one["name"] for one in facts["gates"]] == ["install", "lint", "test"]
    assert client.get(f"{address}gates/").json()["results"] == facts["gates"]
    assert facts["last_seq"] == 10  # two of ours: QUEUED and RUNNING
    page = client.get(f"{address}events/", {"after": 2, "limit": 3}).json()
    assert [one["seq"] for one in page["results"]] == [3, 4, 5]
    assert page["next"] == 5
    rest = client.get(f"{address}events/", {"after": page["next"]}).json()
    assert [one["seq"] for one in rest["results"]] == [6, 7, 8, 9, 10]
    assert rest["next"] is None
    assert client.get(f"{address}diff/").json()["head"] == HEAD
    listed = client.get(f"/api/tasks/{attempt.task_id}/attempts/").json()
    assert [one["id"] for one in listed["results"]] == [str(attempt.pk)]


@pytest.mark.parametrize("query", [{"after": "x"}, {"limit": "0"}, {"limit": "1001"}])
def test_bad_event_queries_are_a_400(client, user, query):
    attempt = make_attempt(user)
    answer = client.get(f"/api/attempts/{attempt.pk}/events/", query)
    assert answer.status_code == 400


def _addresses(user):
    attempt = make_attempt(user)
    project = attempt.task.project_id
    one = f"/api/attempts/{attempt.pk}/"
    return [
        ("get", f"/api/projects/{project}/"),
        ("patch", f"/api/projects/{project}/"),
        ("delete", f"/api/projects/{project}/"),
        ("get", f"/api/projects/{project}/tasks/"),
        ("post", f"/api/projects/{project}/tasks/"),
        ("get", f"/api/projects/{project}/decompositions/"),
        ("post", f"/api/projects/{project}/decompositions/"),
        ("get", f"/api/tasks/{attempt.task_id}/"),
        ("patch", f"/api/tasks/{attempt.task_id}/"),
        ("delete", f"/api/tasks/{attempt.task_id}/"),
        ("get", f"/api/tasks/{attempt.task_id}/attempts/"),
        ("post", f"/api/tasks/{attempt.task_id}/attempts/"),
        ("get", one),
        ("get", f"{one}events/"),
        ("get", f"{one}diff/"),
        ("get", f"{one}gates/"),
        ("post", f"{one}cancel/"),
        ("post", f"{one}approve/"),
        ("post", f"{one}reject/"),
        ("post", f"{one}retry/"),
        ("get", f"/api/agents/{user.agents.first().pk}/"),
        ("delete", f"/api/agents/{user.agents.first().pk}/"),
    ]


def test_strangers_get_404_everywhere(user, other):
    for method, address in _addresses(user):
        answer = getattr(other, method)(address, {})
        assert answer.status_code == 404, (method, address, answer.content)
        assert answer.json()["code"] == "not-found"
    assert Attempt.objects.get().status == "QUEUED"


def test_without_a_token_everything_is_401(user):
    nobody = APIClient()
    lists = ["projects", "agents", "local-access/roots", "local-access/status", "me"]
    addresses = [("get", f"/api/{name}/") for name in [*lists, "audit/logs", "audit/summary"]]
    addresses += [("get", "/api/schema/"), ("post", "/api/audit/ingest/")]
    for method, address in [*addresses, *_addresses(user)]:
        answer = getattr(nobody, method)(address, {})
        assert answer.status_code == 401, (method, address)
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "rootbound-ingest"},
        {"scope": "other"},
        {"iss": "somebody"},
        {"exp": 1},
        {"sub": ""},
        {"sub": "x" * 151},
    ],
)
def test_tokens_for_something_else_are_refused(db, claims):
    client = APIClient(headers={"Authorization": f"Bearer {api_token('alice', **claims)}"})
    assert client.get("/api/me/").status_code == 401
    assert not User.objects.exists()


def test_the_identity_header_maps_to_the_same_user(db):
    path = "/api/me/"
    answer = APIClient().get(
        path, {"x": "1"}, headers={"X-Rootbound-Identity": identity("alice", "GET", path)}
    )
    known = {"username": "alice", "name": "Alice", "version": version("rootbound")}
    assert answer.json() == known
    bearer = APIClient(headers={"Authorization": f"Bearer {api_token('alice')}"})
    assert bearer.get(path).json() == known
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    "made_for",
    [
        {"method": "POST", "path": "/api/me/"},
        {"method": "GET", "path": "/api/projects/"},
        {"method": "GET", "path": "/api/me/", "exp": 4_000_000_000},
        {"method": "GET", "path": "/api/me/", "aud": "rootbound-api"},
    ],
)
def test_an_identity_for_another_request_is_refused(db, made_for):
    header = identity("alice", **made_for)
    answer = APIClient().get("/api/me/", headers={"X-Rootbound-Identity": header})
    assert answer.status_code == 401


def test_a_person_cannot_write_the_stream_nor_a_run_read(client, user):
    attempt = make_attempt(user)
    body = {"lease_generation": 1, "events": []}
    assert client.post(f"/api/attempts/{attempt.pk}/events/", body).status_code == 401
    from tests.integration.backend.backend_support import ingest_client

    run = ingest_client(attempt)
    assert run.get("/api/projects/").status_code == 401
    assert run.post(f"/api/attempts/{attempt.pk}/cancel/").status_code == 401
    second = make_attempt(user, make_task(attempt.task.project, "Two"))
    assert run.post(f"/api/attempts/{second.pk}/events/", body).status_code == 404
    audit = {"run_id": str(second.pk), "attempt_id": str(second.pk)}
    wrong = run.post("/api/audit/ingest/", {**audit, "lease_generation": 1, "entries": []})
    assert wrong.status_code == 404


def test_health_tells_strangers_nothing(client, lda):
    assert APIClient().get("/api/health/").json() == {"status": "ok"}
    details = client.get("/api/health/").json()
    assert details["services"]["postgres"]["state"] == "ready"
    assert details["services"]["redis"]["state"] == "ready"
    assert details["services"]["lda"]["state"] == "ready"
    assert details["services"]["worker"]["state"] == "failed"
    assert details["status"] == "degraded"


def test_the_schema_is_complete_and_valid(client, capsys):
    from drf_spectacular.generators import SchemaGenerator

    assert client.get("/api/schema/").status_code == 200
    SchemaGenerator().get_schema(request=None, public=True)
    assert "Error" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "address", "code", "status"),
    [
        ("get", "/api/nothing/", "not-found", 404),
        ("put", "/api/projects/", "method-not-allowed", 405),
        ("get", f"/api/projects/{uuid.UUID(int=0)}/", "not-found", 404),
    ],
)
def test_errors_are_problem_documents(client, method, address, code, status):
    answer = getattr(client, method)(address)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code


def test_validation_names_the_fields_in_one_sentence(client):
    answer = client.post("/api/projects/", {"name": "x", "config": {"max_parallel": 0}})
    assert answer.status_code == 400
    document = answer.json()
    assert document["code"] == "invalid"
    assert document["detail"] == "repo_path: This field is required."
    assert set(document["errors"]) == {"repo_path", "config"}
    unknown = client.post("/api/projects/", {"name": "x", "repo_path": "/r", "test_cmd": "x"})
    assert unknown.json()["errors"]["test_cmd"]
    broken = client.post("/api/projects/", data="{", content_type="application/json")
    assert (broken.status_code, broken.json()["code"]) == (400, "parse-error")
    form = client.post("/api/projects/", data="name=x", content_type="text/plain")
    assert form.status_code == 415


def test_a_fault_of_ours_is_a_problem_document_without_details(client, monkeypatch):
    from rootbound_backend.apps.users import api

    def fails():
        raise RuntimeError("secret detail")

    monkeypatch.setattr(api, "service_details", fails)
    client.raise_request_exception = False
    answer = client.get("/api/health/")
    assert answer.status_code == 500
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "internal"
    assert b"secret" not in answer.content


def test_lists_page_by_cursor(client, user):
    project = make_project(user)
    for number in range(5):
        make_task(project, f"T{number}")
    address, seen, cursor = f"/api/projects/{project.pk}/tasks/", [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(address, query).json()
        seen += [task["title"] for task in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"T{number}" for number in range(5)]
    bad = client.get(address, {"cursor": "nonsense"})
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid")


def test_lists_cost_the_same_number_of_queries_however_long(
    client, user, django_assert_num_queries
):
    project = make_project(user)
    tasks = [make_task(project, f"T{number}") for number in range(3)]
    for task in tasks:
        make_attempt(user, task)
    make_task(project, "Late", after=tasks)
    address = f"/api/projects/{project.pk}/tasks/"
    # user, project, tasks, attempts, gates, dependencies
    with django_assert_num_queries(6):
        client.get(address)
    for number in range(10):
        make_attempt(user, make_task(project, f"U{number}"))
    with django_assert_num_queries(6):
        client.get(address)
    with django_assert_num_queries(2):
        client.get("/api/projects/")
    with django_assert_num_queries(2):
        client.get("/api/audit/logs/")


def test_a_repeated_write_is_answered_as_the_first_time(client, user):
    project = make_project(user)
    address = f"/api/projects/{project.pk}/tasks/"
    headers = {"Idempotency-Key": "k1"}
    first = client.post(address, {"title": "Once"}, headers=headers)
    again = client.post(address, {"title": "Once"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again["Idempotent-Replayed"] == "true"
    assert project.tasks.count() == 1
    other = client.post(address, {"title": "Twice"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")
    refused = client.post(address, {}, headers={"Idempotency-Key": "k2"})
    refused_again = client.post(address, {}, headers={"Idempotency-Key": "k2"})
    assert refused.json() == refused_again.json()
    assert refused_again.status_code == 400


def test_a_key_is_free_again_after_an_outage(client, lda):
    headers = {"Idempotency-Key": "root"}
    lda.answer("POST", "/roots/validate", 500, {"detail": "broken"})
    assert (
        client.post("/api/local-access/roots/", {"path": "/s"}, headers=headers).status_code == 503
    )
    lda.answers.clear()
    assert (
        client.post("/api/local-access/roots/", {"path": "/s"}, headers=headers).status_code == 201
    )
