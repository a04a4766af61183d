"""Writes on attempts that a person asks for."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Subquery
from django.utils import timezone

from rootbound_backend import queueing
from rootbound_backend.apps.agents.models import AgentProfile
from rootbound_backend.apps.agents.selectors import agent_for_role, agent_snapshot, get_agent
from rootbound_backend.apps.attempts.failures import Failure
from rootbound_backend.apps.attempts.models import (
    ACTIVE_STATUSES,
    LIVE_STATUSES,
    Attempt,
    AttemptStatus,
    EventType,
)
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.apps.attempts.retention import refuse_when_full
from rootbound_backend.apps.attempts.standing import refuse_moved, refuse_superseded
from rootbound_backend.apps.attempts.transitions import (
    append_event,
    apply_transition,
    follow_with_task,
    lock_attempt,
    move_locked_attempt,
    status_payload,
    store_last_event,
)
from rootbound_backend.apps.tasks.models import Task, TaskStatus
from rootbound_backend.apps.tasks.selectors import open_dependencies
from rootbound_backend.apps.tasks.versions import refuse_stale
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import LdaRefusedError, lda_request
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.statements import Prepared, insert_row, update_row

__all__ = [
    "approve_attempt",
    "cancel_attempt",
    "check_startable",
    "create_attempt",
    "follow_up",
    "lock_own",
    "reject_attempt",
    "reject_locked",
    "retry_attempt",
    "wrong_status",
]

MERGE_TIMEOUT_S = 60.0
"""How long a merge may take, in seconds."""

MERGE_CLAIM_S = 90
"""How long a merge keeps others from deciding on the same attempt, in seconds."""


def create_attempt(
    *,
    user: User,
    task_id: uuid.UUID,
    reference_paths: Sequence[str] = (),
    agent_id: uuid.UUID | None = None,
    feedback: str = "",
    continues: Attempt | None = None,
    update: str = "",
    version: int | None = None,
) -> Attempt:
    """Queue a new attempt on a task.

    Parameters
    ----------
    user
        Owner of the task.
    task_id
        The task.
    reference_paths
        Files that the agent is pointed at.
    agent_id
        Profile to use; default the task's, else the owner's with the task's role.
    feedback
        What the user said about the attempt before.
    continues
        The attempt whose work this one goes on with; default it begins on the base branch.
    update
        ``rebase`` or ``resolve``, to bring that work onto the base branch as it is now.
    version
        The task's version that the caller saw; None to start whatever is there.

    Raises
    ------
    Problem
        404; 409 ``attempt-live``, ``task-done``, ``dependencies-open``, ``gates-missing``,
        ``agent-missing`` or ``version-conflict``.
    """
    try:
        with transaction.atomic():
            task: Any = _LOCKED_TO_START.first(task_id, user.pk)
            if task is None:
                raise not_found("task")
            agent = check_startable(
                user=user, task=task, agent_id=agent_id, version=version,
                has_active=task.has_active,
            )  # fmt: skip
            warning = refuse_when_full(task.project)
            attempt = _insert(
                task,
                agent,
                list(reference_paths),
                {"feedback": feedback, "continues": continues, "update": update},
            )
            if warning is not None:
                append_event(attempt, EventType.LOG, {"kind": "notice", "text": warning})
                attempt.save(update_fields=["last_seq"])
            return attempt
    except IntegrityError as error:
        raise _attempt_live() from error


def _attempt_live() -> Problem:
    return Problem(
        status=409,
        code="attempt-live",
        detail=(
            "This task already has an attempt at work or in review; wait for it, cancel it, "
            "or decide on it first."
        ),
    )


# If another attempt was made while the task's lock was waited for, these do not know of it yet;
# then the unique keys of attempts refuse this one.
_OF_TASK = Attempt.objects.filter(task=OuterRef("pk"))
_LOCKED_TO_START = Prepared(
    lambda pk, owner_id: (
        Task.objects.select_for_update(no_key=True, of=("self",))
        .select_related("project")
        .annotate(
            has_active=Exists(_OF_TASK.filter(status__in=ACTIVE_STATUSES)),
            highest_number=Subquery(_OF_TASK.order_by("-number").values("number")[:1]),
        )
        .filter(pk=pk, project__owner_id=owner_id)
        .order_by()
    ),
    uuid.UUID,
    uuid.UUID,
)


def check_startable(
    *,
    user: User,
    task: Task,
    agent_id: uuid.UUID | None = None,
    version: int | None = None,
    has_active: bool | None = None,
) -> AgentProfile:
    """Return the agent that an attempt on a task would have.

    Parameters
    ----------
    user
        Owner of the task.
    task
        The task.
    agent_id
        Profile that was asked for; default the task's, else the owner's with the task's role.
    version
        The task's version that the caller saw; default whatever is there.
    has_active
        Whether an attempt on it is at work or in review; default it is looked up.

    Raises
    ------
    Problem
        404, 409 as for :func:`create_attempt`.
    """
    if has_active is None:
        has_active = Attempt.objects.filter(task=task, status__in=ACTIVE_STATUSES).exists()
    _refuse_unready(task, has_active=has_active)
    refuse_stale(task, version)
    return _agent_for(user=user, task=task, agent_id=agent_id)


def _refuse_unready(task: Task, *, has_active: bool) -> None:
    if has_active:
        raise _attempt_live()
    if task.status == TaskStatus.DONE:
        raise Problem(
            status=409,
            code="task-done",
            detail="This task is done; set its status to TODO to work on it again.",
        )
    blockers = open_dependencies(task)
    if blockers:
        names = ", ".join(f"“{blocker.title}”" for blocker in blockers[:3])
        raise Problem(
            status=409,
            code="dependencies-open",
            detail=f"This task waits for {names}; finish what it depends on first.",
            extras={"blocked_by": [str(blocker.pk) for blocker in blockers]},
        )
    if not any(task.project.commands().values()):
        raise Problem(
            status=409,
            code="gates-missing",
            detail=(
                "The project has no commands, so nothing could prove the result; set test_cmd "
                "(or lint_cmd) in its configuration."
            ),
        )


def _agent_for(*, user: User, task: Task, agent_id: uuid.UUID | None) -> AgentProfile:
    chosen = agent_id or task.assigned_agent_id
    if chosen is not None:
        return get_agent(user=user, agent_id=chosen)
    return agent_for_role(user=user, role=task.agent_role)


def _insert(task: Any, agent: AgentProfile, paths: list[str], begin: dict[str, Any]) -> Attempt:
    attempt_id = uuid.uuid4()
    attempt = Attempt(
        id=attempt_id,
        task=task,
        number=(task.highest_number or 0) + 1,
        last_seq=1,
        branch_name=f"attempt/{attempt_id}",
        agent=agent_snapshot(agent),
        commands=task.project.commands(),
        reference_paths=paths,
        **begin,
    )
    insert_row(attempt)
    store_last_event(attempt, EventType.STATUS, status_payload(attempt))
    follow_with_task(attempt)
    queueing.enqueue_on_commit(queueing.START_ATTEMPT, attempt_id)
    return attempt


def lock_own(*, user: User, attempt_id: uuid.UUID) -> Attempt:
    """Return an attempt of the user's under its row lock.

    Raises
    ------
    Problem
        404.
    """
    attempt = lock_attempt(attempt_id)
    if attempt.task.project.owner_id != user.pk:
        raise not_found("attempt")
    return attempt


def _refuse_while_merging(attempt: Attempt) -> None:
    if attempt.status == AttemptStatus.REVIEW and attempt.holds_claim(timezone.now()):
        raise Problem(
            status=409,
            code="merge-in-progress",
            detail="This attempt is being merged at this moment; look again in a few seconds.",
        )


def wrong_status(attempt: Attempt, what: str, needed: str) -> Problem:
    """Return the refusal of something that the attempt's status does not allow."""
    return Problem(
        status=409,
        code="illegal-transition",
        detail=f"This attempt is {attempt.status}; only {needed} can be {what}.",
        extras={"from": attempt.status},
    )


def cancel_attempt(*, user: User, attempt_id: uuid.UUID, version: int | None = None) -> Attempt:
    """Cancel a live attempt; the LDA is told to kill the run. Cancelling twice is fine.

    Raises
    ------
    Problem
        404; 409 when the attempt is no longer live, or its task has another than the given
        version.
    """
    with transaction.atomic():
        attempt = lock_own(user=user, attempt_id=attempt_id)
        if attempt.failure == Failure.CANCELLED:
            return attempt
        if attempt.status not in LIVE_STATUSES:
            raise wrong_status(attempt, "cancelled", "a queued or running one")
        refuse_stale(attempt.task, version)
        move_locked_attempt(attempt, to=AttemptStatus.FAILED, failure=Failure.CANCELLED)
        append_event(attempt, EventType.STATUS, status_payload(attempt))
        attempt.save()
        if attempt.lease_generation:
            queueing.enqueue_on_commit(queueing.CANCEL_RUN, attempt.pk)
    return attempt


def reject_attempt(
    *, user: User, attempt_id: uuid.UUID, reason: str, version: int | None = None
) -> Attempt:
    """Reject an attempt in review; its branch is kept under ``refs/rootbound/discarded``.

    Raises
    ------
    Problem
        404; 409 when it is not in review, is being merged, or its task has another than the
        given version.
    """
    with transaction.atomic():
        attempt = lock_own(user=user, attempt_id=attempt_id)
        refuse_stale(attempt.task, version)
        reject_locked(attempt, reason)
    return attempt


def reject_locked(attempt: Attempt, reason: str) -> None:
    """Reject an attempt in review, whose row the caller has locked.

    Raises
    ------
    Problem
        409 when it is not in review or is being merged.
    """
    if attempt.status != AttemptStatus.REVIEW:
        raise wrong_status(attempt, "rejected", "one in REVIEW")
    _refuse_while_merging(attempt)
    move_locked_attempt(
        attempt, to=AttemptStatus.FAILED, failure=Failure.REJECTED, message=reason or None
    )
    append_event(attempt, EventType.STATUS, status_payload(attempt))
    attempt.save()
    queueing.enqueue_on_commit(queueing.DISCARD_RUN, attempt.pk)


def retry_attempt(
    *,
    user: User,
    attempt_id: uuid.UUID,
    feedback: str = "",
    version: int | None = None,
    status: str | None = None,
) -> Attempt:
    """Start a new attempt after a failed one, or instead of one in review.

    Raises
    ------
    Problem
        404; 409 when the attempt is live, has succeeded or was tried again already, the task
        cannot start, or either is not as it was seen (the task's version, the attempt's status).
    """
    with transaction.atomic():
        attempt = lock_own(user=user, attempt_id=attempt_id)
        refuse_moved(attempt, status)
        if attempt.status == AttemptStatus.REVIEW:
            reject_locked(attempt, feedback)
        elif attempt.status != AttemptStatus.FAILED:
            raise wrong_status(attempt, "retried", "a failed one or one in REVIEW")
        else:
            refuse_superseded(attempt)
        return follow_up(user=user, attempt=attempt, feedback=feedback, version=version)


def follow_up(
    *,
    user: User,
    attempt: Attempt,
    feedback: str,
    continues: Attempt | None = None,
    update: str = "",
    version: int | None = None,
) -> Attempt:
    """Queue another attempt with the same agent and references.

    Raises
    ------
    Problem
        409 as for :func:`create_attempt`.
    """
    profile = attempt.agent.get("agent_config", {}).get("profile_id")
    known = profile and AgentProfile.objects.filter(pk=profile, owner=user).exists()
    return create_attempt(
        user=user,
        task_id=attempt.task_id,
        reference_paths=attempt.reference_paths,
        agent_id=uuid.UUID(profile) if known else None,
        feedback=feedback,
        continues=continues,
        update=update,
        version=version,
    )


def approve_attempt(*, user: User, attempt_id: uuid.UUID, version: int | None = None) -> Attempt:
    """Merge an attempt in review into the base branch; its task is then done.

    Approving what is already merged is fine. When the LDA refuses the merge, the attempt stays
    in review.

    Raises
    ------
    Problem
        404; 409 when it is not in review, is being merged, its task has another than the given
        version, or it cannot be merged (``merge-conflict``, ``checkout-dirty``,
        ``unsaved-changes``, ``base-moved``, ``head-moved``); 503 when the LDA does not answer.
    """
    with transaction.atomic():
        attempt = lock_own(user=user, attempt_id=attempt_id)
        if attempt.status == AttemptStatus.SUCCESS:
            return attempt
        if attempt.status != AttemptStatus.REVIEW:
            raise wrong_status(attempt, "approved", "one in REVIEW")
        refuse_stale(attempt.task, version)
        _refuse_while_merging(attempt)
        attempt.claimed_until = timezone.now() + timedelta(seconds=MERGE_CLAIM_S)
        update_row(attempt, "claimed_until")
    try:
        merged = _merge(attempt)
    except Problem:
        Attempt.objects.filter(pk=attempt_id, status=AttemptStatus.REVIEW).update(
            claimed_until=None
        )
        raise
    return apply_transition(
        attempt_id=attempt_id,
        to=AttemptStatus.SUCCESS,
        merge_commit=str(merged.get("merge_commit") or "") or None,
    )


def _merge(attempt: Attempt) -> dict[str, Any]:
    body = {
        "head_commit": attempt.head_commit,
        # One line; the LDA adds what leads back to task and attempt.
        "message": f"Merge: {' '.join(attempt.task.title.split())}",
    }
    try:
        answer: dict[str, Any] = lda_request(
            "POST",
            f"/runs/{attempt.pk}/merge",
            **place_of(attempt),
            body=body,
            timeout_s=MERGE_TIMEOUT_S,
        )
    except LdaRefusedError as refusal:
        if refusal.status == 409:
            raise
        # Anything else the LDA has against the merge is a conflict for the caller too.
        raise Problem(
            status=409,
            code=refusal.code,
            title=refusal.title,
            detail=refusal.detail,
            extras=refusal.extras,
        ) from refusal
    return answer
