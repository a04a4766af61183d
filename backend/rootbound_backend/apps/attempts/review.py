"""Reviewing: comments, changes asked for, bringing work up to date, and comparing attempts."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction

from rootbound_backend.apps.attempts.failures import Failure
from rootbound_backend.apps.attempts.models import (
    Attempt,
    AttemptStatus,
    ReviewComment,
)
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.apps.attempts.selectors import attempts_of_task, get_attempt
from rootbound_backend.apps.attempts.services import (
    follow_up,
    lock_own,
    reject_locked,
    wrong_status,
)
from rootbound_backend.apps.attempts.standing import refuse_moved
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem, not_found

__all__ = [
    "add_comment",
    "comments_of",
    "compare_attempts",
    "delete_comment",
    "merge_preview",
    "request_changes",
    "send_message",
    "tend_worktrees",
    "update_attempt",
    "worktrees_of",
]


def comments_of(*, user: User, attempt_id: uuid.UUID) -> list[ReviewComment]:
    """Return the comments on an attempt, oldest first.

    Raises
    ------
    Problem
        404.
    """
    get_attempt(user=user, attempt_id=attempt_id)
    return list(ReviewComment.objects.filter(attempt_id=attempt_id).select_related("author"))


def add_comment(*, user: User, attempt_id: uuid.UUID, fields: dict[str, Any]) -> ReviewComment:
    """Store a comment on the head that the reviewer sees.

    Parameters
    ----------
    user
        The reviewer.
    attempt_id
        The attempt.
    fields
        ``text`` and, for a place in the diff, ``path``, ``line`` and ``side``.

    Raises
    ------
    Problem
        404.
    """
    attempt = get_attempt(user=user, attempt_id=attempt_id)
    return ReviewComment.objects.create(
        attempt=attempt, author=user, commit=attempt.head_commit, **fields
    )


def delete_comment(*, user: User, attempt_id: uuid.UUID, comment_id: uuid.UUID) -> None:
    """Delete a comment.

    Raises
    ------
    Problem
        404.
    """
    get_attempt(user=user, attempt_id=attempt_id)
    gone, _ = ReviewComment.objects.filter(pk=comment_id, attempt_id=attempt_id).delete()
    if not gone:
        raise not_found("comment")


def request_changes(
    *,
    user: User,
    attempt_id: uuid.UUID,
    feedback: str,
    version: int | None = None,
    status: str | None = None,
) -> Attempt:
    """Start an attempt that goes on with the work, told of the feedback and the comments.

    Raises
    ------
    Problem
        404; 409 when there is no work to go on with, ``feedback-missing`` when there is neither
        feedback nor a comment, or when the task's version or the attempt's status is not the
        one that was seen.
    """
    with transaction.atomic():
        attempt = lock_own(user=user, attempt_id=attempt_id)
        refuse_moved(attempt, status)
        _check_has_work(attempt, "changed")
        if not feedback and not ReviewComment.objects.filter(attempt=attempt).exists():
            raise Problem(
                status=409,
                code="feedback-missing",
                detail="Say what is to be changed: in feedback, or in a comment on the diff.",
            )
        if attempt.status == AttemptStatus.REVIEW:
            reject_locked(attempt, feedback or "Changes were requested in comments on the diff.")
        return follow_up(
            user=user, attempt=attempt, feedback=feedback, continues=attempt, version=version
        )


def update_attempt(
    *,
    user: User,
    attempt_id: uuid.UUID,
    resolve: bool,
    version: int | None = None,
    status: str | None = None,
) -> Attempt:
    """Start an attempt that brings the work onto the base branch as it is now.

    Parameters
    ----------
    user
        Owner.
    attempt_id
        An attempt in REVIEW, or a failed one with work.
    resolve
        Have the agent settle conflicts; otherwise the work is rebased and only judged anew.
    version, status
        The task's version and the attempt's status that the caller saw, if that matters.

    Raises
    ------
    Problem
        404; 409 when there is no work to go on with, or it is not as it was seen.
    """
    with transaction.atomic():
        attempt = lock_own(user=user, attempt_id=attempt_id)
        refuse_moved(attempt, status)
        source = attempt
        if attempt.failure == Failure.MERGE_CONFLICT and attempt.continues is not None:
            # It got nowhere: the work is still that of the attempt before.
            source = attempt.continues
        _check_has_work(source, "brought up to date")
        if attempt.status == AttemptStatus.REVIEW:
            reject_locked(attempt, "It is brought onto the base branch in a new attempt.")
        return follow_up(
            user=user,
            attempt=attempt,
            feedback="",
            continues=source,
            update="resolve" if resolve else "rebase",
            version=version,
        )


def _check_has_work(attempt: Attempt, what: str) -> None:
    if attempt.status not in {AttemptStatus.REVIEW, AttemptStatus.FAILED}:
        raise wrong_status(attempt, what, "one in REVIEW or a failed one")
    if attempt.head_commit is None:
        raise Problem(
            status=409,
            code="no-commit",
            detail="This attempt has committed nothing to go on with; retry the task instead.",
        )


def send_message(*, user: User, attempt_id: uuid.UUID, text: str) -> Attempt:
    """Tell the agent something while it works; its next request carries it.

    Raises
    ------
    Problem
        404; 409 ``not-running`` or ``run-over``; 503 when the LDA does not answer.
    """
    attempt = get_attempt(user=user, attempt_id=attempt_id)
    if attempt.status not in {AttemptStatus.RUNNING, AttemptStatus.GATES}:
        raise Problem(
            status=409,
            code="not-running",
            detail=(
                f"This attempt is {attempt.status}, so nobody would read the message; use it as "
                "feedback for another attempt."
            ),
        )
    lda_request("POST", f"/runs/{attempt_id}/messages", **place_of(attempt), body={"text": text})
    return attempt


def merge_preview(*, user: User, attempt_id: uuid.UUID) -> dict[str, Any]:
    """Return what merging an attempt would do now; nothing is changed.

    Raises
    ------
    Problem
        404; 409 when there is nothing to merge; 503 when the LDA does not answer.
    """
    attempt = get_attempt(user=user, attempt_id=attempt_id)
    preview: dict[str, Any] = lda_request(
        "GET", f"/runs/{attempt.pk}/merge-preview", **place_of(attempt), timeout_s=30
    )
    return preview


def compare_attempts(*, user: User, task_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return the attempts of a task side by side, newest first."""
    attempts = attempts_of_task(user=user, task_id=task_id).order_by("-number")
    return [_row(attempt) for attempt in attempts]


def _row(attempt: Attempt) -> dict[str, Any]:
    seconds = None
    if attempt.started_at is not None and attempt.completed_at is not None:
        seconds = (attempt.completed_at - attempt.started_at).total_seconds()
    gates = {
        gate.name: {
            "exit_code": gate.exit_code,
            "duration_s": gate.duration_s,
            "flaky": gate.flaky,
            "at_head": gate.commit == attempt.head_commit,
        }
        for gate in attempt.gates.all()
    }
    config = attempt.agent.get("agent_config", {})
    return {
        "id": attempt.pk,
        "number": attempt.number,
        "status": attempt.status,
        "failure": attempt.failure,
        "agent": config.get("name", ""),
        "model": config.get("model", ""),
        "continues": attempt.continues_id,
        "diff_stats": attempt.diff_stats,
        "gates": gates,
        "cost_usd": attempt.usage.get("cost_usd"),
        "steps": attempt.usage.get("steps", 0),
        "tokens": attempt.usage.get("input_tokens", 0) + attempt.usage.get("output_tokens", 0),
        "seconds": seconds,
        "denied_count": attempt.denied_count,
        "comments": attempt.comments.count(),
        "summary": attempt.summary,
    }


def worktrees_of(*, user: User) -> dict[str, Any]:
    """Return the worktrees of the user's attempts with their sizes.

    Raises
    ------
    Problem
        503 when the LDA does not answer.
    """
    found = lda_request("GET", "/worktrees", user_id=user.pk, timeout_s=60)
    ids = [row["attempt_id"] for row in found["worktrees"]]
    own = Attempt.objects.filter(pk__in=ids, task__project__owner=user)
    mine = {str(pk) for pk in own.values_list("pk", flat=True)}
    rows = [row for row in found["worktrees"] if row["attempt_id"] in mine]
    return {
        "results": rows,
        "next": None,
        "bytes": sum(row["bytes"] for row in rows),
        "quota_bytes": found["quota_bytes"],
    }


def tend_worktrees(*, user: User) -> list[str]:
    """Have the LDA remove the worktrees that nobody can miss; return their attempts.

    Raises
    ------
    Problem
        503 when the LDA does not answer.
    """
    answer = lda_request("POST", "/worktrees/tend", user_id=user.pk, body={}, timeout_s=120)
    return list(answer["removed"])
