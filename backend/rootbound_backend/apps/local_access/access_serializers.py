"""Shapes of requests for access."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.local_access.access_models import (
    AccessRequest,
    AccessScope,
    AccessStatus,
)
from rootbound_backend.fields import StrictSerializer

__all__ = [
    "AccessFilterSerializer",
    "AccessRequestListSerializer",
    "AccessRequestSerializer",
    "AccessStatusSerializer",
    "GrantSerializer",
]


class AccessRequestSerializer(serializers.ModelSerializer[AccessRequest]):
    """A request for access."""

    attempt = serializers.UUIDField(source="attempt_id", read_only=True)
    task = serializers.UUIDField(source="attempt.task_id", read_only=True)
    project = serializers.UUIDField(source="attempt.task.project_id", read_only=True)
    decided_by = serializers.CharField(
        source="decided_by.username", read_only=True, allow_null=True, default=None
    )

    class Meta:
        """Options."""

        model = AccessRequest
        fields = [
            "id",
            "attempt",
            "task",
            "project",
            "run_id",
            "folder",
            "operation",
            "path",
            "program",
            "count",
            "status",
            "scope",
            "granted_folder",
            "decided_by",
            "decided_at",
            "expires_at",
            "created_at",
            "last_denied_at",
        ]


class AccessRequestListSerializer(serializers.Serializer[Any]):
    """A page of requests."""

    results = AccessRequestSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class AccessStatusSerializer(serializers.Serializer[Any]):
    """Which requests of an attempt."""

    status = serializers.ChoiceField(choices=AccessStatus.choices, required=False)


class AccessFilterSerializer(AccessStatusSerializer):
    """Which requests."""

    attempt = serializers.UUIDField(required=False)
    project = serializers.UUIDField(required=False)


class GrantSerializer(StrictSerializer):
    """How far a grant reaches, and where it differs from what was proposed."""

    scope = serializers.ChoiceField(choices=["task", "always"])
    folder = serializers.CharField(max_length=1024, trim_whitespace=False, required=False)

    def validate_scope(self, value: str) -> str:
        """Return the scope as it is stored."""
        return AccessScope[value.upper()].value
