"""Prepared statements answer as Django's queries do."""

from __future__ import annotations

import uuid

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.statements import Prepared, fetch, insert_row, update_row
from tests.integration.backend.backend_support import make_attempt, make_project, make_task

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_prepared_query_answers_as_the_query(user, settings):
    task = make_task(make_project(user), "50 % of it")
    attempt = make_attempt(user, task)
    make_attempt(user, make_task(make_project(user), "Other"))

    def rows(title: str, pk: uuid.UUID):
        named = Task.objects.filter(title=title, attempts=pk).select_related("project__owner")
        return named.exclude(description="100 % of it")

    (found,) = Prepared(rows, str, uuid.UUID)(task.title, attempt.pk)
    assert (found, found.project.owner) == (task, user)
    assert (found.dependencies, found.project.config) == ([], task.project.config), "not text"
    assert found.project.owner_id == user.pk and not found._state.adding
    flat = Prepared(
        lambda pk: Attempt.objects.filter(pk=pk).values_list("created_at", "agent", "completed_at"),
        uuid.UUID,
    )
    assert flat(attempt.pk) == [(attempt.created_at, attempt.agent, None)]
    assert flat.first(uuid.uuid4()) is None
    settings.PREPARED_STATEMENTS = False
    assert flat.first(attempt.pk) == flat(attempt.pk)[0]
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        kept = " ".join(text for (text,) in cursor.fetchall())
    assert "'100 % of it'" in kept and task.title not in kept, "constants are part of the plan"


def test_a_row_is_locked_in_a_transaction_only(user):
    locked = Prepared(lambda pk: Project.objects.select_for_update().filter(pk=pk), uuid.UUID)
    project = make_project(user)
    with transaction.atomic():
        assert locked.first(project.pk) == project
    with pytest.raises(TransactionManagementError):
        locked(project.pk)


def test_rows_are_stored_as_django_would(user):
    attempt = make_attempt(user, make_task(make_project(user)))
    attempt.usage, attempt.exit_code, attempt.summary = {"a": [1, None]}, 70_000, "100 %"
    update_row(attempt, "usage", "exit_code")
    kept = Attempt.objects.get(pk=attempt.pk)
    assert (kept.usage, kept.exit_code, kept.summary) == ({"a": [1, None]}, 70_000, "")
    update_row(attempt)
    assert Attempt.objects.get(pk=attempt.pk).summary == "100 %"
    with pytest.raises(ValueError, match="has not all of the fields"):
        update_row(attempt, "status", "colour")

    event = AttemptEvent(
        attempt_id=attempt.pk, seq=70_000, timestamp=timezone.now(), type="LOG",
        payload={"text": "é"}, attempt_created_at=attempt.created_at,
    )  # fmt: skip
    insert_row(event)
    assert AttemptEvent.objects.get(attempt=attempt, seq=70_000).payload == event.payload
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_row(event)
    assert fetch("UPDATE tasks_task SET priority = %s WHERE id = %s", [1, attempt.task_id]) == []
