"""What a commit of an agent's work says."""

from __future__ import annotations

from .wire import RunPayload

__all__ = ["message_of"]


def message_of(payload: RunPayload, attempt_id: str, summary: str) -> str:
    """Return the message of a commit: the task, what the agent says of it, and trailers.

    Parameters
    ----------
    payload
        The run.
    attempt_id
        The attempt that a trailer leads back to.
    summary
        What the agent says it did; may be empty.
    """
    task, config = payload.task, payload.agent_config
    author = f"{_one_line(config.name or 'Agent')} ({_one_line(config.model)})"
    trailers = [
        *([f"Rootbound-Task: {task.id}"] if task.id else []),
        f"Rootbound-Attempt: {attempt_id}",
        f"Co-authored-by: {author} <agent@rootbound.invalid>",
    ]
    parts = (_one_line(task.title)[:72], summary.strip(), "\n".join(trailers))
    return "\n\n".join(part for part in parts if part)


def _one_line(text: str) -> str:
    return " ".join(text.split())
