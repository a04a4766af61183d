"""The user, and the memory of answered writes."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models

__all__ = ["IdempotencyKey", "User"]


class User(AbstractUser):
    """A person; made on first sight of a valid identity, never with a password of ours."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


class IdempotencyKey(models.Model):
    """The answer given to a write that carried an ``Idempotency-Key``.

    Attributes
    ----------
    target
        Method and path of the write.
    body_digest
        Hex SHA-256 of the body; the same key with another body is refused.
    status
        HTTP status of the answer; null while the first request is at work.
    response
        The answer's JSON document.
    """

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    target = models.CharField(max_length=1024)
    body_digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    response = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        constraints = [
            models.UniqueConstraint(fields=["user", "key", "target"], name="idempotency_once"),
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]
