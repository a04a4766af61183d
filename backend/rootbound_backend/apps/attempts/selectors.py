"""Reads of attempts, events and gates."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.db.models import F, Prefetch, QuerySet

from rootbound_backend.apps.attempts.models import Attempt, Gate
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found
from rootbound_backend.statements import Prepared

__all__ = [
    "attempts_of_task",
    "gates_of_attempt",
    "get_attempt",
    "just_made",
    "latest_attempts",
]


def _named(attempts: QuerySet[Attempt]) -> QuerySet[Attempt]:
    return attempts.annotate(
        project_id=F("task__project_id"),
        task_version=F("task__version"),
        task_title=F("task__title"),
    )


_OWN = Prepared(
    lambda owner_id, pk: _named(
        Attempt.objects.filter(task__project__owner_id=owner_id, pk=pk)
    ).order_by(),
    uuid.UUID,
    uuid.UUID,
)


def _with_details(attempts: QuerySet[Attempt]) -> QuerySet[Attempt]:
    gates = Prefetch("gates", queryset=Gate.objects.order_by("id"))
    return _named(attempts).prefetch_related(gates)


def _with_gates(attempt: Attempt, gates: list[Gate]) -> Attempt:
    """Give an attempt its gates as if they had been prefetched."""
    known: Any = Gate.objects.none()
    known._result_cache = gates
    found: Any = attempt
    found._prefetched_objects_cache = {"gates": known}
    return attempt


def get_attempt(*, user: User, attempt_id: uuid.UUID) -> Attempt:
    """Return one attempt of the user's with its project's id, its task's facts and its gates.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    attempt = _OWN.first(user.pk, attempt_id)
    if attempt is None:
        raise not_found("attempt")
    return _with_gates(attempt, gates_of_attempt(attempt_id))


def gates_of_attempt(attempt_id: uuid.UUID) -> list[Gate]:
    """Return an attempt's evidence in the order in which it came."""
    return _GATES(attempt_id)


_GATES = Prepared(lambda pk: Gate.objects.filter(attempt_id=pk).order_by("id"), uuid.UUID)


def just_made(attempt: Attempt) -> Attempt:
    """Return an attempt that was stored a moment ago with the same details, which are known."""
    found: Any = attempt
    task = attempt.task
    found.project_id, found.task_version, found.task_title = (
        task.project_id,
        task.version,
        task.title,
    )
    return _with_gates(attempt, [])


def attempts_of_task(*, user: User, task_id: uuid.UUID) -> QuerySet[Attempt]:
    """Return the attempts of one task of the user's."""
    return _with_details(Attempt.objects.filter(task_id=task_id, task__project__owner=user))


def latest_attempts(task_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Attempt]:
    """Return the newest attempt of each task, in two queries for any number of tasks."""
    newest = (
        _with_details(Attempt.objects.filter(task_id__in=list(task_ids)))
        .order_by("task_id", "-number")
        .distinct("task_id")
    )
    return {attempt.task_id: attempt for attempt in newest}
