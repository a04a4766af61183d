"""Writes on schedules, and the decision what is due."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from django.db import transaction
from django.utils import timezone

from rootbound_backend import queueing
from rootbound_backend.apps.local_access.selectors import agent_folders, folder_open_to_agents
from rootbound_backend.apps.projects.selectors import get_project
from rootbound_backend.apps.schedules.crontab import (
    CrontabError,
    check_timezone,
    next_fire,
    next_fires,
    normalised,
)
from rootbound_backend.apps.schedules.models import (
    LIVE_RUN_STATUSES,
    Overlap,
    Schedule,
    ScheduleKind,
    ScheduleRun,
    ScheduleRunStatus,
    Trigger,
)
from rootbound_backend.apps.schedules.running import end_run
from rootbound_backend.apps.schedules.selectors import get_schedule, notices_of
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import InvalidInput, Problem, not_found

__all__ = [
    "create_schedule",
    "delete_schedule",
    "fire_due",
    "preview",
    "read_notice",
    "run_now",
    "set_enabled",
    "update_schedule",
]

PREVIEWED = 3
PUNCTUAL_S = 120
"""A run that begins later than this after its instant counts as missed, in seconds."""


def create_schedule(*, user: User, fields: dict[str, Any]) -> Schedule:
    """Store a schedule; it is due for the first time after now.

    Parameters
    ----------
    user
        Owner.
    fields
        Validated fields with ``project_id``.

    Raises
    ------
    Problem
        404 for a project that is not the user's; 400 for a crontab that cannot be read or never
        fires, an unknown time zone, or a kind without what it needs.
    """
    values = dict(fields)
    project = get_project(user=user, project_id=values.pop("project_id"))
    # Fetched with counts; the row itself is what is referred to.
    schedule = Schedule(owner=user, project_id=project.pk, **values)
    _check(schedule)
    _plan_next(schedule)
    schedule.save()
    return schedule


def update_schedule(*, user: User, schedule_id: uuid.UUID, fields: dict[str, Any]) -> Schedule:
    """Change the given fields; a new crontab counts from now on.

    Raises
    ------
    Problem
        404; 400 as for :func:`create_schedule`.
    """
    values = dict(fields)
    with transaction.atomic():
        schedule = _locked(user, schedule_id)
        if "project_id" in values:
            schedule.project_id = get_project(user=user, project_id=values.pop("project_id")).pk
        for name, value in values.items():
            setattr(schedule, name, value)
        _check(schedule)
        if {"crontab", "timezone", "is_enabled"} & values.keys():
            _plan_next(schedule)
        schedule.save()
    return schedule


def set_enabled(*, user: User, schedule_id: uuid.UUID, enabled: bool) -> Schedule:
    """Pause or resume; what would have been due during the pause is not made up for.

    Raises
    ------
    Problem
        404.
    """
    with transaction.atomic():
        schedule = _locked(user, schedule_id)
        if schedule.is_enabled != enabled:
            schedule.is_enabled = enabled
            _plan_next(schedule)
            schedule.save()
    return schedule


def delete_schedule(*, user: User, schedule_id: uuid.UUID) -> None:
    """Delete a schedule with its history.

    Raises
    ------
    Problem
        404; 409 ``schedule-live`` while a run of it works.
    """
    with transaction.atomic():
        schedule = _locked(user, schedule_id)
        if _live(schedule):
            raise Problem(
                status=409,
                code="schedule-live",
                detail="A run of this schedule is at work; wait for it or cancel it first.",
            )
        schedule.delete()


def run_now(*, user: User, schedule_id: uuid.UUID) -> ScheduleRun:
    """Start a run by hand, also of a paused schedule; the overlap policy holds.

    Raises
    ------
    Problem
        404; 409 ``schedule-live`` when one works already and the policy is SKIP, or one waits.
    """
    with transaction.atomic():
        schedule = _locked(user, schedule_id)
        run = _begin(schedule, Trigger.MANUAL, timezone.now())
        if run.status != ScheduleRunStatus.SKIPPED:
            return run
        transaction.set_rollback(True)
    raise Problem(status=409, code="schedule-live", detail=run.message)


def fire_due(now: datetime) -> int:
    """Start what is due at an instant; several missed times of a schedule start it once.

    Returns
    -------
    int
        How many schedules were due.
    """
    due = Schedule.objects.filter(next_run_at__lte=now).order_by("next_run_at")
    return sum(_fire(pk, now) for pk in list(due.values_list("pk", flat=True)))


def _fire(schedule_id: uuid.UUID, now: datetime) -> bool:
    with transaction.atomic():
        schedule = (
            Schedule.objects.select_for_update(skip_locked=True)
            .filter(pk=schedule_id, next_run_at__lte=now)
            .first()
        )
        if schedule is None or schedule.next_run_at is None:
            return False
        due_at = schedule.next_run_at
        late = now - due_at > timedelta(seconds=PUNCTUAL_S)
        schedule.next_run_at = next_fire(schedule.crontab, schedule.timezone, now)
        schedule.save(update_fields=["next_run_at"])
        _begin(schedule, Trigger.MISSED if late else Trigger.CRON, due_at)
    return True


def _begin(schedule: Schedule, trigger: str, due_at: datetime) -> ScheduleRun:
    """Record a run of a locked schedule as its overlap policy has it."""
    live = {run.status: run for run in _live(schedule)}
    run = ScheduleRun(schedule=schedule, trigger=trigger, due_at=due_at)
    if live and schedule.overlap == Overlap.REPLACE:
        for other in live.values():
            end_run(other, ScheduleRunStatus.CANCELLED, "A newer run took its place.")
    elif live and (schedule.overlap == Overlap.SKIP or ScheduleRunStatus.WAITING in live):
        run.status = ScheduleRunStatus.SKIPPED
        run.ended_at = timezone.now()
        run.message = "The run before was still at work" + (
            ", and another one waits." if schedule.overlap == Overlap.QUEUE else "."
        )
    run.save()
    if run.status == ScheduleRunStatus.WAITING:
        queueing.enqueue_on_commit(queueing.TEND_SCHEDULE_RUN, run.pk)
    return run


def read_notice(*, user: User, notice_id: int) -> None:
    """Mark a notice as read.

    Raises
    ------
    Problem
        404.
    """
    notice = notices_of(user).filter(pk=notice_id).first()
    if notice is None:
        raise not_found("notice")
    if notice.read_at is None:
        notice.read_at = timezone.now()
        notice.save(update_fields=["read_at"])


def _locked(user: User, schedule_id: uuid.UUID) -> Schedule:
    get_schedule(user=user, schedule_id=schedule_id)
    found = Schedule.objects.select_for_update().filter(pk=schedule_id, owner=user).first()
    if found is None:
        raise not_found("schedule")
    return found


def _live(schedule: Schedule) -> list[ScheduleRun]:
    runs = ScheduleRun.objects.select_for_update().filter(
        schedule=schedule, status__in=LIVE_RUN_STATUSES
    )
    return list(runs.order_by("created_at"))


def _plan_next(schedule: Schedule) -> None:
    schedule.next_run_at = (
        next_fire(schedule.crontab, schedule.timezone, timezone.now())
        if schedule.is_enabled
        else None
    )


def preview(*, crontab: str, zone: str) -> tuple[str, list[datetime]]:
    """Return a crontab as it is stored, and when it fires next.

    Raises
    ------
    Problem
        400 for a crontab that cannot be read or never fires, or an unknown time zone.
    """
    crontab = _check_times(crontab, zone)
    return crontab, next_fires(crontab, zone, timezone.now(), count=PREVIEWED)


def _check_times(crontab: str, zone: str) -> str:
    try:
        crontab = normalised(crontab)
    except CrontabError as error:
        raise InvalidInput(field="crontab", detail=str(error)) from error
    try:
        check_timezone(zone)
    except CrontabError as error:
        raise InvalidInput(field="timezone", detail=str(error)) from error
    return crontab


def _check(schedule: Schedule) -> None:
    schedule.crontab = _check_times(schedule.crontab, schedule.timezone)
    if schedule.kind == ScheduleKind.PLAN:
        if not schedule.prompt.strip():
            raise InvalidInput(
                field="prompt", detail="A schedule of kind PLAN needs a prompt: what is to be done."
            )
        if schedule.notebook or schedule.parameters:
            raise InvalidInput(
                field="notebook",
                detail="Only a schedule of kind BATCH has a notebook and parameters.",
            )
        return
    _check_notebook(schedule)


def _check_notebook(schedule: Schedule) -> None:
    path = PurePosixPath(schedule.notebook)
    if not path.is_absolute() or path.suffix != ".ipynb" or ".." in path.parts:
        raise InvalidInput(
            field="notebook",
            detail="A schedule of kind BATCH needs the absolute path of a notebook (.ipynb).",
        )
    # It merges in the user's name: an agent that could write it would approve its own work.
    # Said early here; the LDA, which sees where links lead, has the last word at each launch.
    folder = folder_open_to_agents(path, *agent_folders(user_id=schedule.owner_id))
    if folder is not None:
        raise InvalidInput(
            field="notebook",
            detail=f"Agents may write in {folder}, and a batch notebook merges in your name; "
            "move it out of the granted folders, or into the repository of a project.",
        )
