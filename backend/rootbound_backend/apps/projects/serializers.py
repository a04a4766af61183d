"""Shapes of projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from rootbound_backend.apps.agents.models import Provider
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.tasks.models import AgentRole, TaskStatus
from rootbound_backend.fields import StrictSerializer

__all__ = [
    "ConfigSerializer",
    "ProjectInputSerializer",
    "ProjectListSerializer",
    "ProjectSerializer",
    "RepositoryQuerySerializer",
    "RepositorySerializer",
]


class NetworkSerializer(StrictSerializer):
    """Whether the agent's commands and gates, and the install command, reach the network."""

    agent = serializers.BooleanField(required=False)
    install = serializers.BooleanField(required=False)


class RetentionSerializer(StrictSerializer):
    """What is kept of attempts that have ended; null for no limit."""

    days = serializers.FloatField(min_value=0.01, max_value=36_500, required=False, allow_null=True)
    max_mb = serializers.IntegerField(
        min_value=1, max_value=10_000_000, required=False, allow_null=True
    )


def _command(**kwargs: Any) -> serializers.CharField:
    return serializers.CharField(
        max_length=4096, required=False, allow_blank=True, allow_null=True, **kwargs
    )


class _LimitsField(serializers.DictField):
    """Limits by name; a name that there is not would be a limit that does nothing."""

    def __init__(self, *, keys: Sequence[str], **kwargs: Any) -> None:
        self._names = list(keys)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated limits."""
        values = super().to_internal_value(data)
        unknown = next((name for name in values if name not in self._names), None)
        if unknown is not None:
            raise serializers.ValidationError(
                f"There is no {unknown!r}; there are {', '.join(self._names)}."
            )
        return values


class ConfigSerializer(StrictSerializer):
    """Commands and policy of a project."""

    install_cmd = _command()
    test_cmd = _command()
    lint_cmd = _command()
    gate_timeout_s = serializers.FloatField(
        min_value=1, max_value=86_400, required=False, allow_null=True
    )
    network = NetworkSerializer(required=False)
    max_parallel = serializers.IntegerField(
        min_value=1, max_value=64, required=False, allow_null=True
    )
    max_parallel_by_role = _LimitsField(
        keys=AgentRole.values,
        child=serializers.IntegerField(min_value=0, max_value=64),
        required=False,
        help_text='At most so many attempts of a role at once, such as {"QA": 1}.',
    )
    max_parallel_by_provider = _LimitsField(
        keys=Provider.values,
        child=serializers.IntegerField(min_value=0, max_value=64),
        required=False,
        help_text="At most so many attempts with a provider's models at once.",
    )
    budget = serializers.FloatField(
        min_value=0, required=False, allow_null=True, help_text="US dollars per attempt."
    )
    auto_start = serializers.BooleanField(required=False)
    retention = RetentionSerializer(
        required=False, help_text="For events and files; the attempts themselves stay."
    )
    accept_tier = serializers.ChoiceField(
        choices=["A", "B", "C", "D", "E", "F"],
        required=False,
        allow_null=True,
        help_text="The lowest level of enforcement that this project accepts.",
    )
    readable_paths = serializers.ListField(
        child=serializers.CharField(max_length=1024, trim_whitespace=False),
        max_length=100,
        required=False,
        help_text="Files and folders outside the project that its agents may read.",
    )


class ProjectInputSerializer(StrictSerializer):
    """What a project is made of."""

    name = serializers.CharField(max_length=255)
    repo_path = serializers.CharField(max_length=1024, trim_whitespace=False)
    default_branch = serializers.CharField(
        max_length=255,
        required=False,
        help_text="Branch that work starts from and is merged into; default the one checked out.",
    )
    config = ConfigSerializer(required=False)


class TaskCountsSerializer(serializers.Serializer[Any]):
    """Tasks by status."""

    TODO = serializers.IntegerField()
    IN_PROGRESS = serializers.IntegerField()
    REVIEW = serializers.IntegerField()
    DONE = serializers.IntegerField()


class ProjectSerializer(serializers.ModelSerializer[Project]):
    """A project."""

    config = ConfigSerializer()
    task_counts = serializers.SerializerMethodField()

    class Meta:
        """Options."""

        model = Project
        fields = [
            "id",
            "name",
            "repo_path",
            "default_branch",
            "config",
            "created_at",
            "task_counts",
        ]

    @extend_schema_field(TaskCountsSerializer)
    def get_task_counts(self, project: Project) -> dict[str, int]:
        """Return the number of tasks by status."""
        return {status.value: getattr(project, f"count_{status.value}", 0) for status in TaskStatus}

    def to_representation(self, instance: Project) -> dict[str, Any]:
        """Return the document with the configuration as it is stored."""
        document = super().to_representation(instance)
        document["config"] = instance.config
        return document


class ProjectListSerializer(serializers.Serializer[Any]):
    """A page of projects."""

    results = ProjectSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RepositoryQuerySerializer(StrictSerializer):
    """Which repository."""

    path = serializers.CharField(
        max_length=1024, trim_whitespace=False, help_text="Its folder, granted or not yet."
    )


class RepositorySerializer(serializers.Serializer[Any]):
    """What a project could be made of."""

    checked_out = serializers.CharField(allow_null=True, help_text="Null while it is on none.")
    branches = serializers.ListField(
        child=serializers.CharField(), help_text="At most 200, the newest work first."
    )
