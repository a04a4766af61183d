"""Reads of tasks."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import OuterRef, QuerySet, Subquery

from rootbound_backend.apps.attempts.models import Attempt, AttemptStatus
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
    """Fill in what a board shows: a few queries for any number of tasks."""
    filled = list(tasks)
    attempts = latest_attempts(task.pk for task in filled)
    needed = _dependencies({item for task in filled for item in task.dependencies})
    for task in filled:
        blockers = [(item, needed.get(item)) for item in task.dependencies]
        task.blocked_by = [item for item, facts in blockers if not (facts and facts.done)]
        task.failed_dependencies = [item for item, facts in blockers if facts and facts.failure]
        task.latest_attempt = attempts.get(task.pk)
        _fill_in_waiting(task, [facts for _, facts in blockers if facts and not facts.done])
    return filled


@dataclass(frozen=True, slots=True)
class _Dependency:
    """What a task that waits for another one says of it."""

    title: str
    done: bool
    failure: str | None


def _dependencies(ids: Iterable[str]) -> dict[str, _Dependency]:
    wanted = list(ids)
    if not wanted:
        return {}
    newest = Attempt.objects.filter(task=OuterRef("pk")).order_by("-number")
    rows = Task.objects.filter(pk__in=wanted).annotate(
        failure=Subquery(newest.values("failure")[:1])
    )
    return {
        str(pk): _Dependency(
            title, status == TaskStatus.DONE, failure if status == TaskStatus.TODO else None
        )
        for pk, title, status, failure in rows.values_list("pk", "title", "status", "failure")
    }


def _fill_in_waiting(task: Task, blockers: list[_Dependency]) -> None:
    """Say why a task does not go on and, when it is queued, what its place is."""
    attempt = task.latest_attempt
    task.waiting_reason, task.queue_place = "", None
    if attempt is not None and attempt.status == AttemptStatus.QUEUED:
        task.queue_place = attempt.queue_place
        if attempt.waiting_for:
            task.waiting_reason = f"Waiting: {attempt.waiting_for}."
        return
    failed = next((item for item in blockers if item.failure), None)
    if task.status != TaskStatus.TODO or not task.dependencies:
        return
    if not blockers:
        if attempt is None:
            task.waiting_reason = _obstacle(task)
        return
    if failed is not None:
        task.waiting_reason = (
            f"“{failed.title}”, which it depends on, failed ({failed.failure}); retry that, or "
            "take it off the dependencies."
        )
        return
    names = ", ".join(f"“{item.title}”" for item in blockers[:3])
    task.waiting_reason = f"Waiting for {names}{' and more' if len(blockers) > 3 else ''}."


def _obstacle(task: Task) -> str:
    """Say why a task has not begun by itself although all that it waited for is done."""
    # Imported late: what starts tasks reads them by this module.
    from rootbound_backend.apps.tasks.autostart import obstacle_to_start

    obstacle = obstacle_to_start(task)
    return f"Did not start by itself: {obstacle}" if obstacle else ""


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
