"""Reads of the stored stream: already encoded, bounded in rows and bytes, from one partition."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from rootbound_backend.apps.attempts.models import TERMINAL_STATUSES, Attempt

__all__ = [
    "MAX_PAGE",
    "PAGE_CHARS",
    "EventFilter",
    "EventPage",
    "list_events",
    "page_of",
    "read_stream",
]

MAX_PAGE = 1000
PAGE_CHARS = 1024 * 1024
"""Encoded characters after which a page ends; a single event is always let through."""

SEARCH_BYTES = 10 * 1024 * 1024
"""How much of the stream one search reads, about; its answer says where to go on."""

_SEARCH_ROWS = (200, 10_000)
_HIGHEST = 2**62

# An index on this would make storing 3.6 times as dear and be two thirds of the table's size,
# so a search reads the attempt's own rows, which lie together; see docs/stream.md.
VECTOR = "to_tsvector('simple', payload)"

_PLAIN_WORDS = re.compile(r"[A-Za-z0-9]+(?: +[A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some consecutive events, each already encoded, and where the attempt stands.

    Attributes
    ----------
    status, last_seq, first_seq
        Of the attempt, read before the events.
    events
        Pairs of seq and encoded JSON object.
    created_at
        Of the attempt, which tells the partition.
    """

    status: str
    last_seq: int
    events: list[tuple[int, str]]
    first_seq: int
    created_at: datetime

    @property
    def is_terminal(self) -> bool:
        """Whether the attempt has ended."""
        return self.status in TERMINAL_STATUSES


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list is to hold.

    Attributes
    ----------
    after, before
        Bounds, both exclusive.
    types
        Kinds to keep; empty for all.
    query
        Words to look for, as a person types them into a search engine; "" for none.
    limit
        At most so many.
    newest
        Whether to take them from the end; they are listed oldest first all the same.
    """

    after: int = 0
    before: int | None = None
    types: Sequence[str] = ()
    query: str = ""
    limit: int = 100
    newest: bool = False


@dataclass(slots=True)
class EventList:
    """A page of a list.

    Attributes
    ----------
    events
        Pairs of seq and encoded JSON object, oldest first.
    next, previous
        The ``after`` of the page behind and the ``before`` of the page in front, if any.
    """

    events: list[tuple[int, str]] = field(default_factory=list)
    next: int | None = None
    previous: int | None = None


def page_of(rows: Sequence[tuple[Any, ...]]) -> EventPage:
    """Return the page that was just stored, from rows of the attempt's standing and an event each.

    Parameters
    ----------
    rows
        ``status``, ``last_seq``, ``first_seq`` and ``created_at`` of the attempt, then ``seq``,
        ``timestamp``, ``type`` and payload as text of the event; in order, and at least one.
    """
    status, last_seq, first_seq, created_at = rows[0][:4]
    events = [(row[4], _encoded(*row[4:])) for row in rows]
    return EventPage(status, last_seq, events, first_seq, created_at)


def read_stream(
    attempt_id: uuid.UUID, after: int, limit: int = MAX_PAGE, created_at: datetime | None = None
) -> EventPage | None:
    """Return the next events behind `after`, or None when the attempt is gone.

    Parameters
    ----------
    attempt_id, after, limit
        Which events.
    created_at
        Of the attempt, where it is known from an earlier page: it never changes, and with it one
        query does instead of two. The partition must be known when the query is planned.
    """
    if created_at is None:
        facts = (
            Attempt.objects.filter(pk=attempt_id)
            .values_list("status", "last_seq", "first_seq", "created_at")
            .first()
        )
        if facts is None:
            return None
        status, last_seq, first_seq, created_at = facts
        if not limit or last_seq <= after:
            return EventPage(status, last_seq, [], first_seq, created_at)
    wanted = EventFilter(after=after, before=_HIGHEST, limit=limit)
    inner, parameters = _query(attempt_id, created_at, wanted)
    with connection.cursor() as cursor:
        cursor.execute(f"{_STANDING} LEFT JOIN ({inner}) events ON true {_OF_ATTEMPT}", parameters)
        rows = cursor.fetchall()
    if not rows:
        return None
    status, last_seq, first_seq = rows[0][:3]
    events = [(row[3], _encoded(*row[3:])) for row in rows if row[3] is not None]
    return EventPage(status, last_seq, events, first_seq, created_at)


def list_events(attempt: Attempt, wanted: EventFilter) -> EventList:
    """Return a page of an attempt's stored events.

    A search reads about `SEARCH_BYTES` at a time, so a page may hold fewer than `limit`, even
    none, and still have a `next` or `previous`.
    """
    low, high = wanted.after, min(wanted.before or attempt.last_seq + 1, attempt.last_seq + 1)
    if wanted.query:
        reach = _search_reach(attempt)
        if wanted.newest:
            low = max(low, high - 1 - reach)
        else:
            low = max(low, attempt.first_seq - 1)
            high = min(high, low + reach + 1)
    bounded = EventFilter(
        low, high, wanted.types, wanted.query, min(wanted.limit, MAX_PAGE) + 1, wanted.newest
    )
    rows = _rows(attempt.pk, attempt.created_at, bounded)
    full = len(rows) >= bounded.limit or _chars(rows) >= PAGE_CHARS
    rows = rows[-(bounded.limit - 1) :] if wanted.newest else rows[: bounded.limit - 1]
    page = EventList(rows)
    if wanted.newest:
        floor = rows[0][0] if full and rows else low + 1
        page.previous = floor if floor > max(wanted.after + 1, attempt.first_seq) else None
    else:
        reached = rows[-1][0] if full and rows else high - 1
        end = min(wanted.before or attempt.last_seq + 1, attempt.last_seq + 1)
        page.next = reached if low <= reached < end - 1 else None
    return page


def _search_reach(attempt: Attempt) -> int:
    """Return how many of an attempt's events one search reads."""
    average = attempt.event_bytes // max(1, attempt.last_seq) + 1
    least, most = _SEARCH_ROWS
    return max(least, min(most, SEARCH_BYTES // average))


def _chars(rows: list[tuple[int, str]]) -> int:
    return sum(len(text) for _, text in rows)


_SELECT = """
SELECT seq, "timestamp", type, body FROM (
    SELECT seq, "timestamp", type, body,
        sum(length(body)) OVER (ORDER BY seq {direction} ROWS UNBOUNDED PRECEDING)
            - length(body) AS before
    FROM (
        SELECT seq, "timestamp", type, payload::text AS body
        FROM attempts_attemptevent
        WHERE attempt_id = %(id)s AND attempt_created_at = %(created)s
            AND seq > %(after)s AND seq < %(before)s {filters}
        ORDER BY seq {direction} LIMIT %(limit)s
    ) rows
) sized
WHERE before < %(chars)s ORDER BY seq {direction}
"""


_STANDING = """
SELECT attempt.status, attempt.last_seq, attempt.first_seq,
    events.seq, events."timestamp", events.type, events.body
FROM attempts_attempt attempt
"""
_OF_ATTEMPT = "WHERE attempt.id = %(id)s ORDER BY events.seq"


def _query(
    attempt_id: uuid.UUID, created_at: datetime, wanted: EventFilter
) -> tuple[str, dict[str, Any]]:
    """Return the one query behind all lists, and its parameters."""
    facts: dict[str, Any] = {
        "id": attempt_id, "created": created_at, "after": wanted.after,
        "before": _HIGHEST if wanted.before is None else wanted.before,
        "limit": wanted.limit, "chars": PAGE_CHARS,
    }  # fmt: skip
    filters = ""
    if wanted.types:
        filters += " AND type = ANY(%(types)s)"
        facts["types"] = list(wanted.types)
    if wanted.query:
        facts["query"] = wanted.query
        if _PLAIN_WORDS.fullmatch(wanted.query) and "or" not in wanted.query.lower().split():
            # A word that matches is in the text as it is; looking for it first is far cheaper.
            filters += " AND lower(payload::text) LIKE ALL(%(words)s)"
            facts["words"] = [f"%{word}%" for word in wanted.query.lower().split()]
        filters += f" AND {VECTOR} @@ websearch_to_tsquery('simple', %(query)s)"
    # Only constants of this module are put into the text.
    direction = "DESC" if wanted.newest else "ASC"
    return _SELECT.format(direction=direction, filters=filters), facts


def _rows(
    attempt_id: uuid.UUID, created_at: datetime, wanted: EventFilter
) -> list[tuple[int, str]]:
    with connection.cursor() as cursor:
        cursor.execute(*_query(attempt_id, created_at, wanted))
        rows = cursor.fetchall()
    if wanted.newest:
        rows.reverse()
    return [(row[0], _encoded(*row)) for row in rows]


def _encoded(seq: int, moment: datetime, kind: str, body: str) -> str:
    """Put an event together without decoding its payload."""
    stamp = moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    return f'{{"seq":{seq},"timestamp":"{stamp}Z","type":"{kind}","payload":{body}}}'
