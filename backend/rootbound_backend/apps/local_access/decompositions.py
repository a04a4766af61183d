"""Writes on decompositions: a wish, the PM's plan of it, and the tasks made of the plan."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from graphlib import TopologicalSorter
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from rootbound_backend import queueing
from rootbound_backend.apps.agents.selectors import agent_for_role, agent_snapshot, get_agent
from rootbound_backend.apps.attempts.failures import Failure, sentence
from rootbound_backend.apps.attempts.handover import MAX_TRIES, back_off_s, failure_for_refusal
from rootbound_backend.apps.attempts.ingest import check_fence
from rootbound_backend.apps.local_access.models import DecompositionStatus, PMDecomposition
from rootbound_backend.apps.local_access.plans import (
    Plan,
    PlanReport,
    PlanTask,
    check_plan_tasks,
    task_fields,
)
from rootbound_backend.apps.local_access.selectors import get_decomposition, root_paths_of_project
from rootbound_backend.apps.projects.selectors import get_project
from rootbound_backend.apps.tasks.models import AgentRole
from rootbound_backend.apps.tasks.services import insert_task, lock_project
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import LdaRefusedError, LdaUnreachableError, lda_request
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.tokens import IngestGrant, issue_ingest_token
from rootbound_backend.wire import decode_batch

__all__ = [
    "approve_decomposition",
    "create_decomposition",
    "decode_plan_report",
    "hand_over_decomposition",
    "store_plan",
    "sweep_decompositions",
]

logger = logging.getLogger(__name__)

CLAIM_S = 60
SILENCE_S = 7200
"""After this long without a plan a decomposition counts as lost, in seconds."""

_REPORT = msgspec.json.Decoder(PlanReport)


def create_decomposition(
    *,
    user: User,
    project_id: uuid.UUID,
    prompt: str,
    auto_approve: bool = False,
    agent_id: uuid.UUID | None = None,
) -> PMDecomposition:
    """Ask the PM agent to break a wish down into tasks.

    Parameters
    ----------
    user
        Owner of the project.
    project_id
        The project.
    prompt
        The wish.
    auto_approve
        Whether to make the tasks as soon as the plan is there.
    agent_id
        Profile to use; default the user's with the role PM.

    Raises
    ------
    Problem
        404; 409 ``agent-missing``.
    """
    project = get_project(user=user, project_id=project_id)
    if agent_id is not None:
        agent = get_agent(user=user, agent_id=agent_id)
    else:
        agent = agent_for_role(user=user, role=AgentRole.PM)
    with transaction.atomic():
        decomposition = PMDecomposition.objects.create(
            project_id=project.pk,
            user_prompt=prompt,
            auto_approve=auto_approve,
            agent=agent_snapshot(agent),
        )
        queueing.enqueue_on_commit(queueing.START_PLAN, decomposition.pk)
    return decomposition


def _locked(decomposition_id: uuid.UUID) -> PMDecomposition:
    found = (
        PMDecomposition.objects.select_for_update(no_key=True, of=("self",))
        .select_related("project", "project__owner")
        .filter(pk=decomposition_id)
        .first()
    )
    if found is None:
        raise not_found("decomposition")
    return found


def hand_over_decomposition(decomposition_id: uuid.UUID) -> bool:
    """Claim a pending decomposition and send it to the LDA; return whether it was accepted."""
    now = timezone.now()
    with transaction.atomic():
        try:
            claimed = _locked(decomposition_id)
        except Problem:
            return False
        busy = claimed.claimed_until is not None and claimed.claimed_until > now
        early = claimed.next_try_at is not None and claimed.next_try_at > now
        waiting = claimed.status == DecompositionStatus.PENDING and not claimed.handed_over_at
        if not waiting or busy or early:
            return False
        if claimed.lease_generation == 0 or claimed.claimed_until is not None:
            claimed.lease_generation += 1
        claimed.claimed_until = now + timedelta(seconds=CLAIM_S)
        claimed.save(update_fields=["lease_generation", "claimed_until"])
    try:
        lda_request(
            "POST", "/plans", user_id=claimed.project.owner_id, path=claimed.project.repo_path,
            body=_payload(claimed), timeout_s=30,
        )  # fmt: skip
    except LdaUnreachableError as error:
        _not_reached(decomposition_id, error)
        return False
    except LdaRefusedError as refusal:
        if refusal.code != "fenced":
            _fail(decomposition_id, failure_for_refusal(refusal), refusal.detail)
        return False
    PMDecomposition.objects.filter(pk=decomposition_id).update(
        handed_over_at=timezone.now(), claimed_until=None, next_try_at=None
    )
    return True


def _payload(decomposition: PMDecomposition) -> dict[str, Any]:
    project = decomposition.project
    return {
        "version": 1,
        "decomposition_id": str(decomposition.pk),
        "project_id": str(project.pk),
        "user_id": str(project.owner_id),
        "repo_path": project.repo_path,
        "prompt": decomposition.user_prompt,
        "agent_config": decomposition.agent["agent_config"],
        "limits": decomposition.agent.get("limits", {}),
        "writable_roots": root_paths_of_project(project),
        "readable_paths": [],
        "ingest": {
            "base_url": settings.BACKEND_URL,
            "token": issue_ingest_token(
                user_id=project.owner_id,
                decomposition_id=decomposition.pk,
                lease_generation=decomposition.lease_generation,
            ),
        },
        "lease_generation": decomposition.lease_generation,
    }


def _not_reached(decomposition_id: uuid.UUID, error: LdaUnreachableError) -> None:
    with transaction.atomic():
        decomposition = _locked(decomposition_id)
        if decomposition.status != DecompositionStatus.PENDING:
            return
        decomposition.hand_over_tries += 1
        decomposition.claimed_until = None
        if decomposition.hand_over_tries >= MAX_TRIES:
            _mark_failed(decomposition, Failure.LDA_UNREACHABLE, error.detail)
            return
        wait = back_off_s(decomposition.hand_over_tries)
        decomposition.next_try_at = timezone.now() + timedelta(seconds=wait)
        decomposition.save()
        queueing.enqueue_on_commit(queueing.START_PLAN, decomposition.pk, countdown_s=wait + 0.1)


def _fail(decomposition_id: uuid.UUID, failure: Failure, message: str) -> None:
    with transaction.atomic():
        decomposition = _locked(decomposition_id)
        if decomposition.status == DecompositionStatus.PENDING:
            _mark_failed(decomposition, failure, message)


def _mark_failed(decomposition: PMDecomposition, failure: str, message: str | None) -> None:
    decomposition.status = DecompositionStatus.FAILED
    decomposition.failure = failure
    decomposition.failure_message = message or sentence(failure)
    decomposition.claimed_until = None
    decomposition.save()


def sweep_decompositions() -> int:
    """Hand over what was not handed over, and give up what stayed silent; return how many."""
    now = timezone.now()
    lost = PMDecomposition.objects.filter(
        status=DecompositionStatus.PENDING,
        handed_over_at__lt=now - timedelta(seconds=SILENCE_S),
    )
    for pk in list(lost.values_list("pk", flat=True)):
        _fail(pk, Failure.LDA_LOST, sentence(Failure.LDA_LOST))
    waiting = PMDecomposition.objects.filter(
        ~Q(claimed_until__gt=now) | Q(claimed_until__isnull=True),
        ~Q(next_try_at__gt=now) | Q(next_try_at__isnull=True),
        status=DecompositionStatus.PENDING,
        handed_over_at__isnull=True,
    )
    return sum(hand_over_decomposition(pk) for pk in list(waiting.values_list("pk", flat=True)))


def decode_plan_report(body: bytes) -> PlanReport:
    """Decode and validate the LDA's report on a decomposition.

    Raises
    ------
    Problem
        400 that names the field.
    """
    report = decode_batch(body, _REPORT)
    if (report.plan is None) == (report.failure is None):
        raise Problem(
            status=400,
            code="invalid",
            title="Invalid input",
            detail="The report must hold either a plan or a failure.",
        )
    return report


def store_plan(*, grant: IngestGrant, decomposition_id: uuid.UUID, report: PlanReport) -> None:
    """Store what the PM agent came to; the same report again changes nothing.

    Parameters
    ----------
    grant
        What the sender's token allows.
    decomposition_id
        The decomposition of the address.
    report
        A validated report.

    Raises
    ------
    Problem
        404 for another decomposition than the token's; 409 ``fenced``.
    """
    if grant.decomposition_id != decomposition_id:
        raise not_found("decomposition")
    with transaction.atomic():
        decomposition = _locked(decomposition_id)
        check_fence(reported=grant.lease_generation, current=decomposition.lease_generation)
        if decomposition.status != DecompositionStatus.PENDING:
            return
        decomposition.pm_response = report.response
        decomposition.usage = report.usage
        decomposition.handed_over_at = decomposition.handed_over_at or timezone.now()
        if report.plan is None:
            _mark_failed(decomposition, report.failure or Failure.INTERNAL, report.message)
            return
        try:
            check_plan_tasks(report.plan.tasks)
        except Problem as problem:
            _mark_failed(
                decomposition, Failure.AGENT_BLOCKED, f"The plan cannot be used: {problem.detail}"
            )
            return
        decomposition.plan = msgspec.to_builtins(report.plan)
        decomposition.status = DecompositionStatus.READY
        decomposition.claimed_until = None
        decomposition.save()
        if decomposition.auto_approve:
            _make_tasks(decomposition.project.owner, decomposition, report.plan.tasks)


def approve_decomposition(
    *, user: User, decomposition_id: uuid.UUID, tasks: list[Any] | None = None
) -> PMDecomposition:
    """Make the planned tasks, all or none; approving twice makes them once.

    Parameters
    ----------
    user
        Owner of the project.
    decomposition_id
        The decomposition.
    tasks
        The plan's tasks as the user edited them; None for the plan as it is.

    Raises
    ------
    Problem
        404; 400 for tasks that do not fit together; 409 ``plan-not-ready``.
    """
    get_decomposition(user=user, decomposition_id=decomposition_id)
    with transaction.atomic():
        decomposition = _locked(decomposition_id)
        if decomposition.status == DecompositionStatus.APPROVED:
            return decomposition
        if decomposition.status != DecompositionStatus.READY:
            raise Problem(
                status=409,
                code="plan-not-ready",
                detail=(
                    f"This decomposition is {decomposition.status}; only one that is READY can "
                    "be approved."
                ),
            )
        stored: dict[str, Any] = decomposition.plan or {}
        plan = _edited_plan(stored.get("tasks", []) if tasks is None else tasks)
        check_plan_tasks(plan.tasks)
        if tasks is not None:
            decomposition.plan = {**stored, "tasks": msgspec.to_builtins(plan.tasks)}
        _make_tasks(user, decomposition, plan.tasks)
    return decomposition


def _edited_plan(tasks: list[Any]) -> Plan:
    return decode_batch(msgspec.json.encode({"tasks": tasks}), msgspec.json.Decoder(Plan))


def _make_tasks(user: User, decomposition: PMDecomposition, planned: list[PlanTask]) -> None:
    """Insert the tasks, dependencies first; part of the caller's transaction."""
    project = lock_project(user=user, project_id=decomposition.project_id)
    by_key = {task.key: task for task in planned}
    ids: dict[str, str] = {}
    order = TopologicalSorter({key: task.depends_on for key, task in by_key.items()})
    for key in order.static_order():
        fields = task_fields(by_key[key], ids)
        ids[key] = str(insert_task(user=user, project=project, fields=fields).pk)
    decomposition.tasks_created = [ids[task.key] for task in planned]
    decomposition.status = DecompositionStatus.APPROVED
    decomposition.save()
