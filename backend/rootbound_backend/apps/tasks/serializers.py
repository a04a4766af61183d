"""Shapes of tasks."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.attempts.serializers import AttemptSerializer
from rootbound_backend.apps.tasks.models import AgentRole, Task, TaskStatus
from rootbound_backend.fields import StrictSerializer

__all__ = [
    "TaskInputSerializer",
    "TaskListSerializer",
    "TaskPatchSerializer",
    "TaskSerializer",
]

MAX_DEPENDENCIES = 100


class TaskInputSerializer(StrictSerializer):
    """What a task is made of."""

    title = serializers.CharField(max_length=255)
    description = serializers.CharField(
        max_length=100_000, required=False, allow_blank=True, trim_whitespace=False
    )
    priority = serializers.IntegerField(min_value=-1_000_000, max_value=1_000_000, required=False)
    agent_role = serializers.ChoiceField(choices=AgentRole.choices, required=False)
    dependencies = serializers.ListField(
        child=serializers.UUIDField(), max_length=MAX_DEPENDENCIES, required=False
    )
    assigned_agent_id = serializers.UUIDField(required=False, allow_null=True)
    auto_start = serializers.BooleanField(required=False)


class TaskPatchSerializer(TaskInputSerializer):
    """What of a task can be changed."""

    status = serializers.ChoiceField(choices=TaskStatus.choices, required=False)
    version = serializers.IntegerField(
        required=False, help_text="The version you saw; another one there is a 409."
    )


class TaskSerializer(serializers.ModelSerializer[Task]):
    """A task with its latest attempt."""

    project = serializers.UUIDField(source="project_id", read_only=True)
    dependencies = serializers.ListField(child=serializers.UUIDField())
    blocked_by = serializers.ListField(child=serializers.UUIDField(), read_only=True)
    failed_dependencies = serializers.ListField(child=serializers.UUIDField(), read_only=True)
    waiting_reason = serializers.CharField(read_only=True)
    queue_place = serializers.IntegerField(read_only=True, allow_null=True)
    latest_attempt = AttemptSerializer(read_only=True, allow_null=True)

    class Meta:
        """Options."""

        model = Task
        fields = [
            "id",
            "project",
            "title",
            "description",
            "status",
            "priority",
            "agent_role",
            "dependencies",
            "assigned_agent_id",
            "auto_start",
            "version",
            "created_at",
            "blocked_by",
            "failed_dependencies",
            "waiting_reason",
            "queue_place",
            "latest_attempt",
        ]


class TaskListSerializer(serializers.Serializer[Any]):
    """A page of tasks."""

    results = TaskSerializer(many=True)
    next = serializers.CharField(allow_null=True)
