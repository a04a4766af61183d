"""Starting tasks whose last dependency is done."""

from __future__ import annotations

import logging
import uuid

from django.db.models import Exists, OuterRef, QuerySet

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.services import check_startable, create_attempt
from rootbound_backend.apps.tasks.models import Task, TaskStatus
from rootbound_backend.apps.tasks.selectors import dependants, open_dependencies
from rootbound_backend.problems import Problem

__all__ = ["obstacle_to_start", "start_dependants", "start_ready_tasks"]

logger = logging.getLogger(__name__)


def start_dependants(*, task_id: uuid.UUID) -> int:
    """Start the tasks that waited for one that is now done; return how many."""
    task = Task.objects.filter(pk=task_id, status=TaskStatus.DONE).first()
    return 0 if task is None else _start(dependants(task))


def start_ready_tasks() -> int:
    """Start every ready task whose start was missed; return how many."""
    return _start(Task.objects.exclude(dependencies=[]))


def _start(candidates: QuerySet[Task]) -> int:
    # A task that was tried before is not started again by itself: somebody has to look at it.
    untried = candidates.filter(
        ~Exists(Attempt.objects.filter(task=OuterRef("pk"))), status=TaskStatus.TODO
    ).select_related("project", "project__owner")
    return sum(_start_one(task) for task in untried.order_by("-priority", "created_at", "id"))


def _starts_by_itself(task: Task) -> bool:
    return bool(task.auto_start or task.project.option("auto_start", False))


def obstacle_to_start(task: Task) -> str:
    """Return what keeps a task from starting by itself, "" when nothing does or it never would.

    Parameters
    ----------
    task
        One that was not tried yet and whose dependencies are done.
    """
    if not _starts_by_itself(task):
        return ""
    try:
        check_startable(user=task.project.owner, task=task)
    except Problem as problem:
        return problem.detail
    return ""


def _start_one(task: Task) -> bool:
    if not _starts_by_itself(task):
        return False
    if open_dependencies(task):
        return False
    try:
        create_attempt(user=task.project.owner, task_id=task.pk)
    except Problem as problem:
        logger.warning("Task %s was not started by itself: %s", task.pk, problem.detail)
        return False
    return True
