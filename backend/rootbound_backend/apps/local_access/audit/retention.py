"""Retention of the audit log: whole partitions are dropped, and a record of them stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from rootbound_backend.apps.local_access.audit.partitions import (
    TABLE,
    Partition,
    forget_partitions,
    layout,
    list_partitions,
)
from rootbound_backend.apps.local_access.audit.seals import seal_facts, seal_position
from rootbound_backend.apps.local_access.audit.verify import verify_runs
from rootbound_backend.apps.local_access.models import AuditRetention, AuditRetentionAnchor

__all__ = ["RetentionRefused", "Rule", "drop_partition", "partitions_to_drop"]

LOCK_TIMEOUT = "10s"
_BATCH = 5_000


class RetentionRefused(Exception):  # noqa: N818 - it reads as what it says
    """The audit log is left as it is; the message is one sentence for people."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is to be kept.

    Attributes
    ----------
    older_than
        Partitions that end before this long ago go.
    keep_bytes
        The oldest partitions go until the rest, with indexes, is no larger.
    """

    older_than: timedelta | None = None
    keep_bytes: int | None = None


def partitions_to_drop(rule: Rule, *, now: datetime) -> list[tuple[Partition, str]]:
    """Return the partitions that a rule lets go, the oldest first, each with the reason.

    The partition of the present and those after it always stay.

    Raises
    ------
    RetentionRefused
        When the table has no partitions.
    """
    if layout() == "plain":
        raise RetentionRefused(
            "The audit log is not partitioned on this database, so nothing can be dropped as a "
            "whole; see docs/audit.md."
        )
    everything = list_partitions()
    past = [one for one in everything if one.end is not None and one.end <= now and one.bytes]
    chosen: list[tuple[Partition, str]] = []
    total = sum(one.bytes for one in everything)
    for one in past:
        if _is_empty(one):
            continue
        if rule.older_than is not None and one.end is not None and one.end <= now - rule.older_than:
            reason = f"older than {rule.older_than.days} days"
        elif rule.keep_bytes is not None and total > rule.keep_bytes:
            reason = f"more than {rule.keep_bytes} bytes in all"
        else:
            continue
        chosen.append((one, reason))
        total -= one.bytes
    return chosen


def _is_empty(partition: Partition) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT NOT EXISTS (SELECT FROM {partition.name})")  # noqa: S608
        return bool(cursor.fetchone()[0])


def drop_partition(
    partition: Partition,
    *,
    reason: str,
    performed_by: str,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> AuditRetention:
    """Drop one partition and leave a sealed record of what was in it, in one transaction.

    Parameters
    ----------
    partition
        Of `partitions_to_drop`.
    reason
        The rule that let it go.
    performed_by
        Who asked for it.
    force
        Drop it although the chains in it do not hold, which the record then says.
    progress
        Called with a sentence before each step that takes long.

    Raises
    ------
    RetentionRefused
        When the chains in it do not hold and `force` is not set, or the table is busy.
    """
    with transaction.atomic():
        progress(f"Verifying the runs in {partition.name}.")
        broken = _broken_runs(partition)
        if broken and not force:
            raise RetentionRefused(
                f"{partition.name} holds entries of {len(broken)} runs whose chains do not hold, "
                f"for example {broken[0]}; look at `rootbound audit verify --run {broken[0]}` "
                "first, then use --force."
            )
        progress(f"Dropping {partition.name}.")
        _close(partition)
        islands = _islands(partition)
        record = _record(partition, reason, performed_by, forced=bool(broken))
        _keep_anchors(record, islands)
        _drop(partition)
    forget_partitions()
    return record


def _broken_runs(partition: Partition) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT run_id FROM {partition.name}")  # noqa: S608
        runs = [row[0] for row in cursor.fetchall()]
    if not runs:
        return []
    broken: set[str] = set()
    report = verify_runs(runs)
    broken.update(str(found.run_id) for found in report.findings)
    while report.next is not None:
        report = verify_runs(runs, cursor=report.next)
        broken.update(str(found.run_id) for found in report.findings)
    return sorted(broken)


def _close(partition: Partition) -> None:
    """Keep writers out of a partition until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        try:
            cursor.execute(f"LOCK TABLE {partition.name} IN SHARE MODE")
        except OperationalError as error:
            raise _busy(partition) from error


def _busy(partition: Partition) -> RetentionRefused:
    return RetentionRefused(
        f"{partition.name} is in use, perhaps by an export or a verification; try again later."
    )


def _islands(partition: Partition) -> list[tuple[Any, int, int, str]]:
    """Return each run's stretches without holes: run, first and last number, last hash."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT run_id, min(seq), max(seq), (array_agg(hash ORDER BY seq DESC))[1]
            FROM (
                SELECT run_id, seq, hash,
                       seq - row_number() OVER (PARTITION BY run_id ORDER BY seq) AS island
                FROM {partition.name}
            ) AS numbered
            GROUP BY run_id, island ORDER BY run_id, min(seq)
            """  # noqa: S608
        )
        return list(cursor.fetchall())


def _record(
    partition: Partition, reason: str, performed_by: str, *, forced: bool
) -> AuditRetention:
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT count(*), min("timestamp"), max("timestamp") FROM {partition.name}'  # noqa: S608
        )
        rows, first_at, last_at = cursor.fetchone()
    facts: dict[str, Any] = {
        "performed_at": timezone.now(),
        "performed_by": performed_by,
        "reason": reason,
        "partition": partition.name,
        "range_from": partition.start,
        "range_to": partition.end,
        "first_at": first_at,
        "last_at": last_at,
        "rows": rows,
        "bytes": partition.bytes,
        "forced": forced,
    }
    return AuditRetention.objects.create(**facts, seal=seal_facts(facts))


def _keep_anchors(record: AuditRetention, islands: Sequence[tuple[Any, int, int, str]]) -> None:
    AuditRetentionAnchor.objects.bulk_create(
        (
            AuditRetentionAnchor(
                retention=record,
                run_id=run,
                first_seq=first,
                last_seq=last,
                last_hash=digest,
                seal=seal_position(run, last, digest, first=first),
            )
            for run, first, last, digest in islands
        ),
        batch_size=_BATCH,
    )


def _drop(partition: Partition) -> None:
    with connection.cursor() as cursor:
        try:
            if layout() == "hypertable":
                cursor.execute(
                    "SELECT drop_chunks(%s, older_than => %s, newer_than => %s)",
                    [TABLE, partition.end, partition.start],
                )
            else:
                cursor.execute(f"DROP TABLE {partition.name}")
            if partition.is_permanent:
                cursor.execute(
                    f"CREATE TABLE {partition.name} PARTITION OF {TABLE} "
                    f"FOR VALUES FROM (MINVALUE) TO ('{partition.end}')"
                )
                cursor.execute("SELECT local_access_audit_guard(%s)", [partition.name])
        except OperationalError as error:
            raise _busy(partition) from error
