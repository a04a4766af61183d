"""Handing attempts over to the LDA, and finding out what became of them."""

from __future__ import annotations

import enum
import logging
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from rootbound_backend import queueing
from rootbound_backend.apps.attempts.context import context_of
from rootbound_backend.apps.attempts.failures import Failure, sentence
from rootbound_backend.apps.attempts.models import Attempt, AttemptStatus, EventType
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.apps.attempts.scheduling import note_places, queue
from rootbound_backend.apps.attempts.transitions import (
    append_event,
    lock_attempt,
    move_locked_attempt,
    status_payload,
)
from rootbound_backend.apps.local_access.live_policy import (
    first_lists,
    push_if_changed,
    roots_to_begin_with,
)
from rootbound_backend.lda_client import (
    LdaRefusedError,
    LdaUnreachableError,
    is_outward,
    lda_request,
)
from rootbound_backend.problems import Problem
from rootbound_backend.statements import fetch, update_row
from rootbound_backend.tokens import issue_ingest_token

__all__ = [
    "MAX_TRIES",
    "HandOver",
    "back_off_s",
    "build_payload",
    "failure_for_refusal",
    "hand_over_attempt",
    "reap_attempts",
    "sweep_queued_attempts",
]

logger = logging.getLogger(__name__)

CLAIM_S = 60
"""How long one worker alone may hand an attempt over, in seconds."""

MAX_TRIES = 6
"""Tries to reach the LDA before an attempt fails."""

UNSHIPPED_GRACE_S = 600
"""How long a finished run may take to ship its last reports, in seconds."""

_CAPACITY_LOCK = 7_246_001


class HandOver(enum.Enum):
    """What became of one try to hand an attempt over."""

    STARTED = "started"
    SKIPPED = "skipped"
    WAITING = "waiting"
    RETRY = "retry"
    FAILED = "failed"


def back_off_s(tries: int) -> int:
    """Return the wait after the given number of failed tries, in seconds: 1, 2, 4 ... 30."""
    return int(min(30, 2 ** max(0, tries - 1)))


def hand_over_attempt(attempt_id: uuid.UUID) -> HandOver:
    """Claim a queued attempt, send it to the LDA and mark it RUNNING.

    Safe to call any number of times and from any number of workers: the claim in the database
    lets one through, and the LDA accepts one run per attempt and generation.
    """
    attempt, outcome = _claim(attempt_id)
    if attempt is None:
        if outcome is HandOver.WAITING:
            note_places()
        return outcome
    try:
        lda_request("POST", "/run", **place_of(attempt), body=build_payload(attempt), timeout_s=30)
    except LdaUnreachableError as error:
        return _not_reached(attempt, error)
    except LdaRefusedError as refusal:
        return _refused(attempt, refusal)
    return _accepted(attempt)


def _claim(attempt_id: uuid.UUID) -> tuple[Attempt | None, HandOver]:
    with transaction.atomic():
        # Two workers that count free places at once would both take the last one.
        fetch("SELECT pg_advisory_xact_lock(%s)", [_CAPACITY_LOCK])
        try:
            attempt = lock_attempt(attempt_id)
        except Problem:
            return None, HandOver.SKIPPED  # it was deleted with its task
        now = timezone.now()
        if attempt.status != AttemptStatus.QUEUED or attempt.holds_claim(now):
            return None, HandOver.SKIPPED
        if attempt.next_try_at is not None and attempt.next_try_at > now:
            return None, HandOver.SKIPPED
        place = next((place for place in queue(now) if place.attempt_id == attempt.pk), None)
        if place is None or place.reason:
            return None, HandOver.WAITING
        if attempt.lease_generation == 0 or attempt.claimed_until is not None:
            # The first hand-over, or one after a worker that died: fence off what went before.
            attempt.lease_generation += 1
        attempt.claimed_until = now + timedelta(seconds=CLAIM_S)
        attempt.waiting_for, attempt.queue_place = "", None
        attempt.held_roots = roots_to_begin_with(attempt.task.project)
        update_row(
            attempt, "lease_generation", "claimed_until", "waiting_for", "queue_place", "held_roots"
        )
        return attempt, HandOver.STARTED


def build_payload(attempt: Attempt) -> dict[str, Any]:
    """Return the body of ``POST /run`` (run payload v1) for a claimed attempt."""
    task, project = attempt.task, attempt.task.project
    owner = project.owner_id
    limits = dict(attempt.agent.get("limits", {}))
    if (timeout := project.option("gate_timeout_s")) is not None:
        limits["gate_timeout_s"] = timeout
    budget, cap = project.option("budget"), limits.get("max_cost_usd")
    if budget is not None:
        limits["max_cost_usd"] = budget if cap is None else min(budget, cap)
    network = project.option("network", {})
    writable, readable = first_lists(attempt)
    return {
        "version": 1,
        "run_id": str(attempt.pk),
        "attempt_id": str(attempt.pk),
        "project_id": str(project.pk),
        "user_id": str(owner),
        "repo_path": project.repo_path,
        "base_ref": project.default_branch,
        "writable_roots": writable,
        "readable_paths": readable,
        "reference_paths": attempt.reference_paths,
        "commands": attempt.commands,
        "limits": limits,
        "network": {
            "agent": bool(network.get("agent", False)),
            "install": bool(network.get("install", True)),
        },
        "accept_tier": project.option("accept_tier"),
        "agent_config": attempt.agent["agent_config"],
        "task": {
            "id": str(task.pk),
            "title": task.title,
            "description": task.description,
            "context": context_of(attempt),
        },
        "ingest": {
            "base_url": settings.BACKEND_URL,
            "token": issue_ingest_token(
                user_id=owner,
                attempt_id=attempt.pk,
                lease_generation=attempt.lease_generation,
            ),
        },
        "lease_generation": attempt.lease_generation,
        **_going_on(attempt),
    }


def _going_on(attempt: Attempt) -> dict[str, Any]:
    """Return where an attempt begins that goes on with the work of another one."""
    before = attempt.continues
    if before is None or before.head_commit is None:
        return {}
    return {
        "start_commit": before.head_commit,
        "base_commit": before.base_commit,
        "update": attempt.update,
    }


def _accepted(claimed: Attempt) -> HandOver:
    with transaction.atomic():
        attempt = lock_attempt(claimed.pk, task=claimed.task)
        if attempt.status == AttemptStatus.FAILED:
            # Cancelled while we were on our way: the run must not go on.
            queueing.enqueue_on_commit(queueing.CANCEL_RUN, attempt.pk)
            return HandOver.SKIPPED
        attempt.handed_over_at = attempt.handed_over_at or timezone.now()
        attempt.claimed_until = None
        attempt.next_try_at = None
        if attempt.status == AttemptStatus.QUEUED:
            move_locked_attempt(attempt, to=AttemptStatus.RUNNING)
            append_event(attempt, EventType.STATUS, status_payload(attempt))
        update_row(attempt)
        push_if_changed(attempt.pk)
    return HandOver.STARTED


def _not_reached(claimed: Attempt, error: LdaUnreachableError) -> HandOver:
    with transaction.atomic():
        attempt = lock_attempt(claimed.pk)
        if attempt.status != AttemptStatus.QUEUED:
            return HandOver.SKIPPED
        attempt.hand_over_tries += 1
        attempt.claimed_until = None
        if attempt.hand_over_tries >= MAX_TRIES:
            _fail(attempt, Failure.LDA_UNREACHABLE, error.detail)
            return HandOver.FAILED
        wait = back_off_s(attempt.hand_over_tries)
        attempt.next_try_at = timezone.now() + timedelta(seconds=wait)
        attempt.save()
        queueing.enqueue_on_commit(queueing.START_ATTEMPT, attempt.pk, countdown_s=wait + 0.1)
    logger.warning(
        "Attempt %s was not handed over (try again in %s s): %s", claimed.pk, wait, error
    )
    return HandOver.RETRY


def _refused(claimed: Attempt, refusal: LdaRefusedError) -> HandOver:
    if refusal.code == "fenced":
        # A newer hand-over than ours is with the LDA; it will report.
        return HandOver.SKIPPED
    with transaction.atomic():
        attempt = lock_attempt(claimed.pk)
        if attempt.status != AttemptStatus.QUEUED:
            return HandOver.SKIPPED
        _fail(attempt, failure_for_refusal(refusal), refusal.detail)
    return HandOver.FAILED


def failure_for_refusal(refusal: Problem) -> Failure:
    """Return the failure reason for a refusal of the LDA, by its code."""
    code = refusal.code
    if code.startswith(("repo-", "root-", "base-")):
        return Failure.REPO_INVALID
    if code.startswith(("policy-", "sandbox-", "tier-")):
        return Failure.POLICY_UNENFORCEABLE
    return Failure.INTERNAL


def _fail(attempt: Attempt, failure: Failure, message: str | None = None) -> None:
    move_locked_attempt(
        attempt, to=AttemptStatus.FAILED, failure=failure, message=message or sentence(failure)
    )
    append_event(attempt, EventType.STATUS, status_payload(attempt))
    attempt.save()


def sweep_queued_attempts() -> int:
    """Hand over every queued attempt that nobody is handing over; return how many started."""
    ready = [place.attempt_id for place in queue() if not place.reason]
    started = sum(hand_over_attempt(attempt_id) is HandOver.STARTED for attempt_id in ready)
    note_places()
    return started


def reap_attempts() -> int:
    """Fail runs that the LDA says it does not have; return how many.

    Silence alone is no evidence: a run whose LDA cannot be asked stays as it is.
    """
    now = timezone.now()
    silent = Attempt.objects.filter(
        status__in=[AttemptStatus.RUNNING, AttemptStatus.GATES], lease_expires_at__lt=now
    ).values_list("pk", "lease_expires_at")
    reaped = 0
    for attempt_id, lapsed_at in list(silent):
        overdue_s = (now - lapsed_at).total_seconds() if lapsed_at else 0.0
        try:
            reaped += _reap(attempt_id, overdue_s)
        except LdaUnreachableError as error:
            logger.warning("Silent attempts cannot be checked: %s", error)
            if not is_outward():
                break  # nor can the others, which the same LDA has
    return reaped


def _reap(attempt_id: uuid.UUID, overdue_s: float) -> bool:
    found = Attempt.objects.select_related("task__project").get(pk=attempt_id)
    try:
        run = lda_request("GET", f"/runs/{attempt_id}", **place_of(found))
    except LdaRefusedError as refusal:
        if refusal.status != 404:
            raise LdaUnreachableError(refusal.detail) from refusal
        run = None
    if run is not None:
        finished = str(run.get("state", "")).upper() in {"REVIEW", "FAILED", "SUCCESS"}
        if run.get("live") or (finished and overdue_s < UNSHIPPED_GRACE_S):
            # At work, or done with its last report still in the outbox.
            return False
    with transaction.atomic():
        attempt = lock_attempt(attempt_id)
        still_silent = attempt.lease_expires_at and attempt.lease_expires_at < timezone.now()
        if attempt.status not in {AttemptStatus.RUNNING, AttemptStatus.GATES} or not still_silent:
            return False
        _fail(attempt, Failure.LDA_LOST)
    return True
