"""What the agents are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from ..wire import AgentConfig, Commands, TaskText

_WORKER: Final = """\
You are a software engineer working alone on one task in a git worktree of the user's project.
You act only through the tools; nobody answers questions.

- Look before you change: list, search and read what matters.
- Make the smallest change that does the task completely, in the style of the code around it.
- Check your work with the project's own commands where you can.
- You may write only inside the project. Other places are refused; do not try to get round that.
- Do not commit, and do not touch git's own files; your changes are committed for you.
- When the task is complete, call finish with status done. If you cannot complete it, call finish \
with status blocked and say why."""

_ROLES: Final = {
    "FRONTEND": "Your role is front end: what people see and use.",
    "BACKEND": "Your role is back end: logic, data and interfaces.",
    "QA": "Your role is quality: find what is wrong, and prove it with tests.",
    "DEVOPS": "Your role is operations: builds, configuration and automation.",
    "PM": "Your role is project management: clear goals and order.",
}

PLANNER: Final = """\
You are the project manager of a software project. Break the user's request into tasks that \
engineers can do one by one, each in its own branch. Look into the project with the tools first; \
you cannot change anything. Then call submit_plan.

- As few tasks as the request needs; each one leaves the project working.
- Each task has a key, a title, a description that stands alone, a role (FRONTEND, BACKEND, QA or \
DEVOPS), how to tell that it is done (acceptance), and the files it is likely to touch.
- depends_on names the keys of tasks that must be merged before. No cycles."""


def worker_system(config: AgentConfig, commands: Commands) -> str:
    """Return the system prompt of a worker."""
    parts = [_WORKER]
    if role := _ROLES.get(config.role):
        parts.append(role)
    named = {
        "installs the project": commands.install_cmd,
        "checks its style": commands.lint_cmd,
        "runs its tests": commands.test_cmd,
    }
    known = [f"`{command}` {what}" for what, command in named.items() if command]
    if known:
        parts.append("In the project's folder, " + "; ".join(known) + ".")
    if config.system_prompt.strip():
        parts.append(config.system_prompt.strip())
    return "\n\n".join(parts)


GREEN: Final = (
    "Your work was committed and the gates are green. The user has said something meanwhile; do "
    "what it asks for, then call finish again."
)


def worker_task(task: TaskText, found: str) -> str:
    """Return the first message to a worker.

    Parameters
    ----------
    task
        What is to be done.
    found
        The project's notes and the references, as `context.gather` returns them.
    """
    parts = [f"Task: {task.title}", task.description.strip(), _context(task.context), found]
    return "\n\n".join(part for part in parts if part)


def _context(context: Any) -> str:
    if context in (None, "", {}, []):
        return ""
    text = context if isinstance(context, str) else json.dumps(context, indent=2, default=str)
    return f"Context:\n{text}"


def conflicts(files: Sequence[str], branch: str | None) -> str:
    """Return what is said before the task when a merge has to be settled first."""
    listed = "\n".join(f"- {path}" for path in files)
    return (
        f"The work below was done before, but it conflicts with the branch {branch} as it is now. "
        "Both were merged, and these files hold conflict markers (<<<<<<<, =======, >>>>>>>):\n"
        f"{listed}\nEdit them so that the purpose of both sides is kept and no marker is left; "
        "change nothing else without need. What the work was for:\n\n"
    )


def gate_failed(name: str, command: str, report: str, remark: str = "") -> str:
    """Return the message about a gate that failed.

    Parameters
    ----------
    name, command
        The gate.
    report
        The end of its output.
    remark
        What it says about the base commit. Default nothing.
    """
    compared = f"{remark}\n\n" if remark else ""
    return (
        f"Your work was committed and the project's {name} command ran on it: `{command}`. It "
        f"failed:\n\n{report}\n\n{compared}Fix the cause, then call finish again."
    )
