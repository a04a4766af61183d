"""Ingestion of a run's audit log: validated whole, stored once, in order, without holes."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from rootbound_backend import metrics
from rootbound_backend.apps.attempts.ingest import check_fence, sequence_gap
from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt
from rootbound_backend.apps.attempts.transitions import LEASE_S, touch_task
from rootbound_backend.apps.local_access.access_requests import note_denials
from rootbound_backend.apps.local_access.audit.chain import keep_unstorable
from rootbound_backend.apps.local_access.audit.partitions import (
    PartitionMissing,
    ensure_partitions,
    partitions_needed,
    partitions_present,
)
from rootbound_backend.apps.local_access.audit.seals import seal_position
from rootbound_backend.apps.local_access.models import (
    AuditWatermark,
    KernelSession,
    PMDecomposition,
)
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.bodies import RowDecoders
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.statements import Prepared, fetch, update_row
from rootbound_backend.tokens import IngestGrant
from rootbound_backend.wire import copy_rows, raw_json

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


_DECODERS: RowDecoders[AuditBatch, AuditEntryIn] = RowDecoders(
    batch=msgspec.json.Decoder(AuditBatch),
    rows=msgspec.json.Decoder(list[AuditEntryIn]),
    row=msgspec.json.Decoder(AuditEntryIn),
    name="entries",
    max_rows=MAX_BATCH,
)
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")

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


def decode_audit(
    body: bytes, content_type: str = "", *, grant: IngestGrant | None = None
) -> AuditBatch:
    """Decode and validate a batch.

    Parameters
    ----------
    body
        An object that names its run and holds ``entries``, a JSON array of entries, or NDJSON.
    content_type
        Of the request.
    grant
        The sender's; names the run of bare entries.

    Raises
    ------
    Problem
        400 that names index and field.
    """
    if _SUSPECT.search(body):
        body = _keep_unstorable(body)
    decoded = _DECODERS.decode(body, content_type)
    if isinstance(decoded, AuditBatch):
        batch = decoded
    elif grant is None:
        raise not_found("run")
    else:
        batch = AuditBatch(grant.run_id, grant.lease_generation, decoded, grant.attempt_id)
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


def _keep_unstorable(body: bytes) -> bytes:
    """Replace what PostgreSQL cannot store, and keep what it replaces, for the chain's sake."""

    def kept(value: Any) -> Any:
        if isinstance(value, list):
            return [kept(item) for item in value]
        if isinstance(value, dict) and isinstance(value.get("entries"), list):
            return {**value, "entries": kept(value["entries"])}
        return keep_unstorable(value) if isinstance(value, dict) else value

    try:
        documents = [json.loads(body)]
    except (ValueError, RecursionError):
        try:
            documents = [json.loads(line) for line in body.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            return body  # the decoder says what is wrong with it
    return b"\n".join(msgspec.json.encode(kept(document)) for document in documents)


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
    try:
        seq, stored = _store(grant, batch)
    except PartitionMissing:
        # Retention dropped one that was thought to exist; it is looked for again now.
        seq, stored = _store(grant, batch)
    metrics.note_ingested("audit", stored, batch.entries[0].timestamp if stored else None)
    return seq


def _store(grant: IngestGrant, batch: AuditBatch) -> tuple[int, int]:
    with transaction.atomic():
        mark = _lock_watermark(batch.run_id)
        new = [entry for entry in batch.entries if entry.seq > mark.last_seq]
        for offset, entry in enumerate(new, start=1):
            if entry.seq != mark.last_seq + offset:
                raise sequence_gap(mark.last_seq + offset)
        if new:
            _copy(grant, new)
            _advance(mark, grant, new)
        if grant.attempt_id is not None:
            note_denials(attempt_id=grant.attempt_id, entries=new)
            _note_on_attempt(grant.attempt_id, sum(entry.result == "DENIED" for entry in new))
    return mark.last_seq, len(new)


def _generation(grant: IngestGrant) -> int:
    """Return the generation in force for a run."""
    if grant.attempt_id is not None:
        current = next((number for (number,) in _GENERATION(grant.attempt_id)), None)
    elif grant.kernel_session_id is not None:
        # A kernel is handed over once: each start is a session of its own.
        known = KernelSession.objects.filter(pk=grant.run_id).exists()
        current = 1 if known else None
    else:
        plans = PMDecomposition.objects.filter(pk=grant.run_id)
        current = plans.values_list("lease_generation", flat=True).first()
    if current is None:
        raise not_found("run")
    return current


_GENERATION: Prepared[tuple[int]] = Prepared(
    lambda pk: Attempt.objects.filter(pk=pk).order_by().values_list("lease_generation"), uuid.UUID
)
_LOCKED_MARK = Prepared(
    lambda pk: AuditWatermark.objects.select_for_update(no_key=True).filter(pk=pk).order_by(),
    uuid.UUID,
)


def _lock_watermark(run_id: uuid.UUID) -> AuditWatermark:
    mark = _LOCKED_MARK.first(run_id)
    if mark is None:
        AuditWatermark.objects.bulk_create([AuditWatermark(run_id=run_id)], ignore_conflicts=True)
        (mark,) = _LOCKED_MARK(run_id)
    return mark


def _advance(mark: AuditWatermark, grant: IngestGrant, new: list[AuditEntryIn]) -> None:
    """Move a locked watermark to the last of the new entries, and seal it there."""
    times = [entry.timestamp for entry in new]
    mark.user_id = grant.user_id
    mark.first_at = min(times) if mark.first_at is None else min(mark.first_at, *times)
    mark.last_at = max(times) if mark.last_at is None else max(mark.last_at, *times)
    mark.last_seq, mark.last_hash = new[-1].seq, new[-1].hash
    mark.seal = seal_position(mark.run_id, mark.last_seq, mark.last_hash)
    update_row(mark)


def _copy(grant: IngestGrant, entries: list[AuditEntryIn]) -> None:
    needed = partitions_needed(entry.timestamp for entry in entries)
    ensure_partitions(needed)
    user, attempt, run = grant.user_id, grant.attempt_id, grant.run_id
    rows = (
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
    )
    with partitions_present(needed):
        copy_rows("local_access_fsauditevent", _COLUMNS, _TYPES, rows)


_EXTEND_LEASE = """
UPDATE attempts_attempt SET lease_expires_at = %s WHERE id = %s AND status = ANY(%s)
"""


def _note_on_attempt(attempt_id: uuid.UUID, denied: int) -> None:
    """Extend the lease and count denials, so that no list has to count the audit log."""
    lease = timezone.now() + timedelta(seconds=LEASE_S)
    fetch(_EXTEND_LEASE, [lease, attempt_id, list(LIVE_STATUSES)])
    if not denied:
        return
    Attempt.objects.filter(pk=attempt_id).update(denied_count=F("denied_count") + denied)
    task = Task.objects.select_for_update(no_key=True).filter(attempts=attempt_id).first()
    if task is not None:
        touch_task(task)
        task.save(update_fields=["revision"])
