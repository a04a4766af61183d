"""What a run may do, and telling the LDA while the run goes on.

A change of roots or grants and the count of it are one transaction. Whoever reads the count under
its row lock sees everything that it counts, so a higher generation never carries older lists.

A run holds the roots that it began with, until one is withdrawn. A root granted later reaches the
run on whose request that was decided; what becomes a project later stays with those that hold it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from pathlib import PurePosixPath

from django.db import transaction
from django.db.models import F

from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.apps.local_access.access_models import (
    AccessOperation,
    AccessRequest,
    AccessScope,
    AccessStatus,
    RunPolicy,
)
from rootbound_backend.apps.local_access.models import WritableRoot
from rootbound_backend.apps.local_access.selectors import enabled_roots, overlaps, roots_of_project
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.lda_client import (
    LdaRefusedError,
    LdaUnreachableError,
    lda_audience,
    lda_request,
)
from rootbound_backend.statements import Prepared

__all__ = [
    "first_lists",
    "granted_lists",
    "note_change",
    "push_if_changed",
    "push_policy",
    "roots_to_begin_with",
    "sweep_policies",
]

logger = logging.getLogger(__name__)

PUSH_TIMEOUT_S = 20


def roots_to_begin_with(project: Project) -> dict[str, str]:
    """Return the ids and paths of the roots that an attempt is to hold from its hand-over on."""
    return {str(root.pk): root.canonical_path for root in roots_of_project(project)}


def first_lists(attempt: Attempt) -> tuple[list[str], list[str]]:
    """Return what an attempt may write and read as it was claimed; see :func:`granted_lists`.

    What has changed since then was counted, and is told after the hand-over.
    """
    if attempt.held_roots is None:
        return granted_lists(attempt)
    return _lists(attempt, list(attempt.held_roots.values()))


def granted_lists(attempt: Attempt) -> tuple[list[str], list[str]]:
    """Return what an attempt may write and what it may read besides, as granted now.

    Returns
    -------
    tuple of list of str
        Writable roots: those of the user's that it holds, and those granted for the attempt's
        task. Readable paths: the project's, and those granted for the task.
    """
    project = attempt.task.project
    if attempt.held_roots is None:
        return _lists(attempt, [root.canonical_path for root in roots_of_project(project)])
    given = RunPolicy.objects.filter(pk=attempt.pk).values_list("given_roots", flat=True).first()
    held = {*attempt.held_roots, *(given or [])}
    roots = [
        root.canonical_path
        for root in enabled_roots(user_id=project.owner_id)
        if str(root.pk) in held or _holds_project(root, project)
    ]
    return _lists(attempt, roots)


def _holds_project(root: WritableRoot, project: Project) -> bool:
    """Return whether a root stands for the attempt's own worktree, and opens nothing else."""
    return PurePosixPath(project.repo_path).is_relative_to(root.canonical_path)


def _lists(attempt: Attempt, roots: list[str]) -> tuple[list[str], list[str]]:
    project = attempt.task.project
    granted = _GRANTED_FOR_TASK(attempt.task_id)
    for_task = [path for operation, path in granted if operation != AccessOperation.READ]
    writable = [*roots, *_less_projects(attempt, for_task)]
    readable = [str(path) for path in project.option("readable_paths", [])]
    readable += [path for operation, path in granted if operation == AccessOperation.READ]
    # What the user pointed the agent at; inside of the project it has its own copy.
    inside = f"{project.repo_path}/"
    readable += [
        path
        for path in attempt.reference_paths
        if path.startswith("/") and path != project.repo_path and not path.startswith(inside)
    ]
    return list(dict.fromkeys(writable)), list(dict.fromkeys(readable))


def _less_projects(attempt: Attempt, folders: list[str]) -> list[str]:
    """Leave out what had become a project by the time the attempt was made.

    A folder is granted for a task when it is no project's; the task's next attempt may come later.
    """
    if not folders:
        return []
    project = attempt.task.project
    others = Project.objects.filter(
        owner_id=project.owner_id, created_at__lt=attempt.created_at
    ).exclude(pk=project.pk)
    paths = [PurePosixPath(path) for path in others.values_list("repo_path", flat=True)]
    return [one for one in folders if not any(overlaps(one, path) for path in paths)]


_GRANTED_FOR_TASK: Prepared[tuple[str, str]] = Prepared(
    lambda task_id: (
        AccessRequest.objects.filter(
            attempt__task_id=task_id, status=AccessStatus.GRANTED, scope=AccessScope.TASK
        )
        .order_by("decided_at")
        .values_list("operation", "granted_folder")
    ),
    uuid.UUID,
)


def note_change(
    *, user_id: uuid.UUID, granted: WritableRoot | None = None, asked_by: uuid.UUID | None = None
) -> None:
    """Count a change for each of the user's runs; the LDA is told after the commit.

    Parameters
    ----------
    user_id
        Whose runs.
    granted
        A root that counts from now on: for runs that begin, and those it is meant for.
    asked_by
        The attempt whose request it was granted on, if any.

    Needs a running transaction, the one that changes roots or grants. When it has committed and
    this returned to its caller, the LDA has it in force, unless it does not answer; then the sweep
    tells it as soon as it does.
    """
    live = Attempt.objects.filter(task__project__owner_id=user_id, status__in=LIVE_STATUSES)
    ids = list(live.order_by("pk").values_list("pk", flat=True))
    RunPolicy.objects.bulk_create([RunPolicy(attempt_id=pk) for pk in ids], ignore_conflicts=True)
    rows = RunPolicy.objects.filter(pk__in=ids)
    # Locked in one order, so that two changes cannot wait for each other.
    list(rows.select_for_update(no_key=True).order_by("pk").values_list("pk"))
    if granted is not None:
        _give(granted, ids, asked_by)
    rows.update(generation=F("generation") + 1)
    transaction.on_commit(lambda: _push_all(ids), robust=True)


def _give(root: WritableRoot, attempt_ids: list[uuid.UUID], asked_by: uuid.UUID | None) -> None:
    """Have a run hold a root that was granted on its request, or that was open to it already.

    That it asked is not enough: an agent may ask for anything, and wait for others' grants.
    """
    around = [
        other
        for other in enabled_roots(user_id=root.user_id)
        if PurePosixPath(root.canonical_path).is_relative_to(other.canonical_path)
    ]
    states = RunPolicy.objects.filter(pk__in=attempt_ids)
    for state in states.select_related("attempt__task__project"):
        attempt = state.attempt
        held = {*(attempt.held_roots or {}), *state.given_roots}
        # One around its project is its own worktree to it, and nothing of what lies beside.
        open_by_now = any(
            str(other.pk) in held and not _holds_project(other, attempt.task.project)
            for other in around
        )
        meant = state.pk == asked_by or open_by_now
        if meant and str(root.pk) not in held:
            state.given_roots = [*state.given_roots, str(root.pk)]
            state.save(update_fields=["given_roots"])


def _push_all(attempt_ids: Iterable[uuid.UUID]) -> None:
    for attempt_id in attempt_ids:
        push_policy(attempt_id)


def push_if_changed(attempt_id: uuid.UUID) -> None:
    """Tell the LDA after the commit, if something changed while the run was handed over."""

    def push() -> None:
        if _CHANGED(attempt_id):
            push_policy(attempt_id)

    transaction.on_commit(push, robust=True)


_CHANGED = Prepared(
    lambda pk: RunPolicy.objects.filter(pk=pk, generation__gt=F("applied_generation")).values_list(
        "pk"
    ),
    uuid.UUID,
)


def push_policy(attempt_id: uuid.UUID) -> bool:
    """Tell the LDA what a run may do now.

    Returns
    -------
    bool
        Whether that is settled: in force, or the run is over.
    """
    with transaction.atomic():
        state = RunPolicy.objects.select_for_update(no_key=True).filter(pk=attempt_id).first()
        attempt = Attempt.objects.select_related("task__project").filter(pk=attempt_id).first()
        if state is None or attempt is None or attempt.status not in LIVE_STATUSES:
            return True
        writable, readable = granted_lists(attempt)
    body = {
        "generation": state.generation,
        "lease_generation": attempt.lease_generation,
        "writable_roots": writable,
        "readable_paths": readable,
    }
    try:
        audience = lda_audience(**place_of(attempt))
        answer = lda_request(
            "POST", f"/runs/{attempt_id}/policy", **place_of(attempt), body=body,
            timeout_s=PUSH_TIMEOUT_S,
        )  # fmt: skip
    except LdaUnreachableError as error:
        logger.warning("Attempt %s keeps its policy for now: %s", attempt_id, error)
        return False
    except LdaRefusedError as refusal:
        if refusal.code == "run-over":
            return True
        # Not handed over yet, or being handed over again: told once it runs.
        logger.info("Attempt %s did not take its policy: %s", attempt_id, refusal.detail)
        return False
    for entry in answer.get("refused", []):
        logger.warning("%s grants nothing: %s", entry.get("path"), entry.get("detail"))
    newer = RunPolicy.objects.filter(pk=attempt_id, applied_generation__lte=state.generation)
    newer.update(applied_generation=state.generation, applied_to=audience)
    return True


def sweep_policies() -> int:
    """Tell the LDA what it could not be told, or a new process of it does not know."""
    states = RunPolicy.objects.filter(
        attempt__status__in=LIVE_STATUSES, attempt__handed_over_at__isnull=False
    )
    states = states.select_related("attempt__task__project")
    return sum(push_policy(state.pk) for state in list(states) if _is_behind(state))


def _is_behind(state: RunPolicy) -> bool:
    """Return whether the LDA that has the run can be told something that it does not know."""
    try:
        audience = lda_audience(**place_of(state.attempt))
    except (LdaUnreachableError, LdaRefusedError):
        return False
    return state.generation > state.applied_generation or state.applied_to != audience
