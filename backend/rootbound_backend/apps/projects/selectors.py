"""Reads of projects."""

from __future__ import annotations

import uuid

from django.db.models import Count, Q, QuerySet

from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.tasks.models import TaskStatus
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found
from rootbound_backend.statements import Prepared

__all__ = ["get_project", "owns_project", "projects_of"]


def projects_of(user: User) -> QuerySet[Project]:
    """Return the projects of one user, each with counts of its tasks by status."""
    counts = {
        f"count_{status.value}": Count("tasks", filter=Q(tasks__status=status.value))
        for status in TaskStatus
    }
    return Project.objects.filter(owner=user).annotate(**counts)


def get_project(*, user: User, project_id: uuid.UUID) -> Project:
    """Return one project of the user's with its counts.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    project = projects_of(user).filter(pk=project_id).first()
    if project is None:
        raise not_found("project")
    return project


def owns_project(*, user: User, project_id: uuid.UUID) -> bool:
    """Return whether a project exists and belongs to the user."""
    return bool(_OWN(project_id, user.pk))


_OWN = Prepared(
    lambda pk, owner_id: (
        Project.objects.filter(pk=pk, owner_id=owner_id).order_by().values_list("pk")
    ),
    uuid.UUID,
    uuid.UUID,
)
