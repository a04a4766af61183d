"""The audit log's partitions: one per calendar month, UTC, made before they are needed.

A month is small enough for retention and large enough that years of history stay a few dozen
tables, so that a query which must look into all of them is still planned in a few milliseconds.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import IntegrityError, connection, transaction
from psycopg.errors import CheckViolation

__all__ = [
    "TABLE",
    "Partition",
    "PartitionMissing",
    "ensure_partitions",
    "forget_partitions",
    "layout",
    "list_partitions",
    "partitions_needed",
    "partitions_present",
    "prepare_partitions",
]

TABLE = "local_access_fsauditevent"
MONTHS_AHEAD = 3

Month = tuple[int, int]

_known: set[Month] = set()
_lock = threading.Lock()
_BOUND = re.compile(r"FROM \((MINVALUE|'[^']+')\) TO \((MAXVALUE|'[^']+')\)")


class PartitionMissing(Exception):  # noqa: N818 - it reads as what it says
    """A partition that was known to exist is gone; trying again makes it anew."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition, or one chunk of a hypertable.

    Attributes
    ----------
    name
        Its table.
    start, end
        Bounds of the timestamps in it, the end exclusive; None where it is unbounded.
    bytes
        Disk use with its indexes.
    """

    name: str
    start: datetime | None
    end: datetime | None
    bytes: int

    @property
    def is_permanent(self) -> bool:
        """Whether it takes timestamps that no clock should show, and is emptied, not dropped."""
        return self.start is None or self.end is None


def partitions_needed(moments: Iterable[datetime]) -> set[Month]:
    """Return the months of aware moments, in UTC."""
    return {(at.year, at.month) for at in (moment.astimezone(UTC) for moment in moments)}


def ensure_partitions(months: Iterable[Month]) -> None:
    """Make the partitions of some months unless this process knows that they exist."""
    missing = sorted(set(months) - _known)
    for month in missing:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT local_access_audit_partition(%s)", [datetime(*month, 1, tzinfo=UTC)]
            )
    if missing:
        # Not before the commit: a partition that was rolled back does not exist.
        transaction.on_commit(lambda: _remember(missing))


def _remember(months: Iterable[Month]) -> None:
    with _lock:
        _known.update(months)


def forget_partitions() -> None:
    """Forget which partitions exist, because some were dropped."""
    with _lock:
        _known.clear()


@contextmanager
def partitions_present(months: set[Month]) -> Iterator[None]:
    """Turn the failure of an insert for want of a partition into `PartitionMissing`."""
    try:
        yield
    except IntegrityError as error:
        is_missing = isinstance(error.__cause__, CheckViolation)
        if not is_missing or "no partition of relation" not in str(error):
            raise
        forget_partitions()
        raise PartitionMissing(f"no partition for one of {sorted(months)}") from error


def prepare_partitions(now: datetime) -> int:
    """Make the partitions of this month and the next ones.

    Parameters
    ----------
    now
        The present, aware.

    Returns
    -------
    int
        How many were missing.
    """
    utc = now.astimezone(UTC)
    made = 0
    for ahead in range(MONTHS_AHEAD + 1):
        month = utc.month - 1 + ahead
        start = datetime(utc.year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        with connection.cursor() as cursor:
            cursor.execute("SELECT local_access_audit_partition(%s)", [start])
            made += bool(cursor.fetchone()[0])
    return made


def layout() -> str:
    """Return ``partitions``, ``hypertable`` or ``plain``: how the log's table is kept."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind FROM pg_class WHERE oid = %s::regclass", [TABLE])
        if cursor.fetchone()[0] == "p":
            return "partitions"
        cursor.execute("SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return "plain"
        cursor.execute(
            "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables "
            "WHERE hypertable_name = %s)",
            [TABLE],
        )
        return "hypertable" if cursor.fetchone()[0] else "plain"


def list_partitions() -> list[Partition]:
    """Return the partitions, or a hypertable's chunks, oldest first."""
    kind = layout()
    if kind == "plain":
        return []
    with connection.cursor() as cursor:
        if kind == "hypertable":
            cursor.execute(
                "SELECT format('%%I.%%I', chunk_schema, chunk_name), range_start, range_end, "
                "pg_total_relation_size(format('%%I.%%I', chunk_schema, chunk_name)::regclass) "
                "FROM timescaledb_information.chunks WHERE hypertable_name = %s "
                "ORDER BY range_start",
                [TABLE],
            )
            return [Partition(*row) for row in cursor.fetchall()]
        cursor.execute(
            "SELECT relname, pg_get_expr(relpartbound, oid), pg_total_relation_size(oid) "
            "FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE inhparent = %s::regclass",
            [TABLE],
        )
        found = [_partition(*row) for row in cursor.fetchall()]
    unbounded = datetime.min.replace(tzinfo=UTC)
    return sorted(found, key=lambda one: one.start or unbounded)


def _partition(name: str, bounds: str, size: int) -> Partition:
    match = _BOUND.search(bounds)
    if match is None:
        raise ValueError(f"Partition {name} has bounds that are not ours: {bounds}.")
    return Partition(name, _bound(match[1]), _bound(match[2]), size)


def _bound(text: str) -> datetime | None:
    if text in {"MINVALUE", "MAXVALUE"}:
        return None
    return datetime.fromisoformat(text.strip("'"))
