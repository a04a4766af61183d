"""Requests for access that denied operations make, and how far each run's policy has got."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from rootbound_backend.apps.attempts.models import Attempt

__all__ = ["AccessOperation", "AccessRequest", "AccessScope", "AccessStatus", "RunPolicy"]


class AccessOperation(models.TextChoices):
    """What was denied."""

    READ = "READ", "Read"
    WRITE = "WRITE", "Write"
    DELETE = "DELETE", "Delete"


class AccessStatus(models.TextChoices):
    """What became of a request."""

    PENDING = "PENDING", "Pending"
    GRANTED = "GRANTED", "Granted"
    REFUSED = "REFUSED", "Refused"
    EXPIRED = "EXPIRED", "Expired"


class AccessScope(models.TextChoices):
    """How far a grant reaches."""

    TASK = "TASK", "For this task"
    ALWAYS = "ALWAYS", "Always"


class AccessRequest(models.Model):
    """A place where an attempt was denied an operation, put to the user for a decision.

    Attributes
    ----------
    run_id
        The run; the audit log holds each denial under it.
    folder
        The smallest folder that would have to be granted; for READ it may be a single file.
    path, program
        Of the last denial.
    count
        How many denials it stands for.
    granted_folder
        What was granted, "" before.
    expires_at
        When nobody can decide it any more; null while the attempt is at work.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="access_requests")
    run_id = models.UUIDField()
    folder = models.CharField(max_length=1024)
    operation = models.CharField(max_length=8, choices=AccessOperation.choices)
    path = models.CharField(max_length=1024)
    program = models.CharField(max_length=1024, blank=True, default="")
    count = models.PositiveBigIntegerField(default=1)
    status = models.CharField(
        max_length=8, choices=AccessStatus.choices, default=AccessStatus.PENDING
    )
    scope = models.CharField(max_length=8, choices=AccessScope.choices, null=True)
    granted_folder = models.CharField(max_length=1024, blank=True, default="")
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_denied_at = models.DateTimeField()

    class Meta:
        """Options."""

        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "folder", "operation"], name="access_request_once"
            ),
            models.CheckConstraint(
                condition=Q(operation__in=AccessOperation.values), name="access_operation_known"
            ),
            models.CheckConstraint(
                condition=Q(status="GRANTED", scope__in=AccessScope.values)
                | Q(status__in=["PENDING", "REFUSED", "EXPIRED"], scope__isnull=True),
                name="access_granted_has_scope",
            ),
        ]
        indexes = [
            models.Index(
                fields=["attempt"], condition=Q(status="PENDING"), name="access_request_pending"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.folder} {self.status}"

    @property
    def reads_only(self) -> bool:
        """Whether reading is all that a grant would allow."""
        return self.operation == AccessOperation.READ


class RunPolicy(models.Model):
    """Counts the changes of one run's policy, and says which of them the LDA has in force.

    Attributes
    ----------
    generation
        Grows with every change of what the run may do.
    applied_generation, applied_to
        The last one that the LDA confirmed, and which process of it that was.
    given_roots
        Ids of the user's roots that the run was given while it went on; see `Attempt.held_roots`.
    """

    attempt = models.OneToOneField(
        Attempt, on_delete=models.CASCADE, primary_key=True, related_name="run_policy"
    )
    generation = models.PositiveBigIntegerField(default=0)
    applied_generation = models.PositiveBigIntegerField(default=0)
    applied_to = models.CharField(max_length=255, blank=True, default="")
    given_roots = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"policy {self.generation} of attempt {self.attempt_id}"
