"""What a run of a schedule does: it hands over, looks how far things are, and ends."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from rootbound_backend import queueing
from rootbound_backend.announce import announce_project
from rootbound_backend.apps.attempts.handover import MAX_TRIES, back_off_s
from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt
from rootbound_backend.apps.attempts.services import cancel_attempt, create_attempt
from rootbound_backend.apps.local_access.decompositions import create_decomposition
from rootbound_backend.apps.local_access.models import DecompositionStatus
from rootbound_backend.apps.local_access.selectors import agent_folders
from rootbound_backend.apps.schedules.models import (
    LIVE_RUN_STATUSES,
    Notice,
    ScheduleKind,
    ScheduleRun,
    ScheduleRunStatus,
)
from rootbound_backend.apps.tasks.models import Task, TaskStatus
from rootbound_backend.apps.tasks.selectors import open_dependencies
from rootbound_backend.lda_client import LdaPlace, LdaRefusedError, LdaUnreachableError, lda_request
from rootbound_backend.problems import Problem
from rootbound_backend.tokens import issue_api_token

__all__ = ["cancel_run", "end_run", "place_of", "stop_batch", "tend_run", "tend_runs"]

logger = logging.getLogger(__name__)

CLAIM_S = 60
TOKEN_TTL_S = 24 * 3600
"""Life of the token that a batch gets, in seconds; a batch may not take longer."""

MAX_LAUNCHES = 3
"""How often a batch that was cut off is begun, which then goes on where it was."""


def tend_runs() -> int:
    """Move every live run on; return how many there are."""
    live = ScheduleRun.objects.filter(status__in=LIVE_RUN_STATUSES).order_by("created_at")
    ids = list(live.values_list("pk", flat=True))
    for pk in ids:
        try:
            tend_run(pk)
        except Exception:  # one bad run must not stop the others
            logger.exception("The scheduled run %s cannot be tended", pk)
    return len(ids)


def tend_run(run_id: uuid.UUID) -> None:
    """Start a waiting run whose turn it is, or look how far a started one is."""
    now = timezone.now()
    claimed = ScheduleRun.objects.filter(
        Q(claimed_until__isnull=True) | Q(claimed_until__lt=now),
        Q(next_try_at__isnull=True) | Q(next_try_at__lte=now),
        pk=run_id,
        status__in=LIVE_RUN_STATUSES,
    ).update(claimed_until=now + timedelta(seconds=CLAIM_S))
    if not claimed:
        return
    run = _with_schedule().get(pk=run_id)
    try:
        if run.status == ScheduleRunStatus.WAITING:
            _start(run)
        else:
            _look(run)
    except LdaUnreachableError as error:
        _not_reached(run, error)
    except Problem as problem:
        _end(run, ScheduleRunStatus.FAILED, problem.detail)
    finally:
        ScheduleRun.objects.filter(pk=run_id).update(claimed_until=None)


def cancel_run(run: ScheduleRun) -> ScheduleRun:
    """End a live run; what it started is cancelled too.

    Raises
    ------
    Problem
        409 ``not-live``.
    """
    if not _end(run, ScheduleRunStatus.CANCELLED, "Cancelled."):
        raise Problem(status=409, code="not-live", detail="This run has ended already.")
    run.refresh_from_db()
    return run


def _with_schedule() -> Any:
    return ScheduleRun.objects.select_related(
        "schedule", "schedule__owner", "schedule__project", "decomposition"
    )


def _start(run: ScheduleRun) -> None:
    schedule = run.schedule
    earlier = ScheduleRun.objects.filter(schedule=schedule, status=ScheduleRunStatus.RUNNING)
    if earlier.exists():
        return  # it waits its turn
    if schedule.kind == ScheduleKind.BATCH:
        _launch(run)
        if not _mark_running(run):
            stop_batch(run)  # cancelled meanwhile
        return
    with transaction.atomic():
        if not _mark_running(run):
            return
        run.decomposition = create_decomposition(
            user=schedule.owner,
            project_id=schedule.project_id,
            prompt=schedule.prompt,
            auto_approve=True,
        )
        run.save(update_fields=["decomposition"])


def _mark_running(run: ScheduleRun) -> bool:
    changed = ScheduleRun.objects.filter(pk=run.pk, status=ScheduleRunStatus.WAITING).update(
        status=ScheduleRunStatus.RUNNING, started_at=timezone.now(), tries=0, next_try_at=None
    )
    return bool(changed)


def place_of(run: ScheduleRun) -> LdaPlace:
    """Return whose LDA executes the notebook of a run, and the notebook's path there."""
    return {"user_id": run.schedule.owner_id, "path": run.schedule.notebook}


def _launch(run: ScheduleRun) -> None:
    """Ask the LDA to execute the notebook; asking again for the same run changes nothing."""
    schedule = run.schedule
    parameters = dict(schedule.parameters)
    if schedule.prompt:
        parameters.setdefault("prompt", schedule.prompt)
    # As granted now: a folder may have been opened to agents since the schedule was made.
    folders, repositories = agent_folders(user_id=schedule.owner_id)
    lda_request(
        "POST",
        "/batches",
        **place_of(run),
        body={
            "batch_id": str(run.pk),
            "launch": run.launches + 1,
            "notebook": schedule.notebook,
            "agent_folders": folders,
            "repositories": repositories,
            "parameters": parameters,
            "max_parallel": schedule.max_parallel,
            "budget": schedule.budget,
            "url": settings.BACKEND_URL,
            "token": issue_api_token(username=schedule.owner.username, ttl_s=TOKEN_TTL_S),
        },
        timeout_s=30,
    )
    ScheduleRun.objects.filter(pk=run.pk).update(launches=run.launches + 1)


def _look(run: ScheduleRun) -> None:
    if run.schedule.kind == ScheduleKind.BATCH:
        _look_at_batch(run)
    else:
        _look_at_plan(run)
    ScheduleRun.objects.filter(pk=run.pk).update(tries=0, next_try_at=None)


def _look_at_batch(run: ScheduleRun) -> None:
    try:
        state = lda_request("GET", f"/batches/{run.pk}", **place_of(run))
    except LdaRefusedError as refusal:
        if refusal.status != 404:
            raise
        state = {"state": "LOST", "has_report": False}
    if state["state"] == "RUNNING":
        return
    ScheduleRun.objects.filter(pk=run.pk).update(
        has_report=bool(state["has_report"]), exit_code=state.get("exit_code")
    )
    if state["state"] == "LOST":
        if run.launches < MAX_LAUNCHES:
            _launch(run)
        else:
            _end(run, ScheduleRunStatus.FAILED, "The batch was cut off too often; see its report.")
    elif state["exit_code"] == 0:
        _end(run, ScheduleRunStatus.SUCCESS, "")
    else:
        said = str(state.get("message") or "").strip()
        _end(run, ScheduleRunStatus.FAILED, said or f"It ended with code {state['exit_code']}.")


def _look_at_plan(run: ScheduleRun) -> None:
    plan = run.decomposition
    if plan is None:
        _end(run, ScheduleRunStatus.FAILED, "Its plan was deleted.")
        return
    if plan.status == DecompositionStatus.FAILED:
        _end(run, ScheduleRunStatus.FAILED, plan.failure_message or "The plan failed.")
        return
    if plan.status != DecompositionStatus.APPROVED:
        return
    tasks = list(
        Task.objects.filter(pk__in=plan.tasks_created).select_related("project", "project__owner")
    )
    refusals = [text for task in tasks if (text := _start_task(task))]
    if Attempt.objects.filter(task__in=tasks, status__in=LIVE_STATUSES).exists():
        return
    failed = [
        task.title
        for task in Task.objects.filter(pk__in=plan.tasks_created, status=TaskStatus.TODO)
        if not open_dependencies(task)
    ]
    if not failed and not refusals:
        _end(run, ScheduleRunStatus.SUCCESS, "")
        return
    said = refusals[0] if refusals else "no attempt passed: " + ", ".join(failed)
    _end(run, ScheduleRunStatus.FAILED, f"Not everything was done: {said}")


def _start_task(task: Task) -> str:
    """Start a task of the plan that nobody has tried yet; return why it cannot be, or ""."""
    untried = task.status == TaskStatus.TODO and not Attempt.objects.filter(task=task).exists()
    if not untried or open_dependencies(task):
        return ""
    try:
        create_attempt(user=task.project.owner, task_id=task.pk)
    except Problem as problem:
        return problem.detail
    return ""


def _not_reached(run: ScheduleRun, error: LdaUnreachableError) -> None:
    tries = run.tries + 1
    if tries >= MAX_TRIES:
        _end(run, ScheduleRunStatus.FAILED, error.detail)
        return
    wait = back_off_s(tries)
    ScheduleRun.objects.filter(pk=run.pk).update(
        tries=tries, next_try_at=timezone.now() + timedelta(seconds=wait)
    )


def _end(run: ScheduleRun, status: str, message: str) -> bool:
    with transaction.atomic():
        locked = (
            ScheduleRun.objects.select_for_update(of=("self",))
            .select_related("schedule", "decomposition")
            .filter(pk=run.pk, status__in=LIVE_RUN_STATUSES)
            .first()
        )
        if locked is None:
            return False
        end_run(locked, status, message)
    return True


def end_run(run: ScheduleRun, status: str, message: str) -> None:
    """End a locked live run, stop what it left at work, and tell of a failure."""
    schedule = run.schedule
    run.status, run.message, run.ended_at = status, message, timezone.now()
    run.save(update_fields=["status", "message", "ended_at"])
    if status == ScheduleRunStatus.CANCELLED:
        _stop_work(run)
    if status == ScheduleRunStatus.FAILED:
        Notice.objects.create(
            owner_id=schedule.owner_id,
            project_id=schedule.project_id,
            schedule_run=run,
            text=f"The schedule “{schedule.name}” failed: {message}",
        )
    waiting = ScheduleRun.objects.filter(schedule=schedule, status=ScheduleRunStatus.WAITING)
    for pk in waiting.values_list("pk", flat=True):
        queueing.enqueue_on_commit(queueing.TEND_SCHEDULE_RUN, pk)
    announce_project(schedule.project_id)


def _stop_work(run: ScheduleRun) -> None:
    if run.schedule.kind == ScheduleKind.BATCH:
        queueing.enqueue_on_commit(queueing.STOP_BATCH, run.pk)
        return
    if run.decomposition is None:
        return
    live = Attempt.objects.filter(
        task_id__in=run.decomposition.tasks_created, status__in=LIVE_STATUSES
    )
    for pk in list(live.values_list("pk", flat=True)):
        cancel_attempt(user=run.schedule.owner, attempt_id=pk)


def stop_batch(run: ScheduleRun) -> None:
    """Have the LDA end a batch; one that it does not know has ended."""
    try:
        lda_request("POST", f"/batches/{run.pk}/cancel", **place_of(run))
    except LdaRefusedError:
        return
