"""Reads of tasks."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from django.db.models import QuerySet

from rootbound_backend.apps.attempts.selectors import latest_attempts
from rootbound_backend.apps.tasks.models import Task, TaskStatus
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found

__all__ = [
    "board_revisions",
    "board_tasks",
    "dependants",
    "get_task",
    "open_dependencies",
    "tasks_of_project",
    "tasks_with_details",
]


def tasks_of_project(*, user: User, project_id: uuid.UUID) -> QuerySet[Task]:
    """Return the tasks of one project of the user's, without details."""
    return Task.objects.filter(project_id=project_id, project__owner=user)


def tasks_with_details(tasks: Iterable[Task]) -> list[Task]:
    """Fill in `blocked_by` and `latest_attempt`: three queries for any number of tasks."""
    filled = list(tasks)
    attempts = latest_attempts(task.pk for task in filled)
    needed = {dependency for task in filled for dependency in task.dependencies}
    done = _done_among(needed)
    for task in filled:
        task.blocked_by = [item for item in task.dependencies if item not in done]
        task.latest_attempt = attempts.get(task.pk)
    return filled


def _done_among(ids: Iterable[str]) -> set[str]:
    wanted = list(ids)
    if not wanted:
        return set()
    done = Task.objects.filter(pk__in=wanted, status=TaskStatus.DONE)
    return {str(pk) for pk in done.values_list("pk", flat=True)}


def get_task(*, user: User, task_id: uuid.UUID) -> Task:
    """Return one task of the user's with details.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    task = Task.objects.filter(pk=task_id, project__owner=user).first()
    if task is None:
        raise not_found("task")
    return tasks_with_details([task])[0]


def open_dependencies(task: Task) -> list[Task]:
    """Return the dependencies of a task that are not DONE."""
    if not task.dependencies:
        return []
    return list(
        Task.objects.filter(project_id=task.project_id, pk__in=task.dependencies)
        .exclude(status=TaskStatus.DONE)
        .order_by("created_at", "id")
    )


def dependants(task: Task) -> QuerySet[Task]:
    """Return the tasks of the same project that name a task as a dependency."""
    return Task.objects.filter(project_id=task.project_id, dependencies__contains=[str(task.pk)])


def board_revisions(project_id: uuid.UUID) -> dict[uuid.UUID, int]:
    """Return the revision of each task of a project: what a board compares to see changes."""
    return dict(Task.objects.filter(project_id=project_id).values_list("pk", "revision"))


def board_tasks(project_id: uuid.UUID, ids: Sequence[uuid.UUID] | None = None) -> list[Task]:
    """Return the tasks of a board with details, all of them or those with the given ids."""
    rows = Task.objects.filter(project_id=project_id)
    if ids is not None:
        rows = rows.filter(pk__in=ids)
    return tasks_with_details(rows.order_by("created_at", "id"))
