"""Shapes of the audit log's requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.local_access.models import (
    AuditOperation,
    AuditResult,
    AuditRetention,
    AuditSource,
    FsAuditEvent,
)
from rootbound_backend.fields import StrictSerializer

__all__ = [
    "AuditExportSerializer",
    "AuditFilterSerializer",
    "AuditListQuerySerializer",
    "AuditListSerializer",
    "AuditRetentionListSerializer",
    "AuditSerializer",
    "AuditSummarySerializer",
    "AuditTimelineQuerySerializer",
    "AuditTimelineSerializer",
    "AuditTreeQuerySerializer",
    "AuditTreeSerializer",
    "AuditVerifyQuerySerializer",
    "AuditVerifySerializer",
]


class AuditSerializer(serializers.ModelSerializer[FsAuditEvent]):
    """One audit entry."""

    attempt = serializers.UUIDField(source="attempt_id", allow_null=True)
    detail = serializers.DictField()

    class Meta:
        """Options."""

        model = FsAuditEvent
        fields = [
            "id",
            "run_id",
            "attempt",
            "seq",
            "timestamp",
            "operation",
            "result",
            "path",
            "source",
            "detail",
            "hash",
        ]


class AuditListSerializer(serializers.Serializer[Any]):
    """A page of audit entries."""

    results = AuditSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class AuditFilterSerializer(StrictSerializer):
    """Which entries."""

    attempt = serializers.UUIDField(required=False, help_text="Entries of one attempt.")
    run = serializers.UUIDField(
        required=False, help_text="Entries of one attempt, decomposition or kernel."
    )
    task = serializers.UUIDField(required=False, help_text="Entries of all attempts of a task.")
    project = serializers.UUIDField(required=False, help_text="Entries of all runs of a project.")
    user = serializers.CharField(
        max_length=255, required=False, help_text="Whose entries, by name or id; default yours."
    )
    operation = serializers.ChoiceField(choices=AuditOperation.choices, required=False)
    result = serializers.ChoiceField(choices=AuditResult.choices, required=False)
    source = serializers.ChoiceField(  # type: ignore[assignment]  # a name of DRF's as well
        choices=AuditSource.choices, required=False
    )
    program = serializers.CharField(
        max_length=4096,
        required=False,
        trim_whitespace=False,
        help_text="The program that did it, as recorded.",
    )
    path_prefix = serializers.CharField(
        max_length=1024,
        required=False,
        trim_whitespace=False,
        help_text="What the path begins with.",
    )
    glob = serializers.CharField(
        max_length=512,
        required=False,
        trim_whitespace=False,
        help_text="* and ? within a folder, ** across folders, [a-z], [!a-z].",
    )
    since = serializers.DateTimeField(required=False, help_text="Earliest time, inclusive.")
    until = serializers.DateTimeField(required=False, help_text="Latest time, exclusive.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check that the fields go together."""
        if "attempt" in attrs and attrs.get("run", attrs["attempt"]) != attrs["attempt"]:
            raise serializers.ValidationError({"run": ["Give either attempt or run."]})
        since: datetime | None = attrs.get("since")
        until: datetime | None = attrs.get("until")
        if since and until and until <= since:
            raise serializers.ValidationError({"until": ["until must be later than since."]})
        return attrs


class AuditListQuerySerializer(AuditFilterSerializer):
    """Which entries, and which page of them."""

    limit = serializers.CharField(required=False, help_text="1 to 1000, default 100.")
    cursor = serializers.CharField(
        required=False, allow_blank=True, help_text="The next of the page before."
    )
    format = serializers.ChoiceField(
        choices=["json", "ndjson", "csv"],
        required=False,
        help_text="ndjson and csv stream all entries, not a page.",
    )


class AuditExportSerializer(AuditFilterSerializer):
    """Which entries to export."""

    format = serializers.CharField(required=False)
    limit = serializers.IntegerField(
        min_value=1, max_value=2**53, required=False, help_text="Entries at most; default all."
    )


class AuditCountSerializer(serializers.Serializer[Any]):
    """How often one operation ended in one way."""

    operation = serializers.ChoiceField(choices=AuditOperation.choices)
    result = serializers.ChoiceField(choices=AuditResult.choices)
    count = serializers.IntegerField()


class AuditSummarySerializer(serializers.Serializer[Any]):
    """Counts by operation and result."""

    counts = AuditCountSerializer(many=True)


class AuditTreeQuerySerializer(AuditFilterSerializer):
    """Which entries, below which folder."""

    path = serializers.CharField(
        max_length=1024,
        required=False,
        trim_whitespace=False,
        help_text="The folder whose children are wanted; default the top.",
    )

    def validate_path(self, value: str) -> str:
        """Refuse what is no absolute path."""
        if not value.startswith("/"):
            raise serializers.ValidationError("This must be an absolute path.")
        return value


class AuditTreeNodeSerializer(serializers.Serializer[Any]):
    """A file or folder, counted with all it holds."""

    name = serializers.CharField()
    path = serializers.CharField()
    is_folder = serializers.BooleanField()
    read = serializers.IntegerField()
    write = serializers.IntegerField()
    delete = serializers.IntegerField()
    denied = serializers.IntegerField()
    total = serializers.IntegerField()


class AuditTreeSerializer(serializers.Serializer[Any]):
    """What was touched directly below a folder."""

    path = serializers.CharField()
    children = AuditTreeNodeSerializer(many=True)
    truncated = serializers.BooleanField()


class AuditTimelineQuerySerializer(AuditFilterSerializer):
    """Which entries, in which buckets."""

    bucket = serializers.IntegerField(
        min_value=1,
        max_value=366 * 86_400,
        required=False,
        help_text="Seconds; by default such that there are at most 300.",
    )


class AuditBucketSerializer(serializers.Serializer[Any]):
    """Counts of one stretch of time."""

    timestamp = serializers.DateTimeField()
    allowed = serializers.IntegerField()
    denied = serializers.IntegerField()


class AuditTimelineSerializer(serializers.Serializer[Any]):
    """Counts by time, oldest first; buckets without entries are left out."""

    bucket_s = serializers.IntegerField()
    buckets = AuditBucketSerializer(many=True)


class AuditVerifyQuerySerializer(StrictSerializer):
    """Which runs to verify."""

    attempt = serializers.UUIDField(required=False)
    run = serializers.UUIDField(required=False)
    task = serializers.UUIDField(required=False)
    project = serializers.UUIDField(required=False)
    cursor = serializers.CharField(
        required=False, allow_blank=True, help_text="The next of the answer before."
    )
    limit = serializers.IntegerField(
        min_value=1,
        max_value=1_000_000,
        required=False,
        help_text="Entries to check before answering; default 100,000.",
    )


class AuditFindingSerializer(serializers.Serializer[Any]):
    """One thing that is wrong with the stored log."""

    run_id = serializers.UUIDField()
    seq = serializers.IntegerField()
    id = serializers.IntegerField(allow_null=True, help_text="Of the row; null for a missing one.")
    kind = serializers.ChoiceField(
        choices=["changed", "missing", "truncated", "doubled", "reordered", "inserted", "moved",
                 "watermark", "retention"]
    )  # fmt: skip
    detail = serializers.CharField()


class AuditVerifySerializer(serializers.Serializer[Any]):
    """What verification found so far; it goes on with `next`."""

    ok = serializers.BooleanField()
    runs = serializers.IntegerField(help_text="Runs whose end was reached.")
    entries = serializers.IntegerField(help_text="Entries checked.")
    retained_away = serializers.IntegerField(help_text="Entries that retention removed.")
    findings = AuditFindingSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class AuditRetentionSerializer(serializers.ModelSerializer[AuditRetention]):
    """One removed partition."""

    class Meta:
        """Options."""

        model = AuditRetention
        fields = [
            "id", "performed_at", "performed_by", "reason", "partition", "range_from", "range_to",
            "first_at", "last_at", "rows", "bytes", "forced",
        ]  # fmt: skip


class AuditRetentionListSerializer(serializers.Serializer[Any]):
    """A page of removed partitions."""

    results = AuditRetentionSerializer(many=True)
    next = serializers.CharField(allow_null=True)
