"""Machines whose LDA connects to this backend, where it does not run beside it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

__all__ = ["Machine"]


class Machine(models.Model):
    """A user's machine.

    Attributes
    ----------
    paths
        Absolute folders that it owns: work on what lies beneath goes to its LDA.
    token_digest
        Hex SHA-256 of the secret with which its LDA connects.
    lda_id
        The LDA that used the token first; no other may. Null before.
    version
        Of the LDA that connected last; "" before.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="machines"
    )
    name = models.CharField(max_length=255)
    paths = models.JSONField()
    token_digest = models.CharField(max_length=64)
    lda_id = models.UUIDField(null=True)
    version = models.CharField(max_length=64, blank=True, default="")
    last_seen_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="machine_name_once")]

    def __str__(self) -> str:
        return self.name
