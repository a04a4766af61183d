"""Shapes of attempts."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from rootbound_backend.apps.attempts.models import Attempt, AttemptStatus, EventType, Gate
from rootbound_backend.fields import StrictSerializer

__all__ = [
    "ArtifactListSerializer",
    "AttemptInputSerializer",
    "AttemptListSerializer",
    "AttemptSerializer",
    "EventListSerializer",
    "EventSerializer",
    "GateListSerializer",
    "GateSerializer",
    "GoingOnSerializer",
    "MoveSerializer",
    "RejectSerializer",
    "RetrySerializer",
]


class GateSerializer(serializers.ModelSerializer[Gate]):
    """The evidence of one gate."""

    class Meta:
        """Options."""

        model = Gate
        fields = [
            "name",
            "commit",
            "command",
            "exit_code",
            "duration_s",
            "log_digest",
            "log_artifact",
            "flaky",
        ]


class AttemptAgentSerializer(serializers.Serializer[Any]):
    """Who worked on an attempt."""

    name = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    is_replay = serializers.BooleanField()
    max_steps = serializers.IntegerField(
        allow_null=True, help_text="Null where the profile leaves the limit to the LDA."
    )


class UsageSerializer(serializers.Serializer[Any]):
    """What an attempt has used so far; empty before the first step."""

    steps = serializers.IntegerField(required=False)
    input_tokens = serializers.IntegerField(required=False)
    output_tokens = serializers.IntegerField(required=False)
    cost_usd = serializers.FloatField(required=False, allow_null=True)


class DiffSizeSerializer(serializers.Serializer[Any]):
    """How much an attempt changes; empty before there is a commit."""

    files = serializers.IntegerField(required=False)
    additions = serializers.IntegerField(required=False)
    deletions = serializers.IntegerField(required=False)
    tests = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Changed test files."
    )


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """An attempt with its gates."""

    task = serializers.UUIDField(source="task_id", read_only=True)
    task_title = serializers.CharField(read_only=True)
    project = serializers.UUIDField(source="project_id", read_only=True)
    task_version = serializers.IntegerField(
        read_only=True, help_text="The task's version, to decide on it as you see it."
    )
    agent = serializers.SerializerMethodField()
    usage = serializers.SerializerMethodField()
    continues = serializers.UUIDField(source="continues_id", read_only=True, allow_null=True)
    diff_stats = serializers.SerializerMethodField()
    gates = GateSerializer(many=True, read_only=True)

    class Meta:
        """Options."""

        model = Attempt
        fields = [
            "id",
            "task",
            "task_title",
            "project",
            "task_version",
            "number",
            "status",
            "branch_name",
            "base_commit",
            "head_commit",
            "merge_commit",
            "started_at",
            "completed_at",
            "exit_code",
            "failure",
            "failure_message",
            "waiting_for",
            "queue_place",
            "continues",
            "update",
            "summary",
            "diff_stats",
            "agent",
            "usage",
            "first_seq",
            "last_seq",
            "event_bytes",
            "file_bytes",
            "denied_count",
            "created_at",
            "gates",
        ]

    @extend_schema_field(AttemptAgentSerializer)
    def get_agent(self, attempt: Attempt) -> dict[str, Any]:
        """Return who works on it."""
        config = attempt.agent.get("agent_config", {})
        return {
            "name": config.get("name", ""),
            "provider": config.get("provider", ""),
            "model": config.get("model", ""),
            "is_replay": bool(attempt.agent.get("is_replay")),
            "max_steps": attempt.agent.get("limits", {}).get("max_steps"),
        }

    @extend_schema_field(DiffSizeSerializer)
    def get_diff_stats(self, attempt: Attempt) -> dict[str, Any]:
        """Return how much it changes; empty before there is a commit."""
        return dict(attempt.diff_stats)

    @extend_schema_field(UsageSerializer)
    def get_usage(self, attempt: Attempt) -> dict[str, Any]:
        """Return what it has used."""
        return dict(attempt.usage)


class AttemptListSerializer(serializers.Serializer[Any]):
    """A page of attempts."""

    results = AttemptSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class EventSerializer(serializers.Serializer[Any]):
    """One event of an attempt's stream."""

    seq = serializers.IntegerField()
    timestamp = serializers.DateTimeField()
    type = serializers.ChoiceField(choices=EventType.choices)
    payload = serializers.DictField()


class EventListSerializer(serializers.Serializer[Any]):
    """Some events, oldest first.

    `next` is the `after` of the following page, `previous` the `before` of the one in front.
    """

    results = EventSerializer(many=True)
    next = serializers.IntegerField(allow_null=True)
    previous = serializers.IntegerField(allow_null=True)
    first_seq = serializers.IntegerField(help_text="The lowest event that is kept.")
    last_seq = serializers.IntegerField()


class ArtifactSerializer(serializers.Serializer[Any]):
    """One file that an attempt left."""

    name = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")


class ArtifactListSerializer(serializers.Serializer[Any]):
    """The files of an attempt."""

    results = ArtifactSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class GateListSerializer(serializers.Serializer[Any]):
    """The gates of an attempt."""

    results = GateSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class MoveSerializer(StrictSerializer):
    """What a move of a task says: the task as its mover saw it."""

    version = serializers.IntegerField(
        required=False, help_text="The task's version you saw; another one there is a 409."
    )


class AttemptInputSerializer(MoveSerializer):
    """How to start an attempt."""

    reference_paths = serializers.ListField(
        child=serializers.CharField(max_length=1024, trim_whitespace=False),
        max_length=100,
        required=False,
    )
    agent_id = serializers.UUIDField(required=False, allow_null=True)


class RejectSerializer(MoveSerializer):
    """Why a result is rejected."""

    reason = serializers.CharField(max_length=10_000, required=False, allow_blank=True)


class GoingOnSerializer(MoveSerializer):
    """What goes on from an attempt says: the attempt as its reader saw it."""

    status = serializers.ChoiceField(
        choices=AttemptStatus.choices,
        required=False,
        help_text="The attempt's status you saw; another one there is a 409.",
    )


class RetrySerializer(GoingOnSerializer):
    """What the next attempt should do differently."""

    feedback = serializers.CharField(max_length=10_000, required=False, allow_blank=True)
