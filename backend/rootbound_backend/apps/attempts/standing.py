"""Whether an attempt still stands as somebody saw it."""

from __future__ import annotations

from rootbound_backend.apps.attempts.models import Attempt, AttemptStatus
from rootbound_backend.problems import Problem

__all__ = ["refuse_moved", "refuse_superseded"]


def refuse_moved(attempt: Attempt, status: str | None) -> None:
    """Refuse to go on from an attempt that somebody decided on since it was seen.

    Parameters
    ----------
    attempt
        The attempt as it is.
    status
        Its status that the caller saw; None to go on from whatever is there.

    Raises
    ------
    Problem
        409 ``attempt-moved``.
    """
    if status is not None and status != attempt.status:
        raise Problem(
            status=409,
            code="attempt-moved",
            detail=(
                f"This attempt is {attempt.status} now, no longer {status} as you saw it; look "
                "at it and decide again."
            ),
            extras={"from": attempt.status},
        )


def refuse_superseded(attempt: Attempt) -> None:
    """Refuse to try again what was tried again; who asks has not seen how that ended."""
    newest = Attempt.objects.filter(task_id=attempt.task_id).order_by("-number")[0]
    # One that is at work, or was merged, is told of by what starts attempts.
    if newest.pk == attempt.pk or newest.status != AttemptStatus.FAILED:
        return
    raise Problem(
        status=409,
        code="attempt-superseded",
        detail=(
            f"Attempt {newest.number} came after this one and ended as {newest.failure}; retry "
            f"attempt {newest.number}, or request changes here to go on with this one's work."
        ),
        extras={"newest": str(newest.pk), "number": newest.number},
    )
