"""Which attempt starts next, why the others wait, and that nothing starts twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from rootbound_backend.apps.attempts import handover
from rootbound_backend.apps.attempts.handover import HandOver, hand_over_attempt
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.services import create_attempt
from rootbound_backend.apps.attempts.transitions import apply_transition
from rootbound_backend.apps.tasks.autostart import start_dependants, start_ready_tasks
from rootbound_backend.apps.tasks.models import Task
from tests.integration.backend.backend_support import make_agent, make_project, make_task


def attempt_on(user: Any, project: Any, title: str, **fields: Any) -> Attempt:
    return create_attempt(user=user, task_id=make_task(project, title, **fields).pk)


def task_of(client: Any, attempt: Attempt) -> dict[str, Any]:
    return dict(client.get(f"/api/tasks/{attempt.task_id}/").json())


def test_priority_decides_and_every_wait_has_a_reason_and_a_place(user, client, lda):
    make_agent(user)
    project = make_project(user, max_parallel=1)
    low = attempt_on(user, project, "Low")
    high = attempt_on(user, project, "High", priority=5)
    mid = attempt_on(user, project, "Mid", priority=3)

    assert hand_over_attempt(low.pk) is HandOver.WAITING, "a more important one comes first"
    assert handover.sweep_queued_attempts() == 1
    high.refresh_from_db()
    assert high.status == "RUNNING"
    seen = [(t["queue_place"], "max_parallel" in t["waiting_reason"])
            for t in (task_of(client, mid), task_of(client, low))]  # fmt: skip
    assert seen == [(1, True), (2, True)]
    assert task_of(client, high)["queue_place"] is None

    apply_transition(attempt_id=high.pk, to="FAILED", failure="INTERNAL")
    assert handover.sweep_queued_attempts() == 1
    mid.refresh_from_db()
    low.refresh_from_db()
    assert (mid.status, low.status, low.queue_place) == ("RUNNING", "QUEUED", 1)


@pytest.mark.parametrize(
    ("config", "machine", "says"),
    [
        ({"max_parallel_by_role": {"BACKEND": 1}}, {}, "role BACKEND"),
        ({"max_parallel_by_provider": {"GLM": 1}}, {}, "of this project use GLM"),
        ({}, {"MAX_PARALLEL": 1}, "this machine"),
        ({}, {"MAX_PARALLEL_BY_PROVIDER": {"GLM": 1}}, "use GLM already, as many as this machine"),
    ],
)
def test_each_limit_is_kept(user, client, lda, monkeypatch, config, machine, says):
    for name, value in machine.items():
        monkeypatch.setattr(settings, name, value)
    make_agent(user)
    make_agent(user, "QA", provider="GEMINI", model="gemini-2.5-flash")
    project = make_project(user, **config)
    attempts = [attempt_on(user, project, title) for title in ("One", "Two")]
    other = attempt_on(user, project, "Other", agent_role="QA")
    handover.sweep_queued_attempts()
    for attempt in (*attempts, other):
        attempt.refresh_from_db()
    assert [attempt.status for attempt in attempts] == ["RUNNING", "QUEUED"]
    assert other.status == ("QUEUED" if "MAX_PARALLEL" in machine else "RUNNING")
    assert says in task_of(client, attempts[1])["waiting_reason"]


def test_a_failed_dependency_is_visible_on_what_waits_for_it(user, client, lda):
    make_agent(user)
    project = make_project(user, auto_start=True)
    first = make_task(project, "First")
    then = make_task(project, "Then", after=[first])
    shown = client.get(f"/api/tasks/{then.pk}/").json()
    assert (shown["waiting_reason"], shown["failed_dependencies"]) == ("Waiting for “First”.", [])
    attempt = create_attempt(user=user, task_id=first.pk)
    before = Task.objects.get(pk=then.pk).revision
    apply_transition(attempt_id=attempt.pk, to="FAILED", failure="GATE_TEST")
    shown = client.get(f"/api/tasks/{then.pk}/").json()
    assert shown["failed_dependencies"] == [str(first.pk)]
    assert "“First”, which it depends on, failed (GATE_TEST)" in shown["waiting_reason"]
    assert Task.objects.get(pk=then.pk).revision > before, "its board shows it at once"
    assert start_ready_tasks() == 0, "it waits"


def test_a_task_that_cannot_start_by_itself_says_why(user, client, lda):
    project = make_project(user, auto_start=True)
    first = make_task(project, "First")
    then = make_task(project, "Then", after=[first], agent_role="QA")
    Task.objects.filter(pk=first.pk).update(status="DONE")
    assert start_ready_tasks() == 0
    said = client.get(f"/api/tasks/{then.pk}/").json()["waiting_reason"]
    assert said.startswith("Did not start by itself: You have no agent with the role QA; make one")
    make_agent(user, "QA")
    assert client.get(f"/api/tasks/{then.pk}/").json()["waiting_reason"] == ""
    assert start_ready_tasks() == 1, "nothing needs to be done but what it said"


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_start_each_task_once(user, lda):
    make_agent(user)
    project = make_project(user, max_parallel=2, auto_start=True)
    first = make_task(project, "First")
    waiting = [make_task(project, f"Then {n}", after=[first]) for n in range(4)]
    Task.objects.filter(pk=first.pk).update(status="DONE")
    barrier = threading.Barrier(6)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            barrier.wait()
            start_dependants(task_id=first.pk)
            start_ready_tasks()
            handover.sweep_queued_attempts()
            for pk in Attempt.objects.values_list("pk", flat=True):
                hand_over_attempt(pk)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    attempts = list(Attempt.objects.order_by("created_at"))
    assert sorted(str(a.task_id) for a in attempts) == sorted(str(t.pk) for t in waiting)
    running = [a for a in attempts if a.status == "RUNNING"]
    assert len(running) == 2, "the limit holds, whoever counts"
    runs = [body["attempt_id"] for body in lda.bodies("/run")]
    assert sorted(runs) == sorted(str(a.pk) for a in running), "and the LDA is asked once for each"
    assert all(a.claimed_until is None or a.claimed_until < timezone.now() for a in running)
