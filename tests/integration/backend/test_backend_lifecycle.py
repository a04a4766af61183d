"""Attempts from start to merge, decompositions, and what starts by itself."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rootbound_backend.apps.attempts import handover
from rootbound_backend.apps.attempts.failures import SENTENCES, Failure
from rootbound_backend.apps.attempts.handover import HandOver, hand_over_attempt
from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent, AttemptStatus
from rootbound_backend.apps.attempts.services import create_attempt
from rootbound_backend.apps.attempts.tasks import (
    cancel_run_task,
    discard_deleted_run_task,
    discard_run_task,
    start_attempt_task,
    start_dependants_task,
    start_ready_tasks_task,
)
from rootbound_backend.apps.attempts.transitions import (
    ATTEMPT_TRANSITIONS,
    IllegalTransitionError,
    apply_transition,
)
from rootbound_backend.apps.local_access.models import WritableRoot
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.celery import app as celery_app
from rootbound_backend.lda_client import LdaRefusedError
from rootbound_backend.tokens import verify_ingest_token
from tests.integration.backend.backend_support import (
    HEAD,
    make_agent,
    make_attempt,
    make_project,
    make_task,
    post_events,
    way_to_review,
)

pytestmark = pytest.mark.django_db


def queued(user, **config):
    make_agent(user)
    return create_attempt(user=user, task_id=make_task(make_project(user, **config)).pk)


def in_review(user):
    attempt = make_attempt(user)
    post_events(attempt, way_to_review())
    attempt.refresh_from_db()
    assert attempt.status == "REVIEW"
    return attempt


def test_the_migrations_match_the_models(db):
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_every_failure_has_one_sentence():
    assert set(SENTENCES) == set(Failure.values)
    assert all(text.endswith(".") and len(text) > 30 for text in SENTENCES.values())


def test_the_scheduled_tasks_exist_under_their_names():
    celery_app.loader.import_default_modules()
    names = {entry["task"] for entry in celery_app.conf.beat_schedule.values()}
    assert "attempts.tasks.start_attempt_task" in celery_app.tasks
    assert names <= set(celery_app.tasks)


FIELDS = {
    "QUEUED": {},
    "RUNNING": {},
    "GATES": {},
    "REVIEW": {"head_commit": HEAD},
    "SUCCESS": {"head_commit": HEAD, "completed": True},
    "FAILED": {"failure": "INTERNAL", "completed": True},
}


def force(attempt, status):
    facts = dict(FIELDS[status])
    done = timezone.now() if facts.pop("completed", False) else None
    Attempt.objects.filter(pk=attempt.pk).update(status=status, completed_at=done, **facts)
    on_task = {"REVIEW": "REVIEW", "SUCCESS": "DONE", "FAILED": "TODO"}
    Task.objects.filter(pk=attempt.task_id).update(status=on_task.get(status, "IN_PROGRESS"))


@pytest.mark.parametrize("before", AttemptStatus.values)
@pytest.mark.parametrize("after", AttemptStatus.values)
def test_only_the_moves_of_the_table_are_possible(user, before, after):
    attempt = make_attempt(user)
    force(attempt, before)
    events = AttemptEvent.objects.filter(attempt=attempt).count()
    facts = {"failure": "INTERNAL"} if after == "FAILED" else {}
    if after in ATTEMPT_TRANSITIONS[before]:
        moved = apply_transition(attempt_id=attempt.pk, to=after, head_commit=HEAD, **facts)
        assert moved.status == after
        last = AttemptEvent.objects.filter(attempt=attempt).order_by("-seq").first()
        assert (last.type, last.payload["status"]) == ("STATUS", after)
        assert last.seq == moved.last_seq
    else:
        with pytest.raises(IllegalTransitionError, match=before):
            apply_transition(attempt_id=attempt.pk, to=after, head_commit=HEAD, **facts)
        attempt.refresh_from_db()
        assert attempt.status == before
        assert AttemptEvent.objects.filter(attempt=attempt).count() == events


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "DONE"},
        {"status": "FAILED", "completed_at": timezone.now()},
        {"status": "FAILED", "failure": "INTERNAL"},
        {"failure": "INTERNAL"},
        {"status": "REVIEW"},
        {"completed_at": timezone.now()},
    ],
)
def test_the_database_refuses_impossible_attempts(user, fields):
    attempt = make_attempt(user)
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.filter(pk=attempt.pk).update(**fields)


def test_a_task_has_one_active_attempt_even_for_the_database(user):
    attempt = make_attempt(user)
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(task=attempt.task, number=2, branch_name="x")


def test_an_attempt_is_handed_over_with_the_ldas_payload(user, lda):
    WritableRoot.objects.create(user=user, path="/srv", canonical_path="/srv")
    WritableRoot.objects.create(user=user, path="/off", canonical_path="/off", is_enabled=False)
    attempt = queued(user, gate_timeout_s=60, budget=2.5, network={"agent": True})
    assert start_attempt_task(str(attempt.pk)) == "started"
    (body,) = lda.bodies("/run")
    schema = Path(__file__).parents[3] / "lda/rootbound_lda/schema/run.v1.json"
    jsonschema.validate(body, json.loads(schema.read_text()))
    assert body["writable_roots"] == ["/srv"]
    assert body["base_ref"] == "main"
    assert body["limits"] == {"gate_timeout_s": 60, "max_cost_usd": 2.5}
    assert body["network"] == {"agent": True, "install": True}
    assert body["agent_config"]["key_name"] == "GLM_API_KEY"
    assert body["commands"]["test_cmd"] == "pytest -q"
    assert body["lease_generation"] == 1
    grant = verify_ingest_token(body["ingest"]["token"])
    assert (grant.attempt_id, grant.lease_generation) == (attempt.pk, 1)
    attempt.refresh_from_db()
    assert (attempt.status, attempt.handed_over_at is not None) == ("RUNNING", True)
    assert start_attempt_task(str(attempt.pk)) == "skipped"
    assert len(lda.bodies("/run")) == 1


def test_an_lda_that_is_down_is_tried_again_and_then_given_up(user):
    attempt = queued(user)
    outcomes = []
    for _ in range(handover.MAX_TRIES):
        outcomes.append(hand_over_attempt(attempt.pk))
        if outcomes[-1] is HandOver.RETRY:
            assert hand_over_attempt(attempt.pk) is HandOver.SKIPPED  # not before its time
        Attempt.objects.filter(pk=attempt.pk).update(next_try_at=timezone.now())
    assert outcomes == [HandOver.RETRY] * 5 + [HandOver.FAILED]
    attempt.refresh_from_db()
    assert (attempt.status, attempt.failure) == ("FAILED", "LDA_UNREACHABLE")
    assert "rootbound up" in attempt.failure_message
    assert attempt.lease_generation == 1


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("repo-outside-roots", "REPO_INVALID"),
        ("policy-unenforceable", "POLICY_UNENFORCEABLE"),
        ("schema", "INTERNAL"),
    ],
)
def test_a_refusal_of_the_lda_becomes_a_typed_failure(user, lda, code, failure):
    lda.problem("POST", "/run", 422, code)
    attempt = queued(user)
    assert hand_over_attempt(attempt.pk) is HandOver.FAILED
    attempt.refresh_from_db()
    assert (attempt.failure, attempt.failure_message) == (failure, f"Because of {code}.")
    assert attempt.task.attempts.count() == 1


def test_an_lda_that_restarted_gets_a_token_for_its_new_boot(user, lda):
    attempt = queued(user)
    lda.boot_id = "new"
    assert hand_over_attempt(attempt.pk) is HandOver.RETRY
    lda.refused.clear()
    lda.announce()
    Attempt.objects.update(next_try_at=None)
    assert hand_over_attempt(attempt.pk) is HandOver.STARTED


def test_a_dead_workers_claim_is_taken_over_with_a_new_generation(user, lda):
    attempt = queued(user)
    Attempt.objects.update(lease_generation=1, claimed_until=timezone.now() + timedelta(seconds=30))
    assert hand_over_attempt(attempt.pk) is HandOver.SKIPPED
    assert handover.sweep_queued_attempts() == 0
    Attempt.objects.update(claimed_until=timezone.now())
    assert handover.sweep_queued_attempts() == 1
    assert lda.bodies("/run")[0]["lease_generation"] == 2


def test_max_parallel_keeps_attempts_waiting_and_says_why(user, lda):
    project = make_project(user, max_parallel=1)
    make_agent(user)
    first, second = (
        create_attempt(user=user, task_id=make_task(project, title).pk) for title in "ab"
    )
    assert hand_over_attempt(first.pk) is HandOver.STARTED
    assert hand_over_attempt(second.pk) is HandOver.WAITING
    assert hand_over_attempt(second.pk) is HandOver.WAITING
    second.refresh_from_db()
    assert "max_parallel" in second.waiting_for
    notices = AttemptEvent.objects.filter(attempt=second, type="LOG")
    assert notices.count() == 1
    apply_transition(attempt_id=first.pk, to="FAILED", failure="INTERNAL")
    assert handover.sweep_queued_attempts() == 1


def test_cancel_before_during_and_after(user, client, lda):
    waiting = queued(user)
    assert client.post(f"/api/attempts/{waiting.pk}/cancel/").json()["failure"] == "CANCELLED"
    assert hand_over_attempt(waiting.pk) is HandOver.SKIPPED
    running = create_attempt(user=user, task_id=waiting.task_id)
    hand_over_attempt(running.pk)
    for _ in range(2):
        answer = client.post(f"/api/attempts/{running.pk}/cancel/")
        assert (answer.status_code, answer.json()["failure"]) == (200, "CANCELLED")
    cancel_run_task(str(running.pk))
    assert len(lda.bodies(f"/runs/{running.pk}/cancel")) == 1
    done = in_review(user)
    answer = client.post(f"/api/attempts/{done.pk}/cancel/")
    assert (answer.status_code, answer.json()["code"]) == (409, "illegal-transition")


def test_a_cancel_while_the_hand_over_is_on_its_way_kills_the_run(
    user, client, lda, django_capture_on_commit_callbacks, monkeypatch
):
    attempt = queued(user)
    sent = []
    monkeypatch.setattr(celery_app, "send_task", lambda name, **kw: sent.append((name, kw["args"])))
    real = handover.lda_request

    def cancels_meanwhile(*args, **kwargs):
        Attempt.objects.filter(pk=attempt.pk).update(
            status="FAILED", failure="CANCELLED", completed_at=timezone.now()
        )
        return real(*args, **kwargs)

    monkeypatch.setattr(handover, "lda_request", cancels_meanwhile)
    with django_capture_on_commit_callbacks(execute=True):
        assert hand_over_attempt(attempt.pk) is HandOver.SKIPPED
    assert ("attempts.tasks.cancel_run_task", [str(attempt.pk)]) in sent


def test_approve_merges_and_finishes_the_task(user, client, lda):
    attempt = in_review(user)
    answer = client.post(f"/api/attempts/{attempt.pk}/approve/")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["status"], answer.json()["merge_commit"]) == ("SUCCESS", "c" * 40)
    (body,) = lda.bodies(f"/runs/{attempt.pk}/merge")
    assert body["head_commit"] == HEAD
    assert client.get(f"/api/tasks/{attempt.task_id}/").json()["status"] == "DONE"
    again = client.post(f"/api/attempts/{attempt.pk}/approve/")
    assert (again.status_code, again.json()["status"]) == (200, "SUCCESS")
    assert len(lda.bodies(f"/runs/{attempt.pk}/merge")) == 1


@pytest.mark.parametrize("code", ["merge-conflict", "checkout-dirty", "base-moved", "head-moved"])
def test_what_cannot_be_merged_stays_in_review(user, client, lda, code):
    attempt = in_review(user)
    lda.problem("POST", ".*/merge", 409, code, files=["a.py"])
    answer = client.post(f"/api/attempts/{attempt.pk}/approve/")
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert answer.json()["files"] == ["a.py"]
    lda.answers.clear()
    assert client.post(f"/api/attempts/{attempt.pk}/approve/").json()["status"] == "SUCCESS"


def test_approve_without_the_lda_is_a_503_and_changes_nothing(user, client):
    attempt = in_review(user)
    assert client.post(f"/api/attempts/{attempt.pk}/approve/").status_code == 503
    attempt.refresh_from_db()
    assert (attempt.status, attempt.claimed_until) == ("REVIEW", None)


def test_nobody_else_decides_during_a_merge(user, client, lda):
    attempt = in_review(user)
    Attempt.objects.update(claimed_until=timezone.now() + timedelta(seconds=60))
    for verb in ("approve", "reject", "retry"):
        answer = client.post(f"/api/attempts/{attempt.pk}/{verb}/", {})
        assert answer.json()["code"] == "merge-in-progress"


def test_a_move_of_a_task_that_changed_meanwhile_is_refused(user, client, lda):
    attempt = in_review(user)
    task = f"/api/tasks/{attempt.task_id}/"
    assert client.get(f"/api/attempts/{attempt.pk}/").json()["task_version"] == 1
    assert client.patch(task, {"title": "Changed by somebody"}).json()["version"] == 2
    assert client.get(f"/api/attempts/{attempt.pk}/").json()["task_version"] == 2
    for verb in ("approve", "reject"):
        stale = client.post(f"/api/attempts/{attempt.pk}/{verb}/", {"version": 1})
        assert (stale.status_code, stale.json()["code"]) == (409, "version-conflict")
        assert stale.json()["version"] == 2
    attempt.refresh_from_db()
    assert (attempt.status, attempt.claimed_until) == ("REVIEW", None)
    body = {"version": 2, "reason": "Shorter."}
    assert client.post(f"/api/attempts/{attempt.pk}/reject/", body).json()["status"] == "FAILED"
    stale = client.post(f"{task}attempts/", {"version": 1})
    assert stale.json()["code"] == "version-conflict"
    assert Attempt.objects.count() == 1
    started = client.post(f"{task}attempts/", {"version": 2}).json()
    stale = client.post(f"/api/attempts/{started['id']}/cancel/", {"version": 1})
    assert stale.json()["code"] == "version-conflict"
    # Who was quicker with the same move is told so, whatever the version.
    again = client.post(f"{task}attempts/", {"version": 1})
    assert again.json()["code"] == "attempt-live"
    odd = client.post(f"/api/attempts/{started['id']}/cancel/", {"version": "new"})
    assert (odd.status_code, list(odd.json()["errors"])) == (400, ["version"])
    assert client.post(f"/api/attempts/{started['id']}/cancel/", {"version": 2}).status_code == 200


def test_reject_and_retry_with_feedback(user, client, lda):
    attempt = in_review(user)
    answer = client.post(f"/api/attempts/{attempt.pk}/reject/", {"reason": "Too long."})
    assert (answer.json()["failure"], answer.json()["failure_message"]) == ("REJECTED", "Too long.")
    discard_run_task(str(attempt.pk))
    assert len(lda.bodies(f"/runs/{attempt.pk}/discard")) == 1
    second = client.post(f"/api/attempts/{attempt.pk}/retry/", {"feedback": "Shorter."})
    assert (second.status_code, second.json()["number"]) == (201, 2)
    hand_over_attempt(Attempt.objects.get(number=2).pk)
    context = lda.bodies("/run")[0]["task"]["context"]
    assert "Shorter." in context
    assert "Too long." in context
    assert client.post(f"/api/attempts/{attempt.pk}/retry/", {}).json()["code"] == "attempt-live"

    # Once the newer one has failed as well, whoever still looks at the first is told of it.
    client.post(f"/api/attempts/{second.json()['id']}/cancel/", {})
    late = client.post(f"/api/attempts/{attempt.pk}/retry/", {"feedback": "Once more."})
    assert (late.status_code, late.json()["code"]) == (409, "attempt-superseded")
    assert late.json()["detail"].startswith(
        "Attempt 2 came after this one and ended as CANCELLED; retry attempt 2, or "
    )
    assert late.json()["newest"] == second.json()["id"]
    assert Attempt.objects.count() == 2
    going_on = client.post(f"/api/attempts/{attempt.pk}/request-changes/", {"feedback": "Mine."})
    assert (going_on.status_code, going_on.json()["continues"]) == (201, str(attempt.pk))


def test_what_is_deleted_leaves_no_worktree(user, client, lda, django_capture_on_commit_callbacks):
    attempt = in_review(user)
    waiting = create_attempt(user=user, task_id=make_task(attempt.task.project).pk)
    sent = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(celery_app, "send_task", lambda name, **kw: sent.append((name, kw["args"])))
        with django_capture_on_commit_callbacks(execute=True):
            assert client.delete(f"/api/tasks/{attempt.task_id}/").status_code == 204
            client.post(f"/api/attempts/{waiting.pk}/cancel/")
            assert client.delete(f"/api/projects/{waiting.task.project_id}/").status_code == 204
    name = "attempts.tasks.discard_deleted_run_task"
    asked = [args for task, args in sent if task == name]
    assert asked == [[str(attempt.pk), str(user.pk), "/srv/sample"]], "the other one never began"
    lda.answer("POST", ".*/discard", 202, {})
    discard_deleted_run_task(*asked[0])
    assert len(lda.bodies(f"/runs/{attempt.pk}/discard")) == 1
    lda.problem("POST", ".*/discard", 404, "run-unknown")
    discard_deleted_run_task(*asked[0])
    lda.problem("POST", ".*/discard", 409, "run-live")
    with pytest.raises(LdaRefusedError):  # which a worker answers by trying again
        discard_deleted_run_task(*asked[0])


def test_retry_from_review_rejects_and_starts_again(user, client):
    attempt = in_review(user)
    answer = client.post(f"/api/attempts/{attempt.pk}/retry/", {"feedback": "No."})
    assert answer.json()["status"] == "QUEUED"
    attempt.refresh_from_db()
    assert (attempt.failure, attempt.failure_message) == ("REJECTED", "No.")
    assert client.get(f"/api/tasks/{attempt.task_id}/").json()["status"] == "IN_PROGRESS"


def silent(user):
    attempt = make_attempt(user)
    post_events(attempt, [])
    Attempt.objects.filter(pk=attempt.pk).update(
        lease_expires_at=timezone.now() - timedelta(seconds=5)
    )
    return attempt


def test_the_reaper_needs_positive_evidence(user, lda):
    attempt = silent(user)
    lda.answer("GET", "/runs/.*", 200, {"state": "RUNNING", "live": True})
    assert handover.reap_attempts() == 0
    lda.answer("GET", "/runs/.*", 200, {"state": "FAILED", "live": False})
    assert handover.reap_attempts() == 0  # its last report may still be on its way
    lda.answer("GET", "/runs/.*", 500, {})
    assert handover.reap_attempts() == 0
    lda.answer("GET", "/runs/.*", 404, {"code": "not-found"})
    assert handover.reap_attempts() == 1
    attempt.refresh_from_db()
    assert (attempt.status, attempt.failure) == ("FAILED", "LDA_LOST")


def test_silence_alone_is_no_evidence(user):
    attempt = silent(user)
    assert handover.reap_attempts() == 0
    attempt.refresh_from_db()
    assert attempt.status == "RUNNING"


@pytest.mark.parametrize("where", ["task", "project"])
def test_dependants_start_when_the_last_dependency_is_done(user, where):
    project = make_project(user, auto_start=where == "project")
    make_agent(user)
    a, b = make_task(project, "A"), make_task(project, "B")
    waits = make_task(project, "C", after=[a, b], auto_start=where == "task")
    by_hand = make_task(make_project(user), "D")
    Task.objects.filter(pk=a.pk).update(status="DONE")
    assert start_dependants_task(str(a.pk)) == 0
    assert start_ready_tasks_task() == 0
    Task.objects.filter(pk=b.pk).update(status="DONE")
    assert start_dependants_task(str(b.pk)) == 1
    assert start_ready_tasks_task() == 0
    attempt = waits.attempts.get()
    assert by_hand.attempts.count() == 0
    apply_transition(attempt_id=attempt.pk, to="FAILED", failure="INTERNAL")
    assert start_ready_tasks_task() == 0  # what failed once waits for a person


@pytest.mark.django_db(transaction=True)
def test_the_task_message_is_sent_only_after_the_commit(user, monkeypatch):
    sent = []
    monkeypatch.setattr(celery_app, "send_task", lambda name, **kw: sent.append(name))
    make_agent(user)
    task = make_task(make_project(user))
    with transaction.atomic():
        create_attempt(user=user, task_id=task.pk)
        assert sent == []
    assert sent == ["attempts.tasks.start_attempt_task"]


@pytest.mark.django_db(transaction=True)
def test_an_attempt_runs_after_few_statements(user, client, lda, monkeypatch):
    """Somebody waits: from the request to RUNNING each of them counts."""
    monkeypatch.setattr(celery_app, "send_task", lambda name, **kw: None)
    make_agent(user)
    task = make_task(make_project(user))
    with CaptureQueriesContext(connection) as posting:
        answer = client.post(f"/api/tasks/{task.pk}/attempts/", {}, format="json")
    made = answer.json()
    # The user, the task with its lock and attempts, the agent, the disk, the attempt, its first
    # event and the task again; two more around them.
    assert len(posting) <= 9, posting.captured_queries
    with CaptureQueriesContext(connection) as handing_over:
        assert hand_over_attempt(made["id"]) is HandOver.STARTED
    assert len(handing_over) <= 16, handing_over.captured_queries
    kept = client.get(f"/api/attempts/{made['id']}/").json()
    assert {**made, "status": "RUNNING"} == {
        **kept, "started_at": None, "last_seq": 1,
    }, "the answer is what a look at the attempt would have shown"  # fmt: skip
