"""The state machines of attempts and tasks: the only place where either status changes.

Lock order, everywhere: an attempt's row before its task's row.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from rootbound_backend import queueing
from rootbound_backend.announce import announce_attempt, announce_project
from rootbound_backend.apps.attempts.failures import sentence
from rootbound_backend.apps.attempts.models import (
    LIVE_STATUSES,
    TERMINAL_STATUSES,
    Attempt,
    AttemptEvent,
    AttemptStatus,
    EventType,
)
from rootbound_backend.apps.tasks.models import Task, TaskStatus
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.statements import Prepared, fetch, insert_row, update_row

__all__ = [
    "ATTEMPT_TRANSITIONS",
    "LEASE_S",
    "TASK_TRANSITIONS",
    "IllegalTransitionError",
    "append_event",
    "apply_task_transition",
    "apply_transition",
    "follow_with_task",
    "lock_attempt",
    "lock_task",
    "move_locked_attempt",
    "status_payload",
    "store_last_event",
    "touch_task",
    "touch_task_of",
]

_A = AttemptStatus
_T = TaskStatus

LEASE_S = 60
"""How long a run counts as alive after the last news of it, in seconds."""

ATTEMPT_TRANSITIONS: dict[str, frozenset[str]] = {
    _A.QUEUED: frozenset({_A.RUNNING, _A.FAILED}),
    _A.RUNNING: frozenset({_A.GATES, _A.FAILED}),
    # Back to RUNNING when a failing gate's text goes back to the agent.
    _A.GATES: frozenset({_A.RUNNING, _A.REVIEW, _A.FAILED}),
    _A.REVIEW: frozenset({_A.SUCCESS, _A.FAILED}),
    _A.SUCCESS: frozenset(),
    _A.FAILED: frozenset(),
}

TASK_TRANSITIONS: dict[str, frozenset[str]] = {
    # DONE by hand, for work that somebody did without an agent, and back.
    _T.TODO: frozenset({_T.IN_PROGRESS, _T.DONE}),
    _T.IN_PROGRESS: frozenset({_T.REVIEW, _T.TODO}),
    _T.REVIEW: frozenset({_T.DONE, _T.TODO, _T.IN_PROGRESS}),
    _T.DONE: frozenset({_T.TODO}),
}

_HEARD_BY_DEPENDANTS = (_T.TODO, _T.DONE)
"""DONE can only be left for TODO, so these two are all that dependants hear of."""


class IllegalTransitionError(Problem):
    """A move that the state machine does not have: 409."""

    def __init__(self, what: str, before: str, after: str) -> None:
        super().__init__(
            status=409,
            code="illegal-transition",
            detail=f"This {what} is {before}, so it cannot become {after}; reload and look again.",
            extras={"from": before, "to": after},
        )


def lock_attempt(attempt_id: uuid.UUID, *, task: Task | None = None) -> Attempt:
    """Return an attempt under its row lock; needs a running transaction.

    Parameters
    ----------
    attempt_id
        The attempt.
    task
        Its task with its project, where the caller has just read them; default they are read too.

    Raises
    ------
    Problem
        404 when it does not exist.
    """
    attempt = (_LOCKED_WITH_TASK if task is None else _LOCKED).first(attempt_id)
    if attempt is None:
        raise not_found("attempt")
    if task is not None:
        attempt.task = task
    return attempt


def _locked(attempt_id: uuid.UUID) -> QuerySet[Attempt]:
    return Attempt.objects.select_for_update(no_key=True, of=("self",)).filter(pk=attempt_id)


_LOCKED = Prepared(lambda pk: _locked(pk).order_by(), uuid.UUID)
_LOCKED_WITH_TASK = Prepared(
    lambda pk: _locked(pk).select_related("task__project").order_by(), uuid.UUID
)


def apply_transition(
    *,
    attempt_id: uuid.UUID,
    to: str,
    failure: str | None = None,
    message: str | None = None,
    head_commit: str | None = None,
    merge_commit: str | None = None,
) -> Attempt:
    """Move an attempt, write its STATUS event and announce both after the commit.

    Parameters
    ----------
    attempt_id
        The attempt.
    to
        New status.
    failure
        Reason, for FAILED only.
    message
        One sentence; default the reason's.
    head_commit, merge_commit
        Commits to record, if they became known.

    Raises
    ------
    IllegalTransitionError
        When the machine has no such move.
    """
    with transaction.atomic():
        attempt = lock_attempt(attempt_id)
        move_locked_attempt(
            attempt, to=to, failure=failure, message=message, head_commit=head_commit
        )
        if merge_commit is not None:
            attempt.merge_commit = merge_commit
        append_event(attempt, EventType.STATUS, status_payload(attempt))
        update_row(attempt)
    return attempt


def move_locked_attempt(
    attempt: Attempt,
    *,
    to: str,
    failure: str | None = None,
    message: str | None = None,
    head_commit: str | None = None,
    exit_code: int | None = None,
    now: datetime | None = None,
) -> None:
    """Move an attempt whose row the caller has locked and will save; its task follows.

    The caller stores the STATUS event: either :func:`append_event` or the ingested one.

    Raises
    ------
    IllegalTransitionError
        When the machine has no such move.
    """
    if to not in ATTEMPT_TRANSITIONS[attempt.status]:
        raise IllegalTransitionError("attempt", attempt.status, to)
    now = now or timezone.now()
    attempt.status = to
    attempt.waiting_for, attempt.queue_place = "", None
    if head_commit is not None:
        attempt.head_commit = head_commit
    if exit_code is not None:
        attempt.exit_code = exit_code
    if to == _A.RUNNING:
        attempt.started_at = attempt.started_at or now
        attempt.lease_expires_at = now + timedelta(seconds=LEASE_S)
    if to == _A.FAILED:
        reason = failure or "INTERNAL"
        attempt.failure = reason
        attempt.failure_message = message or sentence(reason)
    if to in TERMINAL_STATUSES:
        attempt.completed_at = now
    if to not in LIVE_STATUSES:
        attempt.lease_expires_at = None
        attempt.claimed_until = None
        queueing.enqueue_on_commit(queueing.SWEEP_QUEUED)
    follow_with_task(attempt)
    announce_attempt(attempt.pk)


def status_payload(attempt: Attempt) -> dict[str, Any]:
    """Return the payload of the STATUS event for an attempt's present status."""
    payload: dict[str, Any] = {
        "status": attempt.status,
        "failure": attempt.failure,
        "message": attempt.failure_message or None,
        "head_commit": attempt.head_commit,
        "exit_code": attempt.exit_code,
    }
    if attempt.merge_commit:
        payload["merge_commit"] = attempt.merge_commit
    return payload


def append_event(attempt: Attempt, type_: str, payload: dict[str, Any]) -> None:
    """Store one event of ours; the caller holds the row lock and saves the attempt."""
    attempt.last_seq += 1
    store_last_event(attempt, type_, payload)


def store_last_event(attempt: Attempt, type_: str, payload: dict[str, Any]) -> None:
    """Store the event that an attempt's `last_seq` counts already."""
    insert_row(
        AttemptEvent(
            attempt_id=attempt.pk,
            seq=attempt.last_seq,
            timestamp=timezone.now(),
            type=type_,
            payload=payload,
            attempt_created_at=attempt.created_at,
        )
    )
    announce_attempt(attempt.pk)


def apply_task_transition(*, task_id: uuid.UUID, to: str) -> Task:
    """Move a task under its row lock; dependants are started when it becomes DONE.

    Raises
    ------
    IllegalTransitionError
        When the machine has no such move.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        if task.status != to:
            if to not in TASK_TRANSITIONS[task.status]:
                raise IllegalTransitionError("task", task.status, to)
            if to in _HEARD_BY_DEPENDANTS:
                # What the board says of the tasks that wait for this one changes too.
                fetch(_TOUCH_WAITING, [task.project_id, json.dumps([str(task.pk)])])
            task.status = to
            if to == _T.DONE:
                queueing.enqueue_on_commit(queueing.START_DEPENDANTS, task.pk)
        touch_task(task)
        update_row(task, "status", "revision")
    return task


_TOUCH_WAITING = """
UPDATE tasks_task SET revision = revision + 1
WHERE project_id = %s AND dependencies @> %s::jsonb
"""
_TOUCH = "UPDATE tasks_task SET revision = revision + 1 WHERE id = %s"


def lock_task(task_id: uuid.UUID) -> Task:
    """Return a task under its row lock; needs a running transaction.

    Raises
    ------
    Task.DoesNotExist
        When it is gone.
    """
    task = _LOCKED_TASK.first(task_id)
    if task is None:
        raise Task.DoesNotExist
    return task


_LOCKED_TASK = Prepared(
    lambda pk: Task.objects.select_for_update(no_key=True).filter(pk=pk).order_by(), uuid.UUID
)


def touch_task(task: Task) -> None:
    """Note that what the board shows of a locked task has changed; the caller saves it."""
    task.revision += 1
    announce_project(task.project_id)


def touch_task_of(attempt: Attempt) -> None:
    """Note the same of an attempt's task, which need not be locked."""
    fetch(_TOUCH, [attempt.task_id])
    announce_project(attempt.task.project_id)


_TASK_FOR_ATTEMPT: dict[str, str] = {
    _A.QUEUED: _T.IN_PROGRESS,
    _A.RUNNING: _T.IN_PROGRESS,
    _A.GATES: _T.IN_PROGRESS,
    _A.REVIEW: _T.REVIEW,
    _A.SUCCESS: _T.DONE,
    _A.FAILED: _T.TODO,
}


def follow_with_task(attempt: Attempt) -> None:
    """Bring the task where its only active attempt now is.

    Raises
    ------
    IllegalTransitionError
        When the machine has no such move.
    """
    to = _TASK_FOR_ATTEMPT[attempt.status]
    if to in _HEARD_BY_DEPENDANTS or not _move_in_place(attempt.task, to):
        apply_task_transition(task_id=attempt.task_id, to=to)


_MOVE_TASK = """
UPDATE tasks_task SET status = %s, revision = revision + 1 WHERE id = %s AND status = ANY(%s)
RETURNING id
"""


def _move_in_place(task: Task, to: str) -> bool:
    """Move a task that need not be looked at: the statement itself keeps to the legal moves."""
    legal = [to, *(before for before, after in TASK_TRANSITIONS.items() if to in after)]
    if not fetch(_MOVE_TASK, [to, task.pk, legal]):
        return False
    announce_project(task.project_id)
    return True
