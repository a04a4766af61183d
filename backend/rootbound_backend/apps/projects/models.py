"""Projects."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models

__all__ = ["GATE_NAMES", "Project"]

GATE_NAMES = ("install", "lint", "test")
"""Gates in the order in which they run."""


class Project(models.Model):
    """A git repository of the user's with its commands and policy.

    Attributes
    ----------
    repo_path
        Canonical absolute path of the work tree.
    default_branch
        Branch that attempts start from and are merged into.
    config
        ``install_cmd``, ``lint_cmd``, ``test_cmd``, ``gate_timeout_s``, ``network``,
        ``max_parallel``, ``budget``, ``auto_start``, ``accept_tier``, ``readable_paths``; see the
        serializer.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="projects"
    )
    name = models.CharField(max_length=255)
    repo_path = models.CharField(max_length=1024)
    default_branch = models.CharField(max_length=255)
    config = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["owner", "-created_at", "-id"], name="project_by_owner")]

    def __str__(self) -> str:
        return self.name

    def commands(self) -> dict[str, str]:
        """Return the commands as the LDA wants them; "" for a gate that does not exist."""
        return {f"{name}_cmd": str(self.config.get(f"{name}_cmd") or "") for name in GATE_NAMES}

    def option(self, name: str, default: Any = None) -> Any:
        """Return a configured value, or the default when it is absent or null."""
        value = self.config.get(name)
        return default if value is None else value
