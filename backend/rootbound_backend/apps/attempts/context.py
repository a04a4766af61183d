"""What an agent is told besides its task: results it builds on, and what went wrong before."""

from __future__ import annotations

from rootbound_backend.apps.attempts.artifacts import end_of_artifact
from rootbound_backend.apps.attempts.models import Attempt, AttemptStatus, Gate, ReviewComment
from rootbound_backend.apps.tasks.models import Task

__all__ = ["context_of"]

MAX_RESULT = 2_000
MAX_LOG = 6_000
MAX_COMMENTS = 100


def context_of(attempt: Attempt) -> str | None:
    """Return the context of an attempt as text, None when there is nothing to say."""
    parts = [_dependencies(attempt.task), _before(attempt)]
    if attempt.feedback:
        parts.append(f"Feedback of the user: {attempt.feedback}")
    return "\n\n".join(part for part in parts if part) or None


def _dependencies(task: Task) -> str:
    """Return what came of the tasks that this one depends on."""
    if not task.dependencies:
        return ""
    done = (
        Attempt.objects.filter(task_id__in=task.dependencies, status=AttemptStatus.SUCCESS)
        .select_related("task")
        .order_by("task__created_at", "number")
    )
    lines = []
    for attempt in done:
        files = attempt.diff_stats.get("files")
        size = f" ({files} files changed)" if files else ""
        lines.append(f"- {attempt.task.title}{size}: {attempt.summary[:MAX_RESULT] or 'merged.'}")
    if not lines:
        return ""
    return "This task builds on these, which are merged already:\n" + "\n".join(lines)


def _before(attempt: Attempt) -> str:
    """Return how the attempt before ended: reason, gate output and the reviewer's comments."""
    if attempt.number == 1:
        return ""
    before = attempt.continues or (
        Attempt.objects.filter(task_id=attempt.task_id, number__lt=attempt.number)
        .order_by("-number")
        .first()
    )
    if before is None:
        return ""
    parts = []
    if attempt.continues_id:
        parts.append(
            "Your branch already holds the work of an earlier attempt; go on with it, and change "
            "what is asked for below."
        )
    if before.failure:
        parts.append(f"The attempt before ended with {before.failure}: {before.failure_message}")
    if before.head_commit and not attempt.continues_id:
        parts.append(f"Its work can be looked at with `git show {before.head_commit}`.")
    return "\n\n".join([*parts, *_gate_output(before), *_comments(before)])


def _gate_output(before: Attempt) -> list[str]:
    """Return the end of the log of the gate that failed, if one did."""
    gate = Gate.objects.filter(attempt=before).exclude(exit_code=0).order_by("-id").first()
    if gate is None or not gate.log_artifact or not (before.failure or "").startswith("GATE"):
        return []
    end = end_of_artifact(before, gate.log_artifact, MAX_LOG)
    text = end.decode("utf-8", "replace").strip()
    return [f"The end of its {gate.name} gate's output (`{gate.command}`):\n{text}"] if text else []


def _comments(before: Attempt) -> list[str]:
    comments = ReviewComment.objects.filter(attempt=before).order_by("created_at", "id")
    lines = [f"- {_where(comment)}{comment.text}" for comment in comments[:MAX_COMMENTS]]
    return ["The reviewer's comments:\n" + "\n".join(lines)] if lines else []


def _where(comment: ReviewComment) -> str:
    if not comment.path:
        return ""
    line = f":{comment.line}" if comment.line else ""
    old = " (in the old file)" if comment.line and comment.side == "old" else ""
    return f"{comment.path}{line}{old}: "
