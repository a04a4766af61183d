"""Writes on tasks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from rootbound_backend.announce import announce_project
from rootbound_backend.apps.agents.selectors import get_agent
from rootbound_backend.apps.attempts.models import ACTIVE_STATUSES, Attempt
from rootbound_backend.apps.attempts.transitions import apply_task_transition, touch_task
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.projects.services import discard_with, refuse_while_live
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.apps.tasks.selectors import dependants, get_task, tasks_with_details
from rootbound_backend.apps.tasks.versions import refuse_stale
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import InvalidInput, Problem, not_found
from rootbound_backend.statements import Prepared, insert_row

__all__ = ["create_task", "cycle_in", "delete_task", "insert_task", "lock_project", "update_task"]


def lock_project(*, user: User, project_id: uuid.UUID) -> Project:
    """Return a project of the user's under a lock that orders writes of dependencies.

    Raises
    ------
    Problem
        404.
    """
    project = _LOCKED_PROJECT.first(project_id, user.pk)
    if project is None:
        raise not_found("project")
    return project


_LOCKED_PROJECT = Prepared(
    lambda pk, owner_id: (
        Project.objects.select_for_update(no_key=True).filter(pk=pk, owner_id=owner_id).order_by()
    ),
    uuid.UUID,
    uuid.UUID,
)


def create_task(*, user: User, project_id: uuid.UUID, fields: dict[str, Any]) -> Task:
    """Store a new task.

    Parameters
    ----------
    user
        Owner of the project.
    project_id
        The project.
    fields
        Validated fields of the task.

    Raises
    ------
    Problem
        404; 400 for dependencies outside the project or an agent that is not the user's.
    """
    with transaction.atomic():
        project = lock_project(user=user, project_id=project_id)
        task = insert_task(user=user, project=project, fields=fields)
    return tasks_with_details([task])[0]


def insert_task(*, user: User, project: Project, fields: dict[str, Any]) -> Task:
    """Store a task of a locked project; part of the caller's transaction.

    Raises
    ------
    Problem
        400 as for :func:`create_task`.
    """
    values = dict(fields)
    dependencies = [str(item) for item in values.pop("dependencies", [])]
    task = Task(project=project, **values)
    task.dependencies = _checked_dependencies(task, dependencies)
    _check_agent(user, task.assigned_agent_id)
    insert_row(task)
    announce_project(project.pk)
    return task


def _check_agent(user: User, agent_id: uuid.UUID | None) -> None:
    if agent_id is None:
        return
    try:
        get_agent(user=user, agent_id=agent_id)
    except Problem as problem:
        raise InvalidInput(
            field="assigned_agent_id",
            detail="There is no such agent of yours; see GET /api/agents/.",
        ) from problem


def update_task(
    *, user: User, task_id: uuid.UUID, fields: dict[str, Any], version: int | None = None
) -> Task:
    """Change the given fields of a task.

    Parameters
    ----------
    user
        Owner of the task.
    task_id
        The task.
    fields
        Validated fields; ``status`` only from TODO to DONE and back.
    version
        The version that the caller saw; None to change whatever is there.

    Raises
    ------
    Problem
        404; 400 for bad dependencies (a cycle is named); 409 ``version-conflict``,
        ``attempt-live`` or ``illegal-transition``.
    """
    project_id = get_task(user=user, task_id=task_id).project_id
    values = dict(fields)
    status = values.pop("status", None)
    with transaction.atomic():
        lock_project(user=user, project_id=project_id)
        task = Task.objects.select_for_update(no_key=True).filter(pk=task_id).first()
        if task is None:
            raise not_found("task")
        refuse_stale(task, version)
        if "dependencies" in values:
            wanted = [str(item) for item in values.pop("dependencies")]
            task.dependencies = _checked_dependencies(task, wanted)
        if "assigned_agent_id" in values:
            _check_agent(user, values["assigned_agent_id"])
        for name, value in values.items():
            setattr(task, name, value)
        task.version += 1
        touch_task(task)
        task.save()
        if status is not None and status != task.status:
            _move_by_hand(task, status)
    return get_task(user=user, task_id=task_id)


def _move_by_hand(task: Task, status: str) -> None:
    if Attempt.objects.filter(task=task, status__in=ACTIVE_STATUSES).exists():
        raise Problem(
            status=409,
            code="attempt-live",
            detail="An attempt decides this task's status; cancel, approve or reject it instead.",
        )
    if status not in {"TODO", "DONE"}:
        raise Problem(
            status=409,
            code="illegal-transition",
            detail=f"Only an attempt brings a task to {status}; start one.",
            extras={"from": task.status, "to": status},
        )
    apply_task_transition(task_id=task.pk, to=status)


def _checked_dependencies(task: Task, wanted: Sequence[str]) -> list[str]:
    """Return the dependencies without repetition, or refuse them."""
    unique = list(dict.fromkeys(wanted))
    if not unique:
        return []
    rows = Task.objects.filter(project_id=task.project_id).values_list(
        "pk", "title", "dependencies"
    )
    graph = {str(pk): list(needed) for pk, _, needed in rows}
    titles = {str(pk): title for pk, title, _ in rows}
    unknown = next((item for item in unique if item not in graph and item != str(task.pk)), None)
    if unknown is not None:
        raise InvalidInput(
            field="dependencies", detail=f"There is no task {unknown} in this project."
        )
    graph[str(task.pk)] = unique
    titles[str(task.pk)] = task.title
    path = cycle_in(graph, str(task.pk))
    if path:
        named = " → ".join(f"“{titles[item]}”" for item in path)
        problem = InvalidInput(
            field="dependencies",
            code="dependency-cycle",
            detail=f"These tasks would wait for each other: {named}; remove one of the links.",
        )
        problem.extras["path"] = path
        raise problem
    return unique


def cycle_in(graph: Mapping[str, Sequence[str]], start: str) -> list[str]:
    """Return a path from `start` through its dependencies back to it, [] when there is none."""
    came_from: dict[str, str] = {}
    waiting = [start]
    seen: set[str] = set()
    while waiting:
        node = waiting.pop()
        for needed in graph.get(node, ()):
            if needed == start:
                path = [start, node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return list(reversed(path)) if node != start else [start, start]
            if needed not in seen:
                seen.add(needed)
                came_from[needed] = node
                waiting.append(needed)
    return []


def delete_task(*, user: User, task_id: uuid.UUID) -> None:
    """Delete a task with its attempts; tasks that depend on it lose that dependency.

    The attempts' worktrees go, and what was committed stays under ``refs/rootbound/discarded``.

    Raises
    ------
    Problem
        404; 409 ``attempt-live``.
    """
    project_id = get_task(user=user, task_id=task_id).project_id
    with transaction.atomic():
        lock_project(user=user, project_id=project_id)
        task = Task.objects.select_for_update(no_key=True).filter(pk=task_id).first()
        if task is None:
            raise not_found("task")
        refuse_while_live(Attempt.objects.filter(task=task), "task")
        discard_with(Attempt.objects.filter(task=task))
        for dependant in dependants(task).select_for_update(no_key=True):
            dependant.dependencies = [
                item for item in dependant.dependencies if item != str(task_id)
            ]
            touch_task(dependant)
            dependant.save(update_fields=["dependencies", "revision"])
        task.delete()
        announce_project(project_id)
