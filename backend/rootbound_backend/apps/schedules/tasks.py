"""Celery tasks of schedules."""

from __future__ import annotations

import uuid

from celery import shared_task
from django.utils import timezone

from rootbound_backend.apps.schedules.models import ScheduleRun
from rootbound_backend.apps.schedules.running import stop_batch, tend_run, tend_runs
from rootbound_backend.apps.schedules.services import fire_due

__all__ = ["stop_batch_task", "tend_run_task", "tend_schedules_task"]


@shared_task(name="schedules.tasks.tend_schedules_task")
def tend_schedules_task() -> int:
    """Start what is due and move on what runs."""
    fire_due(timezone.now())
    return tend_runs()


@shared_task(name="schedules.tasks.tend_run_task")
def tend_run_task(run_id: str) -> None:
    """Move one run on at once."""
    tend_run(uuid.UUID(run_id))


@shared_task(
    name="schedules.tasks.stop_batch_task", autoretry_for=(Exception,), retry_backoff=2,
    max_retries=5,
)  # fmt: skip
def stop_batch_task(run_id: str) -> None:
    """Have the LDA end the batch of a cancelled run."""
    run = ScheduleRun.objects.select_related("schedule").filter(pk=run_id).first()
    if run is not None:
        stop_batch(run)
