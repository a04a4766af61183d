"""Requests for access: made by denied operations, decided by the user."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Protocol

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt, EventType
from rootbound_backend.apps.attempts.transitions import append_event, lock_attempt, touch_task
from rootbound_backend.apps.local_access.access_models import (
    AccessOperation,
    AccessRequest,
    AccessScope,
    AccessStatus,
)
from rootbound_backend.apps.local_access.live_policy import granted_lists, note_change
from rootbound_backend.apps.local_access.models import WritableRoot
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem, not_found

__all__ = [
    "MAX_REQUESTS",
    "access_requests",
    "expire_requests",
    "get_access_request",
    "grant_request",
    "note_denials",
    "refuse_request",
]

MAX_REQUESTS = 100
"""Requests that one attempt may make; what is denied beyond that is only in the audit log."""

_VERBS = {"READ": "read", "WRITE": "write", "DELETE": "delete"}
_SCOPES = {AccessScope.TASK: "for this task", AccessScope.ALWAYS: "always"}


class Denial(Protocol):
    """What this module needs of an audit entry that comes in."""

    timestamp: datetime
    operation: Any
    result: Any
    path: str
    detail: msgspec.Raw


class _Grant(msgspec.Struct):
    folder: str = ""


class _Detail(msgspec.Struct):
    grant: _Grant = msgspec.field(default_factory=_Grant)
    program: str = ""
    tool: str = ""


_DETAIL = msgspec.json.Decoder(_Detail)


@dataclass(slots=True)
class _Denied:
    """What one batch says about one folder and operation."""

    path: str
    program: str
    at: datetime
    count: int = 0


# -- made by denials -------------------------------------------------------------------------------


def note_denials(*, attempt_id: uuid.UUID, entries: list[Any]) -> None:
    """Make or count up the requests of denied operations; needs a running transaction.

    What the LDA says can never be granted makes none, nor does what is granted by now.

    Parameters
    ----------
    attempt_id
        Whose audit entries they are.
    entries
        New entries; those that were allowed are skipped.
    """
    denied = _grantable(entries)
    if not denied:
        return
    attempt = lock_attempt(attempt_id)
    writable, readable = granted_lists(attempt)
    known = {(row.folder, row.operation): row for row in attempt.access_requests.all()}
    asked = False
    for (folder, operation), facts in denied.items():
        reach = [*writable, *readable] if operation == AccessOperation.READ else writable
        granted = any(_holds(root, folder) for root in reach)
        row = known.get((folder, operation))
        if row is None and not granted and len(known) < MAX_REQUESTS:
            row = AccessRequest(
                attempt=attempt, run_id=attempt.pk, folder=folder, operation=operation, count=0
            )
            known[folder, operation] = row
        if row is None:
            continue
        again = row.status == AccessStatus.GRANTED and not granted
        if again:
            # What was granted has been taken back since: the decision is open once more.
            row.status, row.scope, row.decided_at, row.decided_by = (
                AccessStatus.PENDING, None, None, None,
            )  # fmt: skip
        new = again or row.count == 0
        row.count += facts.count
        row.path, row.program, row.last_denied_at = facts.path, facts.program, facts.at
        row.save()
        if new:
            text = f"Denied: {_VERBS[operation]} in {folder}. It waits for your decision."
            _tell(attempt, row, text)
            asked = True
    if asked:
        attempt.save(update_fields=["last_seq"])


def _grantable(entries: list[Any]) -> dict[tuple[str, str], _Denied]:
    """Group the denied entries by what would have to be granted."""
    found: dict[tuple[str, str], _Denied] = {}
    entry: Denial
    for entry in entries:
        if entry.result != "DENIED":
            continue
        try:
            detail = _DETAIL.decode(entry.detail)
        except msgspec.ValidationError:
            continue  # not of our LDA's making: the entry is stored, but nothing can be proposed
        folder = detail.grant.folder
        if not folder.startswith("/") or len(folder) > 1024:
            continue
        key = (folder, entry.operation)
        program = (detail.program or detail.tool)[:1024]
        facts = found.setdefault(key, _Denied(entry.path, program, entry.timestamp))
        facts.path, facts.program, facts.at = entry.path, program, entry.timestamp
        facts.count += 1
    return found


def _holds(root: str, folder: str) -> bool:
    return PurePosixPath(folder).is_relative_to(root)


def _tell(attempt: Attempt, row: AccessRequest, text: str, by: str | None = None) -> None:
    """Put the request and what became of it into the attempt's stream."""
    payload = {
        "kind": "access",
        "request": str(row.pk),
        "folder": row.granted_folder or row.folder,
        "operation": row.operation,
        "path": row.path,
        "program": row.program,
        "status": row.status,
        "scope": row.scope,
        "by": by,
        "text": text,
    }
    append_event(attempt, EventType.LOG, payload)


def _touch(attempt: Attempt) -> None:
    """Let every view of the project look again."""
    task = Task.objects.select_for_update(no_key=True).get(pk=attempt.task_id)
    touch_task(task)
    task.save(update_fields=["revision"])


# -- reads -----------------------------------------------------------------------------------------


def access_requests(
    *,
    user: User,
    attempt: uuid.UUID | None = None,
    project: uuid.UUID | None = None,
    status: str | None = None,
) -> QuerySet[AccessRequest]:
    """Return the requests put to a user, filtered, without an order."""
    rows = AccessRequest.objects.filter(attempt__task__project__owner=user)
    rows = rows.select_related("attempt__task", "decided_by")
    if attempt is not None:
        rows = rows.filter(attempt_id=attempt)
    if project is not None:
        rows = rows.filter(attempt__task__project_id=project)
    if status:
        rows = rows.filter(status=status)
    return rows


def get_access_request(*, user: User, request_id: uuid.UUID) -> AccessRequest:
    """Return one request put to the user.

    Raises
    ------
    Problem
        404 when it does not exist or is put to somebody else.
    """
    found = access_requests(user=user).filter(pk=request_id).first()
    if found is None:
        raise not_found("access request")
    return found


# -- decisions -------------------------------------------------------------------------------------


def grant_request(
    *, user: User, request_id: uuid.UUID, scope: str, folder: str | None = None
) -> AccessRequest:
    """Grant what was asked for; a live run has it in force when this returns.

    Parameters
    ----------
    user
        Who decides.
    request_id
        The request.
    scope
        ``TASK``: for the runs of this task. ``ALWAYS``: writing as a root of the user's, reading
        for all runs of the project.
    folder
        Another folder than the one proposed, wider or narrower. Default the one proposed.

    Raises
    ------
    Problem
        404; 409 ``request-decided``, ``request-expired`` or ``root-moved``; 422 with the reason
        when the folder cannot be granted; 503 when the LDA does not answer.
    """
    row = get_access_request(user=user, request_id=request_id)
    _refuse_unless_pending(row)
    granted = _validated(row, folder)
    with transaction.atomic():
        attempt = lock_attempt(row.attempt_id)
        row = AccessRequest.objects.select_for_update(no_key=True).get(pk=row.pk)
        _refuse_unless_pending(row)
        _refuse_projects(attempt.task.project, granted, reads_only=row.reads_only)
        root = None
        if scope == AccessScope.ALWAYS:
            root = _grant_always(user, attempt.task.project, granted, reads_only=row.reads_only)
        others = AccessRequest.objects.filter(attempt=attempt, status=AccessStatus.PENDING)
        settled = [one for one in others.exclude(pk=row.pk) if _settles(row, granted, one)]
        for one in (row, *settled):
            one.status, one.scope, one.granted_folder = AccessStatus.GRANTED, scope, granted
            one.decided_by, one.decided_at = user, timezone.now()
            one.save()
        what = "read" if row.reads_only else "write"
        text = f"{user.username} granted {what} access to {granted} {_SCOPES[AccessScope(scope)]}."
        _tell(attempt, row, text, by=user.username)
        attempt.save(update_fields=["last_seq"])
        _touch(attempt)
        note_change(user_id=attempt.task.project.owner_id, granted=root, asked_by=attempt.pk)
    return get_access_request(user=user, request_id=request_id)


def refuse_request(*, user: User, request_id: uuid.UUID) -> AccessRequest:
    """Refuse what was asked for, or take back what was granted for the task.

    Raises
    ------
    Problem
        404; 409 ``request-decided`` or ``request-expired``.
    """
    row = get_access_request(user=user, request_id=request_id)
    with transaction.atomic():
        attempt = lock_attempt(row.attempt_id)
        row = AccessRequest.objects.select_for_update(no_key=True).get(pk=row.pk)
        rows = [row]
        taken_back = row.status == AccessStatus.GRANTED and row.scope == AccessScope.TASK
        if taken_back:
            alike = AccessRequest.objects.filter(
                attempt__task_id=attempt.task_id,
                status=AccessStatus.GRANTED,
                scope=AccessScope.TASK,
                granted_folder=row.granted_folder,
            )
            rows += list(alike.exclude(pk=row.pk))
        else:
            _refuse_unless_pending(row)
        for one in rows:
            one.status, one.scope, one.granted_folder = AccessStatus.REFUSED, None, ""
            one.decided_by, one.decided_at = user, timezone.now()
            one.save()
        verb = "took back" if taken_back else "refused"
        text = f"{user.username} {verb} access to {row.folder} ({_VERBS[row.operation]})."
        _tell(attempt, row, text, by=user.username)
        attempt.save(update_fields=["last_seq"])
        _touch(attempt)
        if taken_back:
            note_change(user_id=attempt.task.project.owner_id)
    return get_access_request(user=user, request_id=request_id)


def _refuse_unless_pending(row: AccessRequest) -> None:
    over = row.expires_at is not None and row.expires_at <= timezone.now()
    if row.status == AccessStatus.EXPIRED or (row.status == AccessStatus.PENDING and over):
        raise Problem(
            status=409,
            code="request-expired",
            detail=(
                f"The attempt that asked for {row.folder} ended some time ago; grant the folder in "
                "the settings, or retry the task and decide then."
            ),
        )
    if row.status != AccessStatus.PENDING:
        way_out = (
            "; delete or switch off the root to take it back"
            if row.scope == AccessScope.ALWAYS
            else ""
        )
        raise Problem(
            status=409,
            code="request-decided",
            detail=f"Access to {row.folder} was {row.status.lower()} already{way_out}.",
            extras={"decision": row.status},
        )


def _validated(row: AccessRequest, folder: str | None) -> str:
    """Have the LDA look at what is to be granted; return its canonical path."""
    path = row.folder if folder is None else folder
    project = row.attempt.task.project  # on whose machine the path is meant
    body = {"path": path, "access": "READ" if row.reads_only else "WRITE"}
    facts = lda_request(
        "POST", "/roots/validate", user_id=project.owner_id, path=project.repo_path, body=body,
        timeout_s=30,
    )  # fmt: skip
    canonical = str(facts["canonical_path"])
    if len(canonical) > 1024:
        raise Problem(
            status=422, code="root-too-long", detail="The path is longer than 1024 characters."
        )
    if folder is None and canonical != row.folder:
        raise Problem(
            status=409,
            code="root-moved",
            detail=f"{row.folder} now leads to {canonical}; nothing was granted.",
        )
    return canonical


def _refuse_projects(project: Project, granted: str, *, reads_only: bool) -> None:
    """Refuse to open checkouts for writing: agents work in copies, each in its own project's."""
    if reads_only:
        return
    owned = Project.objects.filter(owner_id=project.owner_id)
    for repository, name in owned.values_list("repo_path", "name"):
        if _holds(repository, granted) or _holds(granted, repository):
            raise Problem(
                status=422,
                code="root-is-project",
                detail=(
                    f"{granted} holds or lies in the project “{name}”, whose files agents only "
                    "change in copies; choose another folder."
                ),
            )


def _grant_always(
    user: User, project: Project, granted: str, *, reads_only: bool
) -> WritableRoot | None:
    """Make a root, or for reading alone a readable path of the project; return the root."""
    if reads_only:
        locked = Project.objects.select_for_update().get(pk=project.pk)
        paths = [*locked.option("readable_paths", []), granted]
        locked.config = {**locked.config, "readable_paths": list(dict.fromkeys(paths))}
        locked.save(update_fields=["config"])
        return None
    root, created = WritableRoot.objects.get_or_create(
        user=user, canonical_path=granted, defaults={"path": granted}
    )
    if not created and not root.is_enabled:
        root.is_enabled = True
        root.save(update_fields=["is_enabled"])
    return root


def _settles(decided: AccessRequest, granted: str, other: AccessRequest) -> bool:
    """Tell whether a grant answers another request of the attempt as well."""
    return _holds(granted, other.folder) and (other.reads_only or not decided.reads_only)


# -- time ------------------------------------------------------------------------------------------


def expire_requests() -> int:
    """Give the requests of ended attempts their end; return how many expired now."""
    now = timezone.now()
    waiting = AccessRequest.objects.filter(status=AccessStatus.PENDING)
    ended = waiting.filter(expires_at__isnull=True).exclude(attempt__status__in=LIVE_STATUSES)
    for row in ended.select_related("attempt"):
        end = row.attempt.completed_at or now
        row.expires_at = end + timedelta(seconds=settings.ACCESS_REQUEST_TTL_S)
        row.save(update_fields=["expires_at"])
    return waiting.filter(expires_at__lte=now).update(status=AccessStatus.EXPIRED)
