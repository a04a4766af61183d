"""Schedules and what they started."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from rootbound_backend.apps.local_access.models import PMDecomposition
from rootbound_backend.apps.projects.models import Project

__all__ = [
    "LIVE_RUN_STATUSES",
    "Notice",
    "Overlap",
    "Schedule",
    "ScheduleKind",
    "ScheduleRun",
    "ScheduleRunStatus",
    "Trigger",
]


class ScheduleKind(models.TextChoices):
    """What a schedule starts."""

    PLAN = "PLAN"
    BATCH = "BATCH"


class Overlap(models.TextChoices):
    """What happens when a schedule is due while its last run still works."""

    SKIP = "SKIP"
    QUEUE = "QUEUE"
    REPLACE = "REPLACE"


class ScheduleRunStatus(models.TextChoices):
    """How far a run of a schedule is."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


LIVE_RUN_STATUSES = (ScheduleRunStatus.WAITING, ScheduleRunStatus.RUNNING)


class Trigger(models.TextChoices):
    """Why a run was started: on time, late after a sleep or an outage, or by hand."""

    CRON = "CRON"
    MISSED = "MISSED"
    MANUAL = "MANUAL"


class Schedule(models.Model):
    """A crontab with what it starts.

    Attributes
    ----------
    crontab, timezone
        Five fields, and the zone whose clocks they speak of.
    prompt
        The wish that is planned and done (PLAN), or the notebook's parameter (BATCH).
    notebook
        Path of the notebook that a BATCH executes.
    parameters
        The notebook's parameters by name.
    next_run_at
        When it is due next; null while it is paused.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="schedules"
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=8, choices=ScheduleKind.choices)
    crontab = models.CharField(max_length=255)
    timezone = models.CharField(max_length=64, default="UTC")
    overlap = models.CharField(max_length=8, choices=Overlap.choices, default=Overlap.SKIP)
    is_enabled = models.BooleanField(default=True)
    prompt = models.TextField(blank=True, default="")
    notebook = models.CharField(max_length=1024, blank=True, default="")
    parameters = models.JSONField(default=dict)
    max_parallel = models.PositiveSmallIntegerField(null=True)
    budget = models.FloatField(null=True)
    next_run_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        indexes = [
            models.Index(fields=["owner", "-created_at", "-id"], name="schedule_by_owner"),
            models.Index(
                fields=["next_run_at"], name="schedule_due", condition=Q(next_run_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ScheduleRun(models.Model):
    """One time that a schedule was due, and what came of it.

    Attributes
    ----------
    due_at
        The instant of the crontab; of a run by hand, when it was asked for.
    message
        One sentence on how it ended, "" when there is nothing to say.
    has_report
        Whether an executed notebook can be read.
    tries, next_try_at
        Hand-overs to the LDA that failed, and when to try again.
    launches
        How often the LDA began the batch; a batch that was cut off goes on.
    claimed_until
        Until when one worker tends it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="runs")
    trigger = models.CharField(max_length=8, choices=Trigger.choices)
    status = models.CharField(
        max_length=10, choices=ScheduleRunStatus.choices, default=ScheduleRunStatus.WAITING
    )
    due_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    message = models.TextField(blank=True, default="")
    exit_code = models.IntegerField(null=True)
    has_report = models.BooleanField(default=False)
    decomposition = models.ForeignKey(
        PMDecomposition, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    tries = models.PositiveSmallIntegerField(default=0)
    launches = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(null=True)

    class Meta:
        """Options."""

        indexes = [
            models.Index(fields=["schedule", "-created_at", "-id"], name="run_by_schedule"),
            models.Index(
                fields=["created_at"],
                name="schedule_run_live",
                condition=Q(status__in=["WAITING", "RUNNING"]),
            ),
        ]
        constraints = [
            # Whatever several workers do at once: one runs, and one waits.
            models.UniqueConstraint(
                fields=["schedule", "status"],
                name="schedule_run_one_live",
                condition=Q(status__in=["WAITING", "RUNNING"]),
            )
        ]


class Notice(models.Model):
    """Something that its owner should hear of though nobody watched, such as a failed run."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notices"
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="notices")
    schedule_run = models.ForeignKey(
        ScheduleRun, on_delete=models.CASCADE, related_name="notices", null=True
    )
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True)

    class Meta:
        """Options."""

        indexes = [models.Index(fields=["owner", "-id"], name="notice_by_owner")]
