"""Confined Jupyter kernels, each one life of one process."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from rootbound_backend.apps.projects.models import Project

__all__ = ["KernelSession"]


class KernelSession(models.Model):
    """One confined kernel from its start to its end; the audit log has its entries as a run.

    Attributes
    ----------
    project
        The project whose repository it was started in, if any.
    kernel_id
        Jupyter's id; a kernel that is restarted keeps it and gets a session of its own.
    kernel_name
        Name of the kernel specification.
    cwd
        The folder of the notebook.
    is_batch
        Whether it executes a batch notebook.
    exit_code
        Negative for a signal; null while it lives, and when its end was not seen.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="kernel_sessions"
    )
    project = models.ForeignKey(
        Project, on_delete=models.SET_NULL, null=True, related_name="kernel_sessions"
    )
    kernel_id = models.UUIDField()
    kernel_name = models.CharField(max_length=255)
    cwd = models.CharField(max_length=1024, blank=True, default="")
    network = models.BooleanField(default=False)
    is_batch = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)

    class Meta:
        """Options."""

        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["user", "-created_at", "-id"], name="kernel_by_user"),
            models.Index(fields=["user"], name="kernel_live", condition=Q(ended_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.kernel_name} {self.pk}"
