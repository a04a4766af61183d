"""Reads of attempts, events and gates."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from django.db.models import F, Prefetch, QuerySet

from rootbound_backend.apps.attempts.models import (
    TERMINAL_STATUSES,
    Attempt,
    AttemptEvent,
    Gate,
)
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found

__all__ = [
    "EventPage",
    "attempt_events",
    "attempts_of_task",
    "get_attempt",
    "latest_attempts",
    "read_stream",
]

MAX_PAGE = 1000


def _with_details(attempts: QuerySet[Attempt]) -> QuerySet[Attempt]:
    return attempts.annotate(project_id=F("task__project_id")).prefetch_related(
        Prefetch("gates", queryset=Gate.objects.order_by("id"))
    )


def get_attempt(*, user: User, attempt_id: uuid.UUID) -> Attempt:
    """Return one attempt of the user's with its project's id and gates.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    attempt = (
        _with_details(Attempt.objects.filter(task__project__owner=user))
        .filter(pk=attempt_id)
        .first()
    )
    if attempt is None:
        raise not_found("attempt")
    return attempt


def attempts_of_task(*, user: User, task_id: uuid.UUID) -> QuerySet[Attempt]:
    """Return the attempts of one task of the user's."""
    return _with_details(Attempt.objects.filter(task_id=task_id, task__project__owner=user))


def latest_attempts(task_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Attempt]:
    """Return the newest attempt of each task, in two queries for any number of tasks."""
    newest = (
        _with_details(Attempt.objects.filter(task_id__in=list(task_ids)))
        .order_by("task_id", "-number")
        .distinct("task_id")
    )
    return {attempt.task_id: attempt for attempt in newest}


def attempt_events(*, attempt_id: uuid.UUID, after: int, limit: int) -> list[AttemptEvent]:
    """Return the events behind `after` in order, at most `limit` (and at most 1000)."""
    return list(
        AttemptEvent.objects.filter(attempt_id=attempt_id, seq__gt=after).order_by("seq")[
            : min(limit, MAX_PAGE)
        ]
    )


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some consecutive events, each already encoded, and where the attempt stands.

    Attributes
    ----------
    status, last_seq
        Of the attempt, read before the events.
    events
        Pairs of seq and encoded JSON object.
    """

    status: str
    last_seq: int
    events: list[tuple[int, str]]

    @property
    def is_terminal(self) -> bool:
        """Whether the attempt has ended."""
        return self.status in TERMINAL_STATUSES


def read_stream(attempt_id: uuid.UUID, after: int, limit: int = MAX_PAGE) -> EventPage | None:
    """Return the next events behind `after`, or None when the attempt is gone."""
    facts = Attempt.objects.filter(pk=attempt_id).values_list("status", "last_seq").first()
    if facts is None:
        return None
    status, last_seq = facts
    events: list[tuple[int, str]] = []
    if last_seq > after:
        rows = (
            AttemptEvent.objects.filter(attempt_id=attempt_id, seq__gt=after, seq__lte=last_seq)
            .order_by("seq")
            .values("seq", "timestamp", "type", "payload")[:limit]
        )
        events = [(row["seq"], msgspec.json.encode(row).decode()) for row in rows]
    return EventPage(status=status, last_seq=last_seq, events=events)
