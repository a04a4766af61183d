"""Whether somebody decides on a task as it is, or as it was."""

from __future__ import annotations

from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.problems import Problem

__all__ = ["refuse_stale"]


def refuse_stale(task: Task, version: int | None) -> None:
    """Refuse to act on a task that was changed since it was seen.

    Parameters
    ----------
    task
        The task as it is.
    version
        The version that the caller saw; None to act on whatever is there.

    Raises
    ------
    Problem
        409 ``version-conflict``, with the task's ``version``.
    """
    if version is not None and version != task.version:
        raise Problem(
            status=409,
            code="version-conflict",
            detail="Somebody changed this task meanwhile; look at it as it is now and try again.",
            extras={"version": task.version},
        )
