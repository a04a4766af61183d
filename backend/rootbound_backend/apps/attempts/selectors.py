"""Reads of attempts, events and gates."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.db.models import F, Prefetch, QuerySet

from rootbound_backend.apps.attempts.models import Attempt, Gate
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found

__all__ = [
    "attempts_of_task",
    "get_attempt",
    "just_made",
    "latest_attempts",
]


def _with_details(attempts: QuerySet[Attempt]) -> QuerySet[Attempt]:
    named = attempts.annotate(
        project_id=F("task__project_id"),
        task_version=F("task__version"),
        task_title=F("task__title"),
    )
    return named.prefetch_related(Prefetch("gates", queryset=Gate.objects.order_by("id")))


def get_attempt(*, user: User, attempt_id: uuid.UUID) -> Attempt:
    """Return one attempt of the user's with its project's id, its task's facts and its gates.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    attempt = (
        _with_details(Attempt.objects.filter(task__project__owner=user))
        .filter(pk=attempt_id)
        .first()
    )
    if attempt is None:
        raise not_found("attempt")
    return attempt


def just_made(attempt: Attempt) -> Attempt:
    """Return an attempt that was stored a moment ago with the same details, which are known."""
    found: Any = attempt
    task = attempt.task
    found.project_id, found.task_version, found.task_title = (
        task.project_id,
        task.version,
        task.title,
    )
    found._prefetched_objects_cache = {"gates": Gate.objects.none()}
    return attempt


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
