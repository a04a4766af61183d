"""Shapes of reviewing."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.attempts.models import AttemptStatus, ReviewComment
from rootbound_backend.apps.attempts.serializers import DiffSizeSerializer, GoingOnSerializer
from rootbound_backend.fields import StrictSerializer

__all__ = [
    "CommentInputSerializer",
    "CommentListSerializer",
    "CommentSerializer",
    "ComparisonListSerializer",
    "MergePreviewSerializer",
    "MessageSerializer",
    "RequestChangesSerializer",
    "UpdateSerializer",
    "WorktreeListSerializer",
    "WorktreesGoneSerializer",
]


class MessageSerializer(StrictSerializer):
    """What the agent is to be told."""

    text = serializers.CharField(max_length=10_000, trim_whitespace=False)


class CommentInputSerializer(StrictSerializer):
    """A remark on the attempt, on a file, or on a line of one side of its diff."""

    text = serializers.CharField(max_length=10_000)
    path = serializers.CharField(
        max_length=1024, required=False, allow_blank=True, trim_whitespace=False
    )
    side = serializers.ChoiceField(choices=["old", "new"], required=False)
    line = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, allow_null=True
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a line without a file."""
        if attrs.get("line") and not attrs.get("path"):
            raise serializers.ValidationError({"path": "A line needs the file that it is in."})
        return attrs


class CommentSerializer(serializers.ModelSerializer[ReviewComment]):
    """A comment."""

    attempt = serializers.UUIDField(source="attempt_id", read_only=True)
    author = serializers.CharField(source="author.username", read_only=True)

    class Meta:
        """Options."""

        model = ReviewComment
        fields = ["id", "attempt", "author", "path", "side", "line", "commit", "text", "created_at"]


class CommentListSerializer(serializers.Serializer[Any]):
    """The comments on an attempt."""

    results = CommentSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RequestChangesSerializer(GoingOnSerializer):
    """What is to be changed, besides what the comments say."""

    feedback = serializers.CharField(max_length=10_000, required=False, allow_blank=True)


class UpdateSerializer(GoingOnSerializer):
    """How work is brought onto the base branch as it is now."""

    resolve = serializers.BooleanField(
        required=False, help_text="Have the agent settle conflicts; default false."
    )


class MergePreviewSerializer(serializers.Serializer[Any]):
    """What merging would do now."""

    base_branch = serializers.CharField()
    base = serializers.CharField()
    head = serializers.CharField()
    behind = serializers.IntegerField(help_text="Commits of the base branch that it lacks.")
    clean = serializers.BooleanField()
    merged = serializers.BooleanField(help_text="Whether it is in the base branch already.")
    files = serializers.ListField(child=serializers.CharField(), help_text="Files in conflict.")
    checkout = serializers.CharField(
        allow_null=True, help_text="Folder that has the base branch checked out."
    )
    checkout_dirty = serializers.BooleanField()


class ComparedGateSerializer(serializers.Serializer[Any]):
    """What a gate said last."""

    exit_code = serializers.IntegerField(allow_null=True)
    duration_s = serializers.FloatField()
    flaky = serializers.BooleanField()
    at_head = serializers.BooleanField()


class ComparisonSerializer(serializers.Serializer[Any]):
    """One attempt beside the others of its task."""

    id = serializers.UUIDField()
    number = serializers.IntegerField()
    status = serializers.ChoiceField(choices=AttemptStatus.choices)
    failure = serializers.CharField(allow_null=True)
    agent = serializers.CharField()
    model = serializers.CharField()
    continues = serializers.UUIDField(allow_null=True)
    diff_stats = DiffSizeSerializer()
    gates = serializers.DictField(child=ComparedGateSerializer())
    cost_usd = serializers.FloatField(allow_null=True)
    steps = serializers.IntegerField()
    tokens = serializers.IntegerField()
    seconds = serializers.FloatField(allow_null=True)
    denied_count = serializers.IntegerField()
    comments = serializers.IntegerField()
    summary = serializers.CharField()


class ComparisonListSerializer(serializers.Serializer[Any]):
    """The attempts of a task side by side."""

    results = ComparisonSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class WorktreeSerializer(serializers.Serializer[Any]):
    """One worktree."""

    attempt_id = serializers.CharField()
    path = serializers.CharField()
    repo_path = serializers.CharField()
    title = serializers.CharField()
    state = serializers.CharField()
    live = serializers.BooleanField()
    bytes = serializers.IntegerField()
    reason = serializers.CharField(help_text="Why it may go; empty when it has to stay.")


class WorktreeListSerializer(serializers.Serializer[Any]):
    """The worktrees of the user's attempts."""

    results = WorktreeSerializer(many=True)
    next = serializers.CharField(allow_null=True)
    bytes = serializers.IntegerField()
    quota_bytes = serializers.IntegerField(allow_null=True)


class WorktreesGoneSerializer(serializers.Serializer[Any]):
    """Attempts whose worktree is gone."""

    removed = serializers.ListField(child=serializers.CharField())
