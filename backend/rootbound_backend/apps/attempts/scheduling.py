"""Which queued attempt starts next: by priority, within limits, with a reason for every wait."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.fields.json import KT
from django.utils import timezone

from rootbound_backend.apps.attempts.models import (
    LIVE_STATUSES,
    Attempt,
    AttemptStatus,
    EventType,
)
from rootbound_backend.apps.attempts.transitions import append_event, lock_attempt, touch_task
from rootbound_backend.apps.local_access.machine_selectors import Owners
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.lda_client import is_outward
from rootbound_backend.statements import Prepared

__all__ = ["Place", "note_places", "queue"]

_FACTS = (
    "pk", "task_id", "project_id", "owner_id", "repo_path", "config", "role", "provider",
    "waiting_for", "queue_place", "next_try_at", "status", "claimed_until",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A queued attempt's place.

    Attributes
    ----------
    number
        From 1; what has the smaller number starts first, if its limits let it.
    reason
        Why it cannot start now; "" when there is room for it.
    noted
        Whether the database says the same already.
    """

    attempt_id: uuid.UUID
    task_id: uuid.UUID
    number: int
    reason: str
    noted: bool


def queue(now: datetime | None = None) -> list[Place]:
    """Return all queued attempts that nobody is handing over, the next one first.

    Those before another one in the queue keep their room: an attempt of lower priority does not
    slip in while a more important one is about to start.
    """
    now = now or timezone.now()
    load, waiting = _Load(), []
    for row in _live_rows():
        claimed = row["claimed_until"] is not None and row["claimed_until"] > now
        if row["status"] == AttemptStatus.QUEUED and not claimed:
            waiting.append(row)
        else:
            load.add(row)
    places = []
    for number, row in enumerate(waiting, start=1):
        if row["next_try_at"] is not None and row["next_try_at"] > now:
            reason = "the local desktop agent did not answer; it is asked again shortly"
        else:
            reason = load.obstacle(row)
            if not reason:
                load.add(row)
        noted = (row["waiting_for"], row["queue_place"]) == (reason, number)
        places.append(Place(row["pk"], row["task_id"], number, reason, noted))
    return places


def _live_rows() -> list[dict[str, Any]]:
    """Return what counts of every live attempt, the most urgent one first."""
    return [dict(zip(_FACTS, row, strict=True)) for row in _LIVE()]


_LIVE = Prepared(
    lambda: (
        Attempt.objects.filter(status__in=LIVE_STATUSES)
        .annotate(
            project_id=F("task__project_id"),
            owner_id=F("task__project__owner_id"),
            repo_path=F("task__project__repo_path"),
            config=F("task__project__config"),
            role=F("task__agent_role"),
            provider=KT("agent__agent_config__provider"),
        )
        .order_by("-task__priority", "created_at", "pk")
        .values_list(*_FACTS)
    )
)


class _Load:
    """What is at work, counted by everything that has a limit."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._owners = Owners() if is_outward() else None

    def _machine(self, row: dict[str, Any]) -> str:
        """Return which machine an attempt is for; with one LDA it is always the same."""
        if self._owners is None:
            return ""
        return self._owners.machine_id(row["owner_id"], row["repo_path"])

    def add(self, row: dict[str, Any]) -> None:
        """Count one attempt."""
        project = str(row["project_id"])
        role, provider = str(row["role"]), str(row["provider"])
        machine = self._machine(row)
        for key in (
            ("machine", machine), ("project", project), ("role", project, role),
            ("provider of", machine, provider),
            ("provider", project, provider),
        ):  # fmt: skip
            self._counts[key] += 1

    def obstacle(self, row: dict[str, Any]) -> str:
        """Return the limit that one more attempt would break, "" when there is none."""
        project, config = str(row["project_id"]), row["config"] or {}
        role, provider = str(row["role"]), str(row["provider"])
        machine = self._machine(row)
        limits = (
            (("machine", machine), settings.MAX_PARALLEL,
             "{n} attempts run already, as many as this machine may"),
            (("provider of", machine, provider), settings.MAX_PARALLEL_BY_PROVIDER.get(provider),
             "{n} attempts use " + provider + " already, as many as this machine may"),
            (("project", project), config.get("max_parallel"),
             "{n} attempts of this project run already (max_parallel)"),
            (("role", project, role), (config.get("max_parallel_by_role") or {}).get(role),
             "{n} attempts of the role " + role + " run already (max_parallel_by_role)"),
            (("provider", project, provider),
             (config.get("max_parallel_by_provider") or {}).get(provider),
             "{n} attempts of this project use " + provider + " already "
             "(max_parallel_by_provider)"),
        )  # fmt: skip
        for key, limit, text in limits:
            if limit is not None and self._counts[key] >= limit:
                return text.format(n=limit)
        return ""


def note_places() -> None:
    """Write places and reasons that have changed, so that boards and streams show them."""
    for place in queue():
        if not place.noted:
            _note(place)


def _note(place: Place) -> None:
    with transaction.atomic():
        attempt = lock_attempt(place.attempt_id)
        if attempt.status != AttemptStatus.QUEUED:
            return
        if place.reason and attempt.waiting_for != place.reason:
            append_event(
                attempt, EventType.LOG, {"kind": "notice", "text": f"Waiting: {place.reason}."}
            )
        attempt.waiting_for, attempt.queue_place = place.reason, place.number
        attempt.save(update_fields=["waiting_for", "queue_place", "last_seq"])
        task = Task.objects.select_for_update(no_key=True).get(pk=attempt.task_id)
        touch_task(task)
        task.save(update_fields=["revision"])
