"""Attempts, their events and their gates."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q

from rootbound_backend.apps.attempts.failures import Failure
from rootbound_backend.apps.tasks.models import Task

__all__ = [
    "ACTIVE_STATUSES",
    "LIVE_STATUSES",
    "TERMINAL_STATUSES",
    "Attempt",
    "AttemptEvent",
    "AttemptStatus",
    "EventType",
    "Gate",
    "ReviewComment",
]


class AttemptStatus(models.TextChoices):
    """Where an attempt is; the legal moves are in ``attempts.transitions``."""

    QUEUED = "QUEUED", "Queued"
    RUNNING = "RUNNING", "Running"
    GATES = "GATES", "Gates"
    REVIEW = "REVIEW", "Review"
    SUCCESS = "SUCCESS", "Success"
    FAILED = "FAILED", "Failed"


LIVE_STATUSES = (AttemptStatus.QUEUED, AttemptStatus.RUNNING, AttemptStatus.GATES)
TERMINAL_STATUSES = (AttemptStatus.SUCCESS, AttemptStatus.FAILED)
ACTIVE_STATUSES = (*LIVE_STATUSES, AttemptStatus.REVIEW)
"""An attempt in one of these bars another one on the same task."""


class EventType(models.TextChoices):
    """Kind of an event."""

    LOG = "LOG", "Log"
    ERROR = "ERROR", "Error"
    ARTIFACT = "ARTIFACT", "Artifact"
    STATUS = "STATUS", "Status"


class Attempt(models.Model):
    """One run of one agent on one task.

    Attributes
    ----------
    number
        1 for the task's first attempt.
    agent
        Snapshot of the agent profile: the LDA's ``agent_config`` and ``limits``.
    commands
        Snapshot of the project's commands; says which gates must be green.
    feedback
        What the user said about the attempt before.
    last_seq
        Highest stored event.
    last_source_seq
        Highest event of the LDA's own numbering that is stored: the watermark of ingestion.
    lease_generation
        Counts hand-overs to the LDA; reports of an older one are refused.
    held_roots
        The user's roots that it was handed over with, canonical paths by id; it holds those that
        still count. A root that is granted anew has another id. None until it is claimed.
    lease_expires_at
        Until when the run counts as alive without news of it.
    claimed_until
        Until when one worker alone may hand over or merge this attempt.
    handed_over_at
        When the LDA accepted the run.
    hand_over_tries, next_try_at
        How often the LDA could not be reached, and when to try again.
    waiting_for, queue_place
        Why a queued attempt does not run yet, "" when nothing holds it up, and its place among
        all that wait, from 1.
    continues, update
        The attempt whose work this one goes on with, and how: ``rebase`` only brings it onto the
        base branch as it is now, ``resolve`` has the agent settle the conflicts.
    summary
        What the agent says it has done.
    diff_stats
        ``files``, ``additions``, ``deletions`` and changed ``tests``, once there is a commit.
    denied_count
        Denied operations in the audit log, counted while they come in.
    first_seq
        Lowest event that is kept; behind `last_seq` once retention has removed them.
    event_bytes, file_bytes
        Disk use: of the stored events as they came in, and of the attempt's folders at the last
        look.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    status = models.CharField(
        max_length=16, choices=AttemptStatus.choices, default=AttemptStatus.QUEUED
    )
    branch_name = models.CharField(max_length=255)
    base_commit = models.CharField(max_length=64, null=True, blank=True)
    head_commit = models.CharField(max_length=64, null=True, blank=True)
    merge_commit = models.CharField(max_length=64, null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    exit_code = models.IntegerField(null=True, blank=True)
    failure = models.CharField(max_length=32, choices=Failure.choices, null=True, blank=True)
    failure_message = models.TextField(blank=True, default="")
    agent = models.JSONField(default=dict)
    commands = models.JSONField(default=dict)
    usage = models.JSONField(default=dict)
    reference_paths = models.JSONField(default=list)
    feedback = models.TextField(blank=True, default="")
    last_seq = models.PositiveBigIntegerField(default=0)
    last_source_seq = models.PositiveBigIntegerField(default=0)
    lease_generation = models.PositiveIntegerField(default=0)
    held_roots = models.JSONField(null=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    handed_over_at = models.DateTimeField(null=True, blank=True)
    hand_over_tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    waiting_for = models.CharField(max_length=255, blank=True, default="")
    queue_place = models.PositiveIntegerField(null=True, blank=True)
    continues = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="continued_by"
    )
    update = models.CharField(max_length=16, blank=True, default="")
    summary = models.TextField(blank=True, default="")
    diff_stats = models.JSONField(default=dict)
    denied_count = models.PositiveBigIntegerField(default=0)
    first_seq = models.PositiveBigIntegerField(default=1)
    event_bytes = models.PositiveBigIntegerField(default=0)
    file_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="attempt_number_once"),
            models.UniqueConstraint(
                fields=["task"],
                condition=Q(status__in=[str(s) for s in ACTIVE_STATUSES]),
                name="attempt_one_active",
            ),
            models.CheckConstraint(
                condition=Q(status__in=AttemptStatus.values), name="attempt_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="FAILED", failure__isnull=False, failure__in=Failure.values)
                | (~Q(status="FAILED") & Q(failure__isnull=True)),
                name="attempt_failure_typed",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["REVIEW", "SUCCESS"]) | Q(head_commit__isnull=False),
                name="attempt_result_has_head",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["SUCCESS", "FAILED"], completed_at__isnull=False)
                | (~Q(status__in=["SUCCESS", "FAILED"]) & Q(completed_at__isnull=True)),
                name="attempt_completed_when_terminal",
            ),
        ]
        indexes = [
            models.Index(
                fields=["status", "created_at"],
                condition=Q(status__in=[str(s) for s in LIVE_STATUSES]),
                name="attempt_live",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of task {self.task_id}"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.status in TERMINAL_STATUSES

    def holds_claim(self, now: datetime) -> bool:
        """Return whether somebody is handing it over or merging it at this moment."""
        return self.claimed_until is not None and self.claimed_until > now


class AttemptEvent(models.Model):
    """One entry of an attempt's stream, numbered without holes.

    The table is partitioned by week of `attempt_created_at`, so that all events of an attempt lie
    in one partition, whatever its clock says, and a partition leaves as a whole. The database's
    primary key is ``(attempt, seq, attempt_created_at)``; `id` only orders and has no index, as
    nothing looks events up by it. See ``attempts.partitions``.
    """

    id = models.BigAutoField(primary_key=True)
    # The constraint would triple the cost of a row; services delete events with their attempt.
    attempt = models.ForeignKey(
        Attempt,
        on_delete=models.CASCADE,
        related_name="events",
        db_constraint=False,
        db_index=False,
    )
    seq = models.PositiveBigIntegerField()
    timestamp = models.DateTimeField()
    type = models.CharField(max_length=16, choices=EventType.choices)
    payload = models.JSONField()
    attempt_created_at = models.DateTimeField()

    class Meta:
        """Options."""

        ordering = ["seq"]
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "seq", "attempt_created_at"], name="attempt_event_key"
            ),
            models.CheckConstraint(
                condition=Q(type__in=EventType.values), name="attempt_event_type_known"
            ),
            models.CheckConstraint(condition=Q(seq__gte=1), name="attempt_event_seq_from_one"),
        ]

    def __str__(self) -> str:
        return f"event {self.seq} of attempt {self.attempt_id}"


class Gate(models.Model):
    """Evidence: what a project command said about one commit.

    Attributes
    ----------
    exit_code
        Null when the command did not end by itself.
    duration_s
        Wall time in seconds.
    log_digest
        ``sha256:...`` of the log: of the whole output, or of its two ends when it is very long.
    log_artifact
        Name of the log in the attempt's artifact folder, or null.
    flaky
        Whether it had failed at this very commit and passed when it was run again.
    """

    id = models.BigAutoField(primary_key=True)
    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="gates")
    name = models.CharField(max_length=16)
    commit = models.CharField(max_length=64)
    command = models.TextField()
    exit_code = models.IntegerField(null=True)
    duration_s = models.FloatField()
    log_digest = models.CharField(max_length=80)
    log_artifact = models.CharField(max_length=1024, null=True)
    flaky = models.BooleanField(default=False)

    class Meta:
        """Options."""

        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["attempt", "name", "commit"], name="gate_once"),
            models.CheckConstraint(
                condition=Q(name__in=["install", "lint", "test"]), name="gate_name_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} at {self.commit[:12]}"


class ReviewComment(models.Model):
    """What a reviewer says about a line of an attempt's diff, or about the whole.

    Attributes
    ----------
    path
        File in the repository; "" for a remark on the attempt as a whole.
    side, line
        Which side of the diff (``old`` or ``new``) and which line of that file, from 1; null for
        a remark on the file.
    commit
        The head that the reviewer saw.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    path = models.CharField(max_length=1024, blank=True, default="")
    side = models.CharField(max_length=3, choices=[("old", "Old"), ("new", "New")], default="new")
    line = models.PositiveIntegerField(null=True, blank=True)
    commit = models.CharField(max_length=64, null=True, blank=True)
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["created_at", "id"]
        indexes = [models.Index(fields=["attempt", "created_at", "id"], name="comment_by_attempt")]

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"comment on {where or 'the attempt'}"
