"""The weekly partitions of the event table.

An attempt's events lie in the partition of the week in which the attempt was made. What comes
before its week has a partition waits in the default one and is moved when the partition is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction
from psycopg import sql

__all__ = ["WEEKS_AHEAD", "Partition", "drop_partition", "ensure_partitions", "list_partitions"]

TABLE = "attempts_attemptevent"
DEFAULT = f"{TABLE}_default"
WEEKS_AHEAD = 4
LOCK_TIMEOUT_MS = 3000
"""How long making a partition waits for readers of the default one; it is tried again later."""

_PREFIX = f"{TABLE}_w"


@dataclass(frozen=True, slots=True)
class Partition:
    """One week's events.

    Attributes
    ----------
    name
        Of the table.
    start, end
        Attempts made from `start`, and before `end`.
    size
        Bytes on disk, indexes included.
    """

    name: str
    start: datetime
    end: datetime
    size: int


def week_of(moment: datetime) -> datetime:
    """Return the Monday, 00:00 UTC, of a moment's week."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def list_partitions() -> list[Partition]:
    """Return the weekly partitions, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class "
            "JOIN pg_inherits ON inhrelid = oid WHERE inhparent = %s::regclass "
            "AND starts_with(relname, %s) ORDER BY relname",
            [TABLE, _PREFIX],
        )
        rows = cursor.fetchall()
    found = []
    for name, size in rows:
        day = datetime.strptime(name.removeprefix(_PREFIX), "%Y%m%d")  # noqa: DTZ007
        start = day.replace(tzinfo=UTC)
        found.append(Partition(name, start, start + timedelta(weeks=1), size))
    return found


def ensure_partitions(now: datetime) -> int:
    """Make the partitions of this week and the following ones, and of what waits in the default.

    Parameters
    ----------
    now
        The present moment.

    Returns
    -------
    int
        How many were made.
    """
    known = {partition.start for partition in list_partitions()}
    this_week = week_of(now)
    wanted = {this_week + timedelta(weeks=number) for number in range(WEEKS_AHEAD + 1)}
    wanted |= {week_of(moment) for moment in _waiting_weeks()}
    missing = sorted(wanted - known)
    for start in missing:
        _make(start)
    return len(missing)


def _waiting_weeks() -> list[datetime]:
    with connection.cursor() as cursor:
        query = (
            "SELECT DISTINCT date_trunc('week', attempt_created_at AT TIME ZONE 'UTC') "
            "AT TIME ZONE 'UTC' FROM {}"
        )
        cursor.execute(sql.SQL(query).format(sql.Identifier(DEFAULT)))
        return [moment for (moment,) in cursor.fetchall()]


def _make(start: datetime) -> None:
    """Make one partition and move what waits for it, in one transaction."""
    names = {
        "table": sql.Identifier(TABLE),
        "waiting": sql.Identifier(DEFAULT),
        "name": sql.Identifier(f"{_PREFIX}{start:%Y%m%d}"),
        "start": sql.Literal(start),
        "end": sql.Literal(start + timedelta(weeks=1)),
    }
    steps = (
        "SET LOCAL lock_timeout = {timeout}",
        "LOCK TABLE {waiting} IN ACCESS EXCLUSIVE MODE",
        "CREATE TABLE {name} (LIKE {table} INCLUDING ALL)",
        """
        WITH moved AS (
            DELETE FROM {waiting}
            WHERE attempt_created_at >= {start} AND attempt_created_at < {end} RETURNING *
        )
        INSERT INTO {name} SELECT * FROM moved
        """,
        "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})",
    )
    with transaction.atomic(), connection.cursor() as cursor:
        for step in steps:
            cursor.execute(
                sql.SQL(step).format(timeout=sql.Literal(f"{LOCK_TIMEOUT_MS}ms"), **names)
            )


def drop_partition(partition: Partition) -> None:
    """Remove a week's events at once, whatever their number."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{LOCK_TIMEOUT_MS}ms"))
        )
        cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))
