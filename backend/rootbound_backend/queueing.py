"""Handing work to Celery once the running transaction has committed."""

from __future__ import annotations

import uuid

from django.db import transaction

from rootbound_backend.celery import app

__all__ = [
    "CANCEL_RUN",
    "DISCARD_DELETED_RUN",
    "DISCARD_RUN",
    "START_ATTEMPT",
    "START_DEPENDANTS",
    "START_PLAN",
    "STOP_BATCH",
    "SWEEP_QUEUED",
    "TEND_SCHEDULE_RUN",
    "enqueue_on_commit",
]

START_ATTEMPT = "attempts.tasks.start_attempt_task"
SWEEP_QUEUED = "attempts.tasks.sweep_queued_attempts_task"
CANCEL_RUN = "attempts.tasks.cancel_run_task"
DISCARD_RUN = "attempts.tasks.discard_run_task"
DISCARD_DELETED_RUN = "attempts.tasks.discard_deleted_run_task"
START_DEPENDANTS = "attempts.tasks.start_dependants_task"
START_PLAN = "local_access.tasks.start_plan_task"
TEND_SCHEDULE_RUN = "schedules.tasks.tend_run_task"
STOP_BATCH = "schedules.tasks.stop_batch_task"


def enqueue_on_commit(name: str, *ids: uuid.UUID | str, countdown_s: float = 0) -> None:
    """Send a task after the commit; a broker that is down costs a delay, never the request.

    Parameters
    ----------
    name
        One of this module's task names.
    ids
        The task's arguments.
    countdown_s
        Delay in seconds, default none.
    """
    args = [str(value) for value in ids]
    # What must not be lost is found again by a sweep of the beat.
    transaction.on_commit(
        lambda: app.send_task(name, args=args, countdown=countdown_s or None), robust=True
    )
