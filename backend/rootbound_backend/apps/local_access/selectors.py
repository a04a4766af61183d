"""Reads of roots and decompositions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import PurePosixPath

from django.db.models import QuerySet

from rootbound_backend.apps.local_access.access_models import (
    AccessRequest,
    AccessScope,
    AccessStatus,
)
from rootbound_backend.apps.local_access.models import (
    PMDecomposition,
    WritableRoot,
)
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found
from rootbound_backend.statements import Prepared

__all__ = [
    "agent_folders",
    "decompositions_of_project",
    "enabled_root_paths",
    "enabled_roots",
    "folder_open_to_agents",
    "get_decomposition",
    "get_root",
    "overlaps",
    "root_paths_of_project",
    "roots_of",
    "roots_of_project",
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


def enabled_roots(*, user_id: uuid.UUID) -> list[WritableRoot]:
    """Return a user's enabled roots, in the order of their canonical paths."""
    return _ENABLED_ROOTS(user_id)


_ENABLED_ROOTS: Prepared[WritableRoot] = Prepared(
    lambda user_id: WritableRoot.objects.filter(user_id=user_id, is_enabled=True).order_by(
        "canonical_path"
    ),
    uuid.UUID,
)


def enabled_root_paths(*, user_id: uuid.UUID) -> list[str]:
    """Return the canonical paths of a user's enabled roots."""
    return [root.canonical_path for root in enabled_roots(user_id=user_id)]


def root_paths_of_project(project: Project) -> list[str]:
    """Return the canonical paths of :func:`roots_of_project`."""
    return [root.canonical_path for root in roots_of_project(project)]


def roots_of_project(project: Project) -> list[WritableRoot]:
    """Return the roots that a run on a project may be given.

    These are its owner's enabled roots, less those that touch another project's repository:
    a grant for one project is none for the agents of another. A root that holds this project is
    always among them; the LDA maps it to the attempt's worktree.
    """
    own = PurePosixPath(project.repo_path)
    others = [PurePosixPath(path) for (path,) in _OTHER_PROJECTS(project.owner_id, project.pk)]
    return [
        root
        for root in enabled_roots(user_id=project.owner_id)
        if own.is_relative_to(root.canonical_path)
        or not any(overlaps(root.canonical_path, path) for path in others)
    ]


_OTHER_PROJECTS: Prepared[tuple[str]] = Prepared(
    lambda owner_id, pk: (
        Project.objects.filter(owner_id=owner_id).exclude(pk=pk).order_by().values_list("repo_path")
    ),
    uuid.UUID,
    uuid.UUID,
)


def agent_folders(*, user_id: uuid.UUID) -> tuple[list[str], list[str]]:
    """Return a user's granted folders, for always or for a task, and the projects' repositories.

    Agents may write in a granted folder, except that one around a repository is mapped to the
    attempt's worktree: the checkout itself stays the user's.
    """
    for_tasks = AccessRequest.objects.filter(
        attempt__task__project__owner_id=user_id,
        status=AccessStatus.GRANTED,
        scope=AccessScope.TASK,
    ).values_list("granted_folder", flat=True)
    granted = {*enabled_root_paths(user_id=user_id), *for_tasks}
    repositories = Project.objects.filter(owner_id=user_id).values_list("repo_path", flat=True)
    return sorted(granted), sorted(set(repositories))


def folder_open_to_agents(
    path: PurePosixPath, folders: Sequence[str], repositories: Sequence[str]
) -> str | None:
    """Return the granted folder in which agents could write a path, or None."""
    for folder in folders:
        kept = any(
            path.is_relative_to(repository) and PurePosixPath(repository).is_relative_to(folder)
            for repository in repositories
        )
        if path.is_relative_to(folder) and not kept:
            return folder
    return None


def overlaps(root: str, folder: PurePosixPath) -> bool:
    """Return whether one of two folders holds the other."""
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
