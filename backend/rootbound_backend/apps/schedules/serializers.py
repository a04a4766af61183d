"""Shapes of schedules."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.schedules.models import (
    Notice,
    Overlap,
    Schedule,
    ScheduleKind,
    ScheduleRun,
)
from rootbound_backend.apps.schedules.selectors import last_run_of
from rootbound_backend.fields import StrictSerializer, plain_object

__all__ = [
    "NoticeListSerializer",
    "NoticeSerializer",
    "PreviewInputSerializer",
    "ScheduleInputSerializer",
    "ScheduleListSerializer",
    "SchedulePreviewSerializer",
    "ScheduleRunListSerializer",
    "ScheduleRunSerializer",
    "ScheduleSerializer",
]


class ScheduleInputSerializer(StrictSerializer):
    """What a schedule is made of."""

    name = serializers.CharField(max_length=255)
    project_id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=ScheduleKind.choices)
    crontab = serializers.CharField(
        max_length=255,
        help_text="Five fields: minute hour day-of-month month day-of-week; or such as @daily.",
    )
    timezone = serializers.CharField(
        max_length=64, required=False, help_text="Such as Europe/Berlin; default UTC."
    )
    overlap = serializers.ChoiceField(choices=Overlap.choices, required=False)
    is_enabled = serializers.BooleanField(required=False)
    prompt = serializers.CharField(
        max_length=100_000, required=False, allow_blank=True, trim_whitespace=False
    )
    notebook = serializers.CharField(
        max_length=1024, required=False, allow_blank=True, trim_whitespace=False
    )
    parameters = serializers.JSONField(required=False)
    max_parallel = serializers.IntegerField(
        min_value=1, max_value=64, required=False, allow_null=True
    )
    budget = serializers.FloatField(min_value=0, required=False, allow_null=True)

    def validate_parameters(self, value: Any) -> Any:
        """Refuse what is not an object with names that a notebook can have."""
        plain_object(value)
        for name in value:
            if not name.isidentifier():
                raise serializers.ValidationError(f"{name!r} cannot be a notebook's parameter.")
        return value


class PreviewInputSerializer(StrictSerializer):
    """A crontab to look at."""

    crontab = serializers.CharField(max_length=255)
    timezone = serializers.CharField(max_length=64, default="UTC")


class SchedulePreviewSerializer(serializers.Serializer[Any]):
    """A crontab as it would be stored, and when it would fire next."""

    crontab = serializers.CharField()
    next_runs = serializers.ListField(child=serializers.DateTimeField())


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    """A schedule."""

    project_id = serializers.UUIDField(read_only=True)
    last_status = serializers.SerializerMethodField(
        help_text="Status of the newest run; null before the first."
    )

    class Meta:
        """Options."""

        model = Schedule
        fields = [
            "id", "name", "project_id", "kind", "crontab", "timezone", "overlap", "is_enabled",
            "prompt", "notebook", "parameters", "max_parallel", "budget", "next_run_at",
            "created_at", "last_status",
        ]  # fmt: skip

    def get_last_status(self, schedule: Schedule) -> str | None:
        """Return how the newest run stands."""
        run = last_run_of(schedule)
        return None if run is None else run.status


class ScheduleListSerializer(serializers.Serializer[Any]):
    """A page of schedules."""

    results = ScheduleSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class ScheduleRunSerializer(serializers.ModelSerializer[ScheduleRun]):
    """One run of a schedule."""

    schedule_id = serializers.UUIDField(read_only=True)
    decomposition_id = serializers.UUIDField(read_only=True, allow_null=True)
    report_url = serializers.SerializerMethodField(
        help_text="Where the executed notebook can be read, beneath the API's root; null if none."
    )

    class Meta:
        """Options."""

        model = ScheduleRun
        fields = [
            "id", "schedule_id", "trigger", "status", "due_at", "created_at", "started_at",
            "ended_at", "message", "exit_code", "decomposition_id", "report_url",
        ]  # fmt: skip

    def get_report_url(self, run: ScheduleRun) -> str | None:
        """Return the address of the report."""
        if not run.has_report:
            return None
        return f"/api/schedules/{run.schedule_id}/runs/{run.pk}/report/"


class ScheduleRunListSerializer(serializers.Serializer[Any]):
    """A page of a schedule's history."""

    results = ScheduleRunSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class NoticeSerializer(serializers.ModelSerializer[Notice]):
    """Something to tell the user."""

    project_id = serializers.UUIDField(read_only=True)
    schedule_run_id = serializers.UUIDField(read_only=True, allow_null=True)
    schedule_id = serializers.UUIDField(
        source="schedule_run.schedule_id", read_only=True, allow_null=True, default=None
    )

    class Meta:
        """Options."""

        model = Notice
        fields = [
            "id", "text", "project_id", "schedule_id", "schedule_run_id", "created_at", "read_at",
        ]  # fmt: skip


class NoticeListSerializer(serializers.Serializer[Any]):
    """A page of notices."""

    results = NoticeSerializer(many=True)
    next = serializers.CharField(allow_null=True)
