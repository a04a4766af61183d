"""Shapes of roots and decompositions."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.local_access.models import (
    PMDecomposition,
    WritableRoot,
)
from rootbound_backend.fields import StrictSerializer

__all__ = [
    "ApproveDecompositionSerializer",
    "DecompositionInputSerializer",
    "DecompositionListSerializer",
    "DecompositionSerializer",
    "LocalAccessStatusSerializer",
    "RootInputSerializer",
    "RootListSerializer",
    "RootPatchSerializer",
    "RootSerializer",
    "UnsavedInputSerializer",
    "UnsavedSerializer",
]


class RootSerializer(serializers.ModelSerializer[WritableRoot]):
    """A writable root."""

    class Meta:
        """Options."""

        model = WritableRoot
        fields = ["id", "path", "canonical_path", "is_enabled", "created_at"]


class RootListSerializer(serializers.Serializer[Any]):
    """A page of roots."""

    results = RootSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RootInputSerializer(StrictSerializer):
    """Which folder to grant."""

    path = serializers.CharField(max_length=1024, trim_whitespace=False)


class RootPatchSerializer(StrictSerializer):
    """What of a root can be changed."""

    is_enabled = serializers.BooleanField()


class UnsavedInputSerializer(StrictSerializer):
    """All that one editor of the user's has open with unsaved changes."""

    editor = serializers.RegexField(
        r"^[0-9a-zA-Z][0-9a-zA-Z-]{0,63}$",
        help_text="The editor's name, the same in each of its reports: one per browser page.",
    )
    paths = serializers.ListField(
        child=serializers.RegexField(r"^/[^\0]*$", max_length=4096, trim_whitespace=False),
        max_length=200,
        help_text="Absolute paths; none when everything is saved or closed.",
    )


class UnsavedSerializer(serializers.Serializer[Any]):
    """How long a report of unsaved documents holds."""

    expires_in_s = serializers.FloatField()


class LocalAccessStatusSerializer(serializers.Serializer[Any]):
    """The LDA's health and the user's roots."""

    lda = serializers.DictField(
        help_text="reachable; if so, the LDA's own health; if not, the detail."
    )
    roots = RootSerializer(many=True)


class DecompositionInputSerializer(StrictSerializer):
    """A wish."""

    prompt = serializers.CharField(max_length=100_000)
    auto_approve = serializers.BooleanField(required=False)
    agent_id = serializers.UUIDField(required=False, allow_null=True)


class PlanTaskSerializer(serializers.Serializer[Any]):
    """One planned task."""

    key = serializers.CharField(max_length=64)
    title = serializers.CharField(max_length=255)
    description = serializers.CharField()
    role = serializers.ChoiceField(choices=["PM", "FRONTEND", "BACKEND", "QA", "DEVOPS"])
    priority = serializers.IntegerField(required=False)
    depends_on = serializers.ListField(child=serializers.CharField(), required=False)
    acceptance = serializers.CharField(required=False)
    files = serializers.ListField(child=serializers.CharField(), required=False)


class PlanSerializer(serializers.Serializer[Any]):
    """The PM's plan."""

    summary = serializers.CharField()
    tasks = PlanTaskSerializer(many=True)


class ApproveDecompositionSerializer(StrictSerializer):
    """The plan's tasks as the user edited them."""

    tasks = serializers.ListField(
        child=serializers.JSONField(), min_length=1, max_length=100, required=False
    )


class DecompositionSerializer(serializers.ModelSerializer[PMDecomposition]):
    """A decomposition."""

    project = serializers.UUIDField(source="project_id", read_only=True)
    plan = PlanSerializer(allow_null=True)
    tasks_created = serializers.ListField(child=serializers.UUIDField())

    class Meta:
        """Options."""

        model = PMDecomposition
        fields = [
            "id",
            "project",
            "user_prompt",
            "pm_response",
            "plan",
            "status",
            "failure",
            "failure_message",
            "tasks_created",
            "auto_approve",
            "created_at",
        ]

    def to_representation(self, instance: PMDecomposition) -> dict[str, Any]:
        """Return the document with the plan as it is stored."""
        # Edited plans may leave optional fields out, which a nested serializer would refuse.
        self.fields.pop("plan", None)
        return {**super().to_representation(instance), "plan": instance.plan}


class DecompositionListSerializer(serializers.Serializer[Any]):
    """A page of decompositions."""

    results = DecompositionSerializer(many=True)
    next = serializers.CharField(allow_null=True)
