"""Ingestion of a run's audit log: validated whole, stored once, in order, without holes."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from rootbound_backend.apps.attempts.ingest import check_fence, sequence_gap
from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt
from rootbound_backend.apps.attempts.transitions import LEASE_S, touch_task
from rootbound_backend.apps.local_access.models import AuditWatermark, PMDecomposition
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.tokens import IngestGrant
from rootbound_backend.wire import copy_rows, decode_batch, raw_json

__all__ = ["AuditBatch", "decode_audit", "ingest_audit"]

MAX_BATCH = 10_000
MAX_DETAIL_BYTES = 64 * 1024


class AuditEntryIn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One entry as the LDA reports it."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    operation: Literal["READ", "WRITE", "DELETE"]
    result: Literal["ALLOWED", "DENIED"]
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    source: Literal["tool", "kernel", "provisioner"]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    detail: msgspec.Raw = msgspec.Raw(b"{}")


class AuditBatch(msgspec.Struct, forbid_unknown_fields=True):
    """A batch of entries of one run."""

    run_id: uuid.UUID
    lease_generation: Annotated[int, msgspec.Meta(ge=0)]
    entries: Annotated[list[AuditEntryIn], msgspec.Meta(max_length=MAX_BATCH)]
    attempt_id: uuid.UUID | None = None


_BATCH = msgspec.json.Decoder(AuditBatch)

_COLUMNS = (
    "user_id",
    "attempt_id",
    "run_id",
    "seq",
    "timestamp",
    "operation",
    "result",
    "path",
    "source",
    "detail",
    "hash",
)
_TYPES = (
    "uuid",
    "uuid",
    "uuid",
    "int8",
    "timestamptz",
    "varchar",
    "varchar",
    "varchar",
    "varchar",
    "jsonb",
    "varchar",
)


def decode_audit(body: bytes) -> AuditBatch:
    """Decode and validate a batch.

    Raises
    ------
    Problem
        400 that names index and field.
    """
    batch = decode_batch(body, _BATCH)
    for index, entry in enumerate(batch.entries):
        detail = bytes(entry.detail)
        if detail[:1] != b"{" or len(detail) > MAX_DETAIL_BYTES:
            where = f"entries[{index}].detail"
            raise Problem(
                status=400,
                code="invalid",
                title="Invalid input",
                detail=f"{where}: must be an object of at most {MAX_DETAIL_BYTES} bytes.",
                extras={"errors": {where: ["must be an object of a sane size"]}},
            )
    return batch


def ingest_audit(*, grant: IngestGrant, batch: AuditBatch) -> int:
    """Store what is new of a batch, in one transaction.

    Parameters
    ----------
    grant
        What the sender's token allows.
    batch
        A validated batch.

    Returns
    -------
    int
        The highest contiguous number of the run that is stored.

    Raises
    ------
    Problem
        404 for another run than the token's; 409 ``fenced`` or ``sequence-gap``; 400 for a value
        that cannot be stored.
    """
    if batch.run_id != grant.run_id or batch.attempt_id != grant.attempt_id:
        raise not_found("run")
    check_fence(reported=batch.lease_generation, current=_generation(grant))
    with transaction.atomic():
        mark = _lock_watermark(batch.run_id)
        new = [entry for entry in batch.entries if entry.seq > mark.last_seq]
        for offset, entry in enumerate(new, start=1):
            if entry.seq != mark.last_seq + offset:
                raise sequence_gap(mark.last_seq + offset)
        if new:
            _copy(grant, new)
            mark.last_seq, mark.last_hash = new[-1].seq, new[-1].hash
            mark.save()
        if grant.attempt_id is not None:
            _note_on_attempt(grant.attempt_id, sum(entry.result == "DENIED" for entry in new))
    return mark.last_seq


def _generation(grant: IngestGrant) -> int:
    """Return the generation in force for a run."""
    if grant.attempt_id is not None:
        rows = Attempt.objects.filter(pk=grant.attempt_id)
        current = rows.values_list("lease_generation", flat=True).first()
    else:
        plans = PMDecomposition.objects.filter(pk=grant.run_id)
        current = plans.values_list("lease_generation", flat=True).first()
    if current is None:
        raise not_found("run")
    return current


def _lock_watermark(run_id: uuid.UUID) -> AuditWatermark:
    AuditWatermark.objects.bulk_create([AuditWatermark(run_id=run_id)], ignore_conflicts=True)
    return AuditWatermark.objects.select_for_update(no_key=True).get(pk=run_id)


def _copy(grant: IngestGrant, entries: list[AuditEntryIn]) -> None:
    user, attempt, run = grant.user_id, grant.attempt_id, grant.run_id
    copy_rows(
        "local_access_fsauditevent",
        _COLUMNS,
        _TYPES,
        (
            (
                user,
                attempt,
                run,
                entry.seq,
                entry.timestamp,
                entry.operation,
                entry.result,
                entry.path,
                entry.source,
                raw_json(entry.detail),
                entry.hash,
            )
            for entry in entries
        ),
    )


def _note_on_attempt(attempt_id: uuid.UUID, denied: int) -> None:
    """Extend the lease and count denials, so that no list has to count the audit log."""
    lease = timezone.now() + timedelta(seconds=LEASE_S)
    Attempt.objects.filter(pk=attempt_id, status__in=LIVE_STATUSES).update(lease_expires_at=lease)
    if not denied:
        return
    Attempt.objects.filter(pk=attempt_id).update(denied_count=F("denied_count") + denied)
    task = Task.objects.select_for_update(no_key=True).filter(attempts=attempt_id).first()
    if task is not None:
        touch_task(task)
        task.save(update_fields=["revision"])
