"""Reads of schedules."""

from __future__ import annotations

import uuid

from django.db.models import Prefetch, QuerySet

from rootbound_backend.apps.schedules.models import Notice, Schedule, ScheduleRun
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found

__all__ = [
    "get_run",
    "get_schedule",
    "last_run_of",
    "notices_behind",
    "notices_of",
    "runs_of",
    "schedules_of",
    "with_last_run",
]


def schedules_of(user: User) -> QuerySet[Schedule]:
    """Return the schedules of one user."""
    return Schedule.objects.filter(owner=user)


def get_schedule(*, user: User, schedule_id: uuid.UUID) -> Schedule:
    """Return one schedule of the user's.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    found = schedules_of(user).filter(pk=schedule_id).first()
    if found is None:
        raise not_found("schedule")
    return found


def runs_of(schedule: Schedule) -> QuerySet[ScheduleRun]:
    """Return the history of one schedule."""
    return ScheduleRun.objects.filter(schedule=schedule).select_related("decomposition")


def with_last_run(schedules: QuerySet[Schedule]) -> QuerySet[Schedule]:
    """Fetch the newest run of each along with them, for :func:`last_run_of`."""
    newest = ScheduleRun.objects.order_by("-created_at", "-id")[:1]
    return schedules.prefetch_related(Prefetch("runs", newest, to_attr="newest_runs"))


def last_run_of(schedule: Schedule) -> ScheduleRun | None:
    """Return the newest run, or None when it never ran."""
    fetched: list[ScheduleRun] | None = getattr(schedule, "newest_runs", None)
    if fetched is not None:
        return fetched[0] if fetched else None
    return runs_of(schedule).order_by("-created_at", "-id").first()


def get_run(*, user: User, schedule_id: uuid.UUID, run_id: uuid.UUID) -> ScheduleRun:
    """Return one run of a schedule of the user's.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    run = runs_of(get_schedule(user=user, schedule_id=schedule_id)).filter(pk=run_id).first()
    if run is None:
        raise not_found("run of this schedule")
    return run


def notices_of(user: User) -> QuerySet[Notice]:
    """Return the notices of one user."""
    return Notice.objects.filter(owner=user)


def notices_behind(project_id: uuid.UUID, last: int | None, *, at_most: int) -> list[Notice]:
    """Return a project's newest notices behind a number, oldest first; None: the latest alone."""
    rows = Notice.objects.filter(project_id=project_id).select_related("schedule_run")
    if last is not None:
        rows = rows.filter(pk__gt=last)
    return list(rows.order_by("-pk")[: 1 if last is None else at_most])[::-1]
