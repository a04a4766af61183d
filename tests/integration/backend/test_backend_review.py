"""Reviewing: comments, changes asked for, bringing up to date, comparing, steering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

from rootbound_backend.apps.attempts.handover import build_payload, hand_over_attempt
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.services import create_attempt
from rootbound_backend.apps.attempts.transitions import apply_transition
from rootbound_backend.apps.tasks.models import Task
from tests.integration.backend.backend_support import (
    BASE,
    HEAD,
    event,
    make_attempt,
    make_project,
    make_task,
    post_events,
    way_to_review,
)


def in_review(user: Any, task: Task | None = None) -> Attempt:
    attempt = make_attempt(user, task)
    events = way_to_review()
    message = "Fix it\n\nNow it adds.\n\nRootbound-Attempt: 1\nCo-authored-by: x"
    events[2] = event(3, "ARTIFACT", kind="commit", commit=HEAD, base=BASE, message=message)
    size = event(9, "ARTIFACT", kind="diff", files=2, additions=5, deletions=1, tests=["test_a.py"])
    assert post_events(attempt, [*events, size]).status_code == 200
    attempt.refresh_from_db()
    assert attempt.status == "REVIEW"
    return attempt


def test_comments_are_kept_and_carried_into_the_attempt_that_goes_on(user, client, other, lda):
    attempt = in_review(user)
    url = f"/api/attempts/{attempt.pk}/comments/"
    refused = client.post(f"/api/attempts/{attempt.pk}/request-changes/", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "feedback-missing")
    bad = client.post(url, {"text": "x", "line": 3})
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid")
    far = client.post(url, {"text": "x", "path": "calc.py", "line": 10**12})
    assert (far.status_code, far.json()["code"]) == (400, "invalid")
    made = client.post(url, {"text": "Wrong sign.", "path": "calc.py", "line": 2})
    assert made.status_code == 201, made.content
    assert (made.json()["commit"], made.json()["author"]) == (HEAD, "alice")
    gone = client.post(url, {"text": "Never mind."}).json()
    assert client.delete(f"{url}{gone['id']}/").status_code == 204
    assert [c["text"] for c in client.get(url).json()["results"]] == ["Wrong sign."]
    assert other.get(url).status_code == 404
    assert other.delete(f"{url}{made.json()['id']}/").status_code == 404

    answer = client.post(f"/api/attempts/{attempt.pk}/request-changes/", {"feedback": "Also docs."})
    assert answer.status_code == 201, answer.content
    new = Attempt.objects.get(pk=answer.json()["id"])
    attempt.refresh_from_db()
    assert (attempt.status, attempt.failure) == ("FAILED", "REJECTED")
    assert answer.json()["continues"] == str(attempt.pk)
    payload = build_payload(new)
    assert (payload["start_commit"], payload["base_commit"], payload["update"]) == (HEAD, BASE, "")
    context = payload["task"]["context"]
    assert "- calc.py:2: Wrong sign." in context
    assert "Also docs." in context


def test_bringing_up_to_date_and_the_way_out_of_a_conflict(user, client, lda):
    attempt = in_review(user)
    update = f"/api/attempts/{attempt.pk}/update/"
    first = Attempt.objects.get(pk=client.post(update, {}).json()["id"])
    assert (build_payload(first)["update"], first.continues_id) == ("rebase", attempt.pk)
    hand_over_attempt(first.pk)
    apply_transition(attempt_id=first.pk, to="FAILED", failure="MERGE_CONFLICT", message="a.py")
    answer = client.post(f"/api/attempts/{first.pk}/update/", {"resolve": True})
    second = Attempt.objects.get(pk=answer.json()["id"])
    payload = build_payload(second)
    assert (payload["update"], payload["start_commit"]) == ("resolve", HEAD)
    assert second.continues_id == attempt.pk, "the work is still that of the first"
    nothing = create_attempt(user=user, task_id=make_task(attempt.task.project, "New").pk)
    refused = client.post(f"/api/attempts/{nothing.pk}/update/", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal-transition")


def test_nobody_goes_on_from_what_somebody_else_decided(user, client, lda):
    attempt = in_review(user)
    url = f"/api/attempts/{attempt.pk}"
    client.patch(f"/api/tasks/{attempt.task_id}/", {"title": "Changed by somebody"})
    bodies = {"request-changes": {"feedback": "Shorter."}, "update": {}, "retry": {}}
    for verb, body in bodies.items():
        stale = client.post(f"{url}/{verb}/", {**body, "version": 1, "status": "REVIEW"})
        assert (stale.status_code, stale.json()["code"]) == (409, "version-conflict"), verb
    attempt.refresh_from_db()
    assert (attempt.status, Attempt.objects.count()) == ("REVIEW", 1), "nothing was half done"

    client.post(f"{url}/reject/", {"version": 2, "reason": "Wrong way."})
    for verb, body in bodies.items():
        late = client.post(f"{url}/{verb}/", {**body, "version": 2, "status": "REVIEW"})
        assert (late.status_code, late.json()["code"]) == (409, "attempt-moved"), verb
        assert "FAILED now, no longer REVIEW" in late.json()["detail"]
    assert Attempt.objects.count() == 1
    odd = client.post(f"{url}/retry/", {"status": "GONE"})
    assert (odd.status_code, list(odd.json()["errors"])) == (400, ["status"])
    body = {"feedback": "Shorter.", "version": 2, "status": "FAILED"}
    assert client.post(f"{url}/request-changes/", body).status_code == 201


def test_attempts_side_by_side(user, client, lda):
    attempt = in_review(user)
    client.post(f"/api/attempts/{attempt.pk}/retry/", {})
    rows = client.get(f"/api/tasks/{attempt.task_id}/compare/").json()["results"]
    assert [row["number"] for row in rows] == [2, 1]
    old = rows[1]
    assert old["diff_stats"] == {"files": 2, "additions": 5, "deletions": 1, "tests": ["test_a.py"]}
    assert old["gates"]["test"] == {
        "exit_code": 0, "duration_s": 1.5, "flaky": False, "at_head": True,
    }  # fmt: skip
    assert (old["cost_usd"], old["summary"], old["denied_count"]) == (0.5, "Now it adds.", 0)


def test_messages_reach_only_an_agent_that_works(user, client, lda):
    attempt = make_attempt(user)
    url = f"/api/attempts/{attempt.pk}/messages/"
    refused = client.post(url, {"text": "Use tabs."})
    assert (refused.status_code, refused.json()["code"]) == (409, "not-running")
    Attempt.objects.filter(pk=attempt.pk).update(status="RUNNING")
    lda.answer("POST", ".*/messages", 202, {"state": "RUNNING"})
    assert client.post(url, {"text": "Use tabs."}).status_code == 202
    assert lda.bodies(f"/runs/{attempt.pk}/messages") == [{"text": "Use tabs."}]


def test_an_agent_learns_what_came_before(user, client, lda):
    project = make_project(user)
    first = make_task(project, "Build it")
    done = in_review(user, first)
    client.post(f"/api/attempts/{done.pk}/approve/")
    task = make_task(project, "Use it", after=[first])
    failed = create_attempt(user=user, task_id=task.pk)
    hand_over_attempt(failed.pk)
    failed.gates.create(
        name="test", commit=HEAD, command="pytest", exit_code=1, duration_s=1,
        log_digest="sha256:0", log_artifact="test.log",
    )  # fmt: skip
    folder = Path(settings.HOME) / "artifacts" / str(failed.pk)
    folder.mkdir(parents=True)
    (folder / "test.log").write_text("E   assert 3 == 4\n")
    apply_transition(attempt_id=failed.pk, to="FAILED", failure="GATE_TEST")
    again = client.post(f"/api/attempts/{failed.pk}/retry/", {"feedback": "Mind the sign."}).json()
    context = build_payload(Attempt.objects.get(pk=again["id"]))["task"]["context"]
    assert "- Build it (2 files changed): Now it adds." in context
    Attempt.objects.filter(pk=done.pk).update(summary="s" * 5_000)
    long = build_payload(Attempt.objects.get(pk=again["id"]))["task"]["context"]
    assert "s" * 2_000 in long
    assert "s" * 2_001 not in long, "a long result is cut"
    assert "ended with GATE_TEST" in context
    assert "E   assert 3 == 4" in context
    assert "Feedback of the user: Mind the sign." in context


def test_the_merge_preview_is_the_ldas(user, client, lda):
    attempt = in_review(user)
    facts = {
        "base_branch": "main", "base": BASE, "head": HEAD, "behind": 2, "clean": False,
        "merged": False, "files": ["a.py"], "checkout": None, "checkout_dirty": False,
    }  # fmt: skip
    lda.answer("GET", ".*/merge-preview", 200, facts)
    assert client.get(f"/api/attempts/{attempt.pk}/merge-preview/").json() == facts
