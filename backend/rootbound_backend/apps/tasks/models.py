"""Tasks."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import models

from rootbound_backend.apps.projects.models import Project

if TYPE_CHECKING:
    from rootbound_backend.apps.attempts.models import Attempt

__all__ = ["AgentRole", "Task", "TaskStatus"]


class TaskStatus(models.TextChoices):
    """Where a task is; the legal moves are in ``attempts.transitions``."""

    TODO = "TODO", "To do"
    IN_PROGRESS = "IN_PROGRESS", "In progress"
    REVIEW = "REVIEW", "Review"
    DONE = "DONE", "Done"


class AgentRole(models.TextChoices):
    """Who works on a task."""

    PM = "PM", "Project manager"
    FRONTEND = "FRONTEND", "Front end"
    BACKEND = "BACKEND", "Back end"
    QA = "QA", "Quality assurance"
    DEVOPS = "DEVOPS", "Operations"


class Task(models.Model):
    """A unit of work.

    Attributes
    ----------
    dependencies
        Ids (text) of tasks of the same project that must be DONE first; never a cycle.
    auto_start
        Start as soon as the last dependency is done.
    version
        Counts the user's edits, for ``PATCH`` with an expected version.
    revision
        Counts every change that the board shows, attempts included.
    blocked_by
        Ids of dependencies that are not DONE; filled in by ``selectors.tasks_with_details``.
    failed_dependencies
        Ids of dependencies whose last attempt failed; filled in there too.
    latest_attempt
        The newest attempt or None; filled in there too.
    waiting_reason, queue_place
        Why it does not go on, "" when nothing holds it up, and the place of its queued attempt
        among all that wait, from 1; filled in there too.
    """

    blocked_by: list[str]
    failed_dependencies: list[str]
    latest_attempt: Attempt | None
    waiting_reason: str
    queue_place: int | None

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    title = models.CharField(max_length=255)
    description = models.TextField(blank=True, default="")
    status = models.CharField(max_length=16, choices=TaskStatus.choices, default=TaskStatus.TODO)
    priority = models.IntegerField(default=0)
    agent_role = models.CharField(
        max_length=16, choices=AgentRole.choices, default=AgentRole.BACKEND
    )
    dependencies = models.JSONField(default=list, blank=True)
    assigned_agent_id = models.UUIDField(null=True, blank=True)
    auto_start = models.BooleanField(default=False)
    version = models.PositiveIntegerField(default=1)
    revision = models.PositiveBigIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["created_at", "id"]
        indexes = [models.Index(fields=["project", "created_at", "id"], name="task_by_project")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=TaskStatus.values), name="task_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(agent_role__in=AgentRole.values), name="task_role_known"
            ),
        ]

    def __str__(self) -> str:
        return self.title
