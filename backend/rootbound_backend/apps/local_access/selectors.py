"""Reads of roots, the audit log and decompositions."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from django.db.models import Count, Q, QuerySet, Subquery

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.local_access.models import (
    FsAuditEvent,
    PMDecomposition,
    WritableRoot,
)
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found

__all__ = [
    "audit_counts",
    "audit_entries",
    "broken_link",
    "decompositions_of_project",
    "enabled_root_paths",
    "get_decomposition",
    "get_root",
    "root_paths_of_project",
    "roots_of",
]


def roots_of(user: User) -> QuerySet[WritableRoot]:
    """Return the roots of one user."""
    return WritableRoot.objects.filter(user=user)


def get_root(*, user: User, root_id: uuid.UUID) -> WritableRoot:
    """Return one root of the user's.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    root = roots_of(user).filter(pk=root_id).first()
    if root is None:
        raise not_found("root")
    return root


def enabled_root_paths(*, user_id: uuid.UUID) -> list[str]:
    """Return the canonical paths of a user's enabled roots."""
    rows = WritableRoot.objects.filter(user_id=user_id, is_enabled=True)
    return list(rows.order_by("canonical_path").values_list("canonical_path", flat=True))


def root_paths_of_project(project: Project) -> list[str]:
    """Return the roots that a run on a project may be given.

    These are its owner's enabled roots, less those that touch another project's repository:
    a grant for one project is none for the agents of another. A root that holds this project is
    always among them; the LDA maps it to the attempt's worktree.
    """
    own = PurePosixPath(project.repo_path)
    paths = Project.objects.filter(owner_id=project.owner_id).exclude(pk=project.pk)
    others = [PurePosixPath(path) for path in paths.values_list("repo_path", flat=True)]
    return [
        root
        for root in enabled_root_paths(user_id=project.owner_id)
        if own.is_relative_to(root) or not any(_overlaps(root, path) for path in others)
    ]


def _overlaps(root: str, folder: PurePosixPath) -> bool:
    return folder.is_relative_to(root) or PurePosixPath(root).is_relative_to(folder)


def get_decomposition(*, user: User, decomposition_id: uuid.UUID) -> PMDecomposition:
    """Return one decomposition of the user's.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    found = PMDecomposition.objects.filter(pk=decomposition_id, project__owner=user).first()
    if found is None:
        raise not_found("decomposition")
    return found


def decompositions_of_project(*, user: User, project_id: uuid.UUID) -> QuerySet[PMDecomposition]:
    """Return the decompositions of one project of the user's."""
    return PMDecomposition.objects.filter(project_id=project_id, project__owner=user)


def audit_entries(
    *,
    user: User,
    attempt: uuid.UUID | None = None,
    project: uuid.UUID | None = None,
    operation: str | None = None,
    result: str | None = None,
    path_prefix: str | None = None,
) -> QuerySet[FsAuditEvent]:
    """Return the user's audit entries, filtered, without an order."""
    rows = FsAuditEvent.objects.filter(user=user)
    if attempt is not None:
        rows = rows.filter(run_id=attempt)
    if project is not None:
        attempts = Attempt.objects.filter(task__project_id=project).values("pk")
        plans = PMDecomposition.objects.filter(project_id=project).values("pk")
        rows = rows.filter(Q(run_id__in=Subquery(attempts)) | Q(run_id__in=Subquery(plans)))
    if operation:
        rows = rows.filter(operation=operation)
    if result:
        # The IN form is the one that the partial index was made with.
        rows = rows.filter(result__in=[result])
    if path_prefix:
        rows = rows.filter(path__startswith=path_prefix)
    return rows


def audit_counts(
    *, user: User, attempt: uuid.UUID | None = None, project: uuid.UUID | None = None
) -> list[dict[str, Any]]:
    """Return the number of entries by operation and result."""
    rows = audit_entries(user=user, attempt=attempt, project=project)
    counts = (
        rows.order_by()
        .values("operation", "result")
        .annotate(count=Count("id"))
        .order_by("operation", "result")
    )
    return [dict(row) for row in counts]


def broken_link(*, run_id: uuid.UUID) -> int | None:
    """Check one run's audit chain.

    Parameters
    ----------
    run_id
        The run.

    Returns
    -------
    int or None
        The seq of the first entry that is missing or does not follow from the one before it;
        None when the chain is whole.
    """
    before, expected = "0" * 64, 1
    for entry in FsAuditEvent.objects.filter(run_id=run_id).order_by("seq").iterator():
        if entry.seq != expected or entry.hash not in _possible_hashes(before, entry):
            return expected
        before, expected = entry.hash, expected + 1
    return None


def _possible_hashes(before: str, entry: FsAuditEvent) -> set[str]:
    """Return the hashes of an entry for each precision its timestamp may have been written in."""
    facts = {
        "seq": entry.seq,
        "operation": entry.operation,
        "result": entry.result,
        "path": entry.path,
        "source": entry.source,
        "detail": entry.detail,
    }
    hashes = set()
    for text in _spellings(entry.timestamp):
        canonical = json.dumps(
            {**facts, "timestamp": text},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )
        hashes.add(hashlib.sha256(f"{before}\n{canonical}".encode()).hexdigest())
    return hashes


def _spellings(moment: datetime) -> list[str]:
    bare = moment.strftime("%Y-%m-%dT%H:%M:%S")
    micro = f"{moment.microsecond:06d}"
    return [f"{bare}Z", *(f"{bare}.{micro[:digits]}Z" for digits in range(1, 7))]
