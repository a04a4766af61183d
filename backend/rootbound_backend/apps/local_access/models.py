"""Writable roots, the audit log and the PM's decompositions."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.fields.json import KT

from rootbound_backend.apps.attempts.failures import Failure
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.local_access.access_models import AccessRequest, RunPolicy
from rootbound_backend.apps.local_access.kernel_models import KernelSession
from rootbound_backend.apps.local_access.machine_models import Machine
from rootbound_backend.apps.projects.models import Project

__all__ = [
    "AccessRequest",
    "AuditOperation",
    "AuditResult",
    "AuditRetention",
    "AuditRetentionAnchor",
    "AuditSource",
    "AuditWatermark",
    "DecompositionStatus",
    "FsAuditEvent",
    "KernelSession",
    "Machine",
    "PMDecomposition",
    "RunPolicy",
    "WritableRoot",
]


class AuditOperation(models.TextChoices):
    """What was done to a file."""

    READ = "READ", "Read"
    WRITE = "WRITE", "Write"
    DELETE = "DELETE", "Delete"


class AuditResult(models.TextChoices):
    """Whether it was let through."""

    ALLOWED = "ALLOWED", "Allowed"
    DENIED = "DENIED", "Denied"


class AuditSource(models.TextChoices):
    """Who noticed it."""

    TOOL = "tool", "Tool"
    KERNEL = "kernel", "Kernel"
    PROVISIONER = "provisioner", "Provisioner"


class DecompositionStatus(models.TextChoices):
    """Where a decomposition is."""

    PENDING = "PENDING", "Pending"
    READY = "READY", "Ready"
    APPROVED = "APPROVED", "Approved"
    FAILED = "FAILED", "Failed"


class WritableRoot(models.Model):
    """A folder that the user granted for writing.

    Attributes
    ----------
    path
        As typed.
    canonical_path
        As the LDA resolved it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="writable_roots"
    )
    path = models.CharField(max_length=1024)
    canonical_path = models.CharField(max_length=1024)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["user", "canonical_path"], name="root_once"),
        ]

    def __str__(self) -> str:
        return self.canonical_path


class FsAuditEvent(models.Model):
    """One file operation of a run: append-only, chained by hash, partitioned by month.

    The database's primary key is ``(id, timestamp)`` and every unique index holds the timestamp,
    which partitions, and a TimescaleDB hypertable, ask for (``docs/audit.md``). Rows outlive what
    they refer to, hence no foreign key constraints and ``DO_NOTHING``.

    Attributes
    ----------
    run_id
        The id of the attempt, decomposition or kernel session.
    path
        At most 1024 characters; a longer one ends with the digest of the whole path.
    seq
        Position in the run, from 1 without holes.
    detail
        ``pid``, ``program``, ``syscall``, ``path2``, ``errno``, ...
    hash
        Hex SHA-256 over the predecessor's hash and this entry.
    """

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    attempt = models.ForeignKey(
        Attempt,
        on_delete=models.DO_NOTHING,
        related_name="+",
        null=True,
        db_constraint=False,
        db_index=False,
    )
    run_id = models.UUIDField()
    seq = models.PositiveBigIntegerField()
    timestamp = models.DateTimeField()
    operation = models.CharField(max_length=8, choices=AuditOperation.choices)
    result = models.CharField(max_length=8, choices=AuditResult.choices)
    path = models.CharField(max_length=1024)
    source = models.CharField(max_length=16, choices=AuditSource.choices)
    detail = models.JSONField(default=dict)
    hash = models.CharField(max_length=64)

    class Meta:
        """Options."""

        constraints = [
            models.UniqueConstraint(fields=["run_id", "seq", "timestamp"], name="audit_seq_once"),
            models.CheckConstraint(
                condition=Q(operation__in=AuditOperation.values), name="audit_operation_known"
            ),
            models.CheckConstraint(
                condition=Q(result__in=AuditResult.values), name="audit_result_known"
            ),
            models.CheckConstraint(
                condition=Q(source__in=AuditSource.values), name="audit_source_known"
            ),
        ]
        indexes = [
            BrinIndex(fields=["timestamp"], name="audit_by_time"),
            # Lists across runs, newest first, and windows of time.
            models.Index(fields=["user", "timestamp", "id"], name="audit_by_user"),
            # `IN`, not `<> 'ALLOWED'`, which misleads the planner.
            models.Index(
                fields=["run_id", "seq"],
                condition=Q(result__in=["DENIED"]),
                name="audit_denied",
            ),
            models.Index(
                fields=["user", "timestamp", "id"],
                condition=Q(result__in=["DENIED"]),
                name="audit_denied_by_user",
            ),
            # Few paths and programs make most rows: without a third column, equal keys share an
            # index entry.
            models.Index(
                fields=["user", "path"],
                opclasses=["uuid_ops", "varchar_pattern_ops"],
                name="audit_by_path",
            ),
            models.Index(F("user"), KT("detail__program"), name="audit_by_program"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.path} {self.result}"


class AuditWatermark(models.Model):
    """How far one run's audit log is stored; its row lock orders concurrent batches.

    Attributes
    ----------
    run_id
        The run.
    user
        Whose run it is.
    last_seq
        Highest stored entry.
    last_hash
        Hash of that entry, 64 zeros at the start.
    first_at, last_at
        Earliest and latest timestamp of its entries: where in the log a run is to be looked for.
    seal
        HMAC over the run, `last_seq` and `last_hash` with a key that is not in the database, so
        that whoever rewrites a chain there cannot make it look whole.
    """

    run_id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        related_name="+",
        null=True,
        db_constraint=False,
    )
    last_seq = models.PositiveBigIntegerField(default=0)
    last_hash = models.CharField(max_length=64, default="0" * 64)
    first_at = models.DateTimeField(null=True)
    last_at = models.DateTimeField(null=True)
    seal = models.CharField(max_length=64, blank=True, default="")


class AuditRetention(models.Model):
    """What an administrator removed from the audit log: one whole partition.

    Attributes
    ----------
    performed_by
        Name of the operating system's user who ran the command.
    reason
        The rule that was applied, such as ``older than 90 days``.
    partition
        Name of the dropped table.
    range_from, range_to
        Its bounds, null where it had none.
    first_at, last_at, rows, bytes
        What was in it.
    forced
        Whether it was dropped although its chains did not hold.
    seal
        HMAC over all of this, with a key that is not in the database.
    """

    id = models.BigAutoField(primary_key=True)
    performed_at = models.DateTimeField()
    performed_by = models.CharField(max_length=255)
    reason = models.CharField(max_length=255)
    partition = models.CharField(max_length=128)
    range_from = models.DateTimeField(null=True)
    range_to = models.DateTimeField(null=True)
    first_at = models.DateTimeField(null=True)
    last_at = models.DateTimeField(null=True)
    rows = models.PositiveBigIntegerField()
    bytes = models.PositiveBigIntegerField()
    forced = models.BooleanField(default=False)
    seal = models.CharField(max_length=64)

    class Meta:
        """Options."""

        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.partition}: {self.rows} rows, {self.reason}"


class AuditRetentionAnchor(models.Model):
    """The end of a stretch of one run's chain that was removed, where the rest goes on.

    Attributes
    ----------
    first_seq, last_seq
        The stretch, which had no holes.
    last_hash
        Hash of its last entry.
    seal
        As in `AuditWatermark`.
    """

    id = models.BigAutoField(primary_key=True)
    retention = models.ForeignKey(AuditRetention, on_delete=models.PROTECT, related_name="anchors")
    run_id = models.UUIDField(db_index=True)
    first_seq = models.PositiveBigIntegerField()
    last_seq = models.PositiveBigIntegerField()
    last_hash = models.CharField(max_length=64)
    seal = models.CharField(max_length=64)

    class Meta:
        """Options."""

        ordering = ["run_id", "first_seq"]


class PMDecomposition(models.Model):
    """A wish of the user's and the plan that the PM agent made of it.

    Attributes
    ----------
    plan
        ``{"summary", "tasks": [...]}`` when READY.
    tasks_created
        Ids of the tasks made at approval.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="decompositions")
    user_prompt = models.TextField()
    pm_response = models.TextField(blank=True, default="")
    plan = models.JSONField(null=True)
    status = models.CharField(
        max_length=16, choices=DecompositionStatus.choices, default=DecompositionStatus.PENDING
    )
    failure = models.CharField(max_length=32, choices=Failure.choices, null=True)
    failure_message = models.TextField(blank=True, default="")
    tasks_created = models.JSONField(default=list)
    auto_approve = models.BooleanField(default=False)
    agent = models.JSONField(default=dict)
    usage = models.JSONField(default=dict)
    lease_generation = models.PositiveIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True)
    handed_over_at = models.DateTimeField(null=True)
    hand_over_tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=DecompositionStatus.values),
                name="decomposition_status_known",
            ),
            models.CheckConstraint(
                condition=Q(status="FAILED", failure__isnull=False, failure__in=Failure.values)
                | (~Q(status="FAILED") & Q(failure__isnull=True)),
                name="decomposition_failure_typed",
            ),
        ]

    def __str__(self) -> str:
        return f"decomposition of {self.project_id}"
