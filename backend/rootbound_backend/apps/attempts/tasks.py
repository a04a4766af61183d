"""Celery tasks of attempts: short, idempotent, never touching user files."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from celery import shared_task
from django.utils import timezone

from rootbound_backend.apps.attempts import handover
from rootbound_backend.apps.attempts.disk import measure_disk, remove_orphans
from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.partitions import ensure_partitions
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.apps.attempts.retention import clear_away
from rootbound_backend.apps.tasks.autostart import start_dependants, start_ready_tasks
from rootbound_backend.lda_client import (
    LdaPlace,
    LdaRefusedError,
    LdaUnreachableError,
    lda_request,
)
from rootbound_backend.problems import Problem

__all__ = [
    "cancel_run_task",
    "discard_deleted_run_task",
    "discard_run_task",
    "reap_attempts_task",
    "start_attempt_task",
    "start_dependants_task",
    "start_ready_tasks_task",
    "sweep_queued_attempts_task",
    "tend_events_task",
]

logger = logging.getLogger(__name__)


@shared_task(name="attempts.tasks.start_attempt_task")
def start_attempt_task(attempt_id: str) -> str:
    """Hand one attempt over to the LDA; tries again later by itself when it is down."""
    return handover.hand_over_attempt(uuid.UUID(attempt_id)).value


@shared_task(name="attempts.tasks.sweep_queued_attempts_task")
def sweep_queued_attempts_task() -> int:
    """Hand over queued attempts whose message got lost or who waited for room."""
    return handover.sweep_queued_attempts()


@shared_task(name="attempts.tasks.reap_attempts_task")
def reap_attempts_task() -> int:
    """Fail silent runs that the LDA does not have."""
    return handover.reap_attempts()


@shared_task(name="attempts.tasks.start_dependants_task")
def start_dependants_task(task_id: str) -> int:
    """Start what waited for a task that is now done."""
    return start_dependants(task_id=uuid.UUID(task_id))


@shared_task(name="attempts.tasks.start_ready_tasks_task")
def start_ready_tasks_task() -> int:
    """Start ready tasks whose start message got lost."""
    return start_ready_tasks()


@shared_task(name="attempts.tasks.tend_events_task")
def tend_events_task() -> int:
    """Make the coming weeks' partitions, measure the disk, and remove what no rule keeps."""
    now = timezone.now()
    ensure_partitions(now)
    measure_disk(now)
    remove_orphans()
    return clear_away(now)


@shared_task(name="attempts.tasks.cancel_run_task", bind=True, max_retries=20)
def cancel_run_task(self: Any, attempt_id: str) -> None:
    """Have the LDA kill the run of a cancelled attempt."""
    _tell(self, attempt_id, "cancel")


@shared_task(name="attempts.tasks.discard_run_task", bind=True, max_retries=20)
def discard_run_task(self: Any, attempt_id: str) -> None:
    """Have the LDA remove the worktree of a rejected attempt; the branch is kept."""
    _tell(self, attempt_id, "discard")


@shared_task(name="attempts.tasks.discard_deleted_run_task", bind=True, max_retries=20)
def discard_deleted_run_task(self: Any, attempt_id: str, user_id: str, repo_path: str) -> None:
    """Have the LDA remove the worktree of an attempt that was deleted with its task."""
    place: LdaPlace = {"user_id": uuid.UUID(user_id), "path": repo_path}
    try:
        lda_request("POST", f"/runs/{attempt_id}/discard", **place, body={}, timeout_s=30)
    except Problem as problem:
        # Its processes may still be ending; a run that is not known (any more) left nothing.
        if problem.code == "run-live" or isinstance(problem, LdaUnreachableError):
            wait = handover.back_off_s(self.request.retries + 1)
            raise self.retry(exc=problem, countdown=wait) from problem
        logger.info("Attempt %s leaves its worktree: %s", attempt_id, problem.detail)


def _tell(task: Any, attempt_id: str, what: str) -> None:
    attempt = Attempt.objects.select_related("task__project").filter(pk=attempt_id).first()
    if attempt is None:
        return
    target = f"/runs/{attempt_id}/{what}"
    try:
        lda_request("POST", target, **place_of(attempt), body={}, timeout_s=30)
    except LdaUnreachableError as error:
        raise task.retry(
            exc=error, countdown=handover.back_off_s(task.request.retries + 1)
        ) from error
    except LdaRefusedError as refusal:
        # Nothing to kill or remove: the LDA does not have the run (any more).
        logger.info("The LDA answered %s to %s: %s", refusal.status, target, refusal.detail)
