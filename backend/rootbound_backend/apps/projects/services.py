"""Writes on projects."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from rootbound_backend import queueing
from rootbound_backend.apps.attempts.models import Attempt, AttemptStatus
from rootbound_backend.apps.local_access.live_policy import note_change
from rootbound_backend.apps.local_access.selectors import enabled_root_paths
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.projects.selectors import get_project
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem

__all__ = [
    "branches_of_repository",
    "create_project",
    "delete_project",
    "discard_with",
    "refuse_while_live",
    "update_project",
]


def create_project(
    *,
    user: User,
    name: str,
    repo_path: str,
    config: dict[str, Any],
    default_branch: str | None = None,
) -> Project:
    """Store a project after the LDA has looked at its repository.

    Parameters
    ----------
    user
        Owner.
    name
        Display name.
    repo_path
        Absolute path of a git work tree beneath one of the user's enabled roots.
    config
        Validated configuration.
    default_branch
        Branch that work starts from and is merged into; default the one that is checked out.

    Raises
    ------
    Problem
        422 with the LDA's reason when the repository cannot be used; 503 when it does not answer.
    """
    facts = _validate_repository(user=user, repo_path=repo_path, branch=default_branch)
    config = _with_canonical_paths(config, user=user, repo_path=repo_path)
    project = Project.objects.create(
        owner=user,
        name=name,
        repo_path=facts["canonical_path"],
        default_branch=facts["default_branch"],
        config=config,
    )
    return get_project(user=user, project_id=project.pk)


def _validate_repository(
    *, user: User, repo_path: str, branch: str | None = None
) -> dict[str, Any]:
    named = {} if branch is None else {"branch": branch}
    return _ask_of_repository("validate", user=user, repo_path=repo_path, **named)


def branches_of_repository(*, user: User, repo_path: str) -> dict[str, Any]:
    """Return the branches that a project of a repository could have its work merged into.

    Returns
    -------
    dict
        ``checked_out`` (a branch, or None) and ``branches``, at most 200, the newest work first.

    Raises
    ------
    Problem
        422 with the LDA's reason when it is no repository, or in a folder that cannot be granted;
        503 when the LDA does not answer.
    """
    return _ask_of_repository("branches", user=user, repo_path=repo_path)


def _ask_of_repository(what: str, *, user: User, repo_path: str, **more: str) -> dict[str, Any]:
    roots = enabled_root_paths(user_id=user.pk)
    facts: dict[str, Any] = lda_request(
        "POST",
        f"/repos/{what}",
        user_id=user.pk,
        path=repo_path,
        body={"path": repo_path, "writable_roots": roots, **more},
        timeout_s=30,
    )
    return facts


def _with_canonical_paths(config: dict[str, Any], *, user: User, repo_path: str) -> dict[str, Any]:
    """Have the LDA of the repository look at readable paths; stored free of symbolic links."""
    paths = config.get("readable_paths")
    if not paths:
        return config
    looked_at = [
        lda_request(
            "POST",
            "/roots/validate",
            user_id=user.pk,
            path=repo_path,
            body={"path": path, "access": "READ"},
            timeout_s=30,
        )
        for path in paths
    ]
    canonical = [str(facts["canonical_path"]) for facts in looked_at]
    return {**config, "readable_paths": list(dict.fromkeys(canonical))}


def update_project(*, user: User, project_id: uuid.UUID, fields: dict[str, Any]) -> Project:
    """Change name, repository, branch or configuration; what is not given stays as it is.

    Raises
    ------
    Problem
        404; 422 and 503 as at creation when the repository or the branch changes.
    """
    found = get_project(user=user, project_id=project_id)
    facts = None
    config = _with_canonical_paths(
        fields.get("config", {}), user=user, repo_path=fields.get("repo_path", found.repo_path)
    )
    if "repo_path" in fields or "default_branch" in fields:
        facts = _validate_repository(
            user=user,
            repo_path=fields.get("repo_path", found.repo_path),
            branch=fields.get("default_branch"),
        )
    with transaction.atomic():
        project = Project.objects.select_for_update().get(pk=project_id)
        if "name" in fields:
            project.name = fields["name"]
        if "config" in fields:
            project.config = {**project.config, **config}
        if facts is not None:
            project.repo_path = facts["canonical_path"]
            project.default_branch = facts["default_branch"]
        project.save()
        if "readable_paths" in config:
            note_change(user_id=user.pk)
    return get_project(user=user, project_id=project_id)


def delete_project(*, user: User, project_id: uuid.UUID) -> None:
    """Delete a project with its tasks and attempts; the repository and the audit log stay.

    The attempts' worktrees go, and what was committed stays under ``refs/rootbound/discarded``.

    Raises
    ------
    Problem
        404; 409 ``attempt-live`` while an attempt is at work.
    """
    get_project(user=user, project_id=project_id)
    with transaction.atomic():
        Project.objects.select_for_update().filter(pk=project_id).first()
        attempts = Attempt.objects.filter(task__project_id=project_id)
        refuse_while_live(attempts, "project")
        discard_with(attempts)
        Project.objects.filter(pk=project_id).delete()


def discard_with(attempts: QuerySet[Attempt]) -> None:
    """Have the worktrees of attempts that are about to be deleted removed; their commits stay."""
    begun = attempts.exclude(lease_generation=0).exclude(status=AttemptStatus.SUCCESS)
    places = begun.values_list("pk", "task__project__owner_id", "task__project__repo_path")
    for attempt_id, owner_id, repo_path in places:
        queueing.enqueue_on_commit(queueing.DISCARD_DELETED_RUN, attempt_id, owner_id, repo_path)


def refuse_while_live(attempts: Any, what: str) -> None:
    """Refuse a deletion that would pull the ground from under a run.

    Raises
    ------
    Problem
        409 ``attempt-live``.
    """
    live = [AttemptStatus.QUEUED, AttemptStatus.RUNNING, AttemptStatus.GATES]
    if attempts.filter(status__in=live).exists():
        raise Problem(
            status=409,
            code="attempt-live",
            detail=f"An attempt of this {what} is at work; cancel it, then delete the {what}.",
        )
