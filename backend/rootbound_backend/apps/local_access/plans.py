"""Shape and soundness of the PM's plans."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from rootbound_backend.apps.attempts.failures import Failure
from rootbound_backend.apps.tasks.services import cycle_in
from rootbound_backend.problems import InvalidInput

__all__ = ["Plan", "PlanReport", "PlanTask", "check_plan_tasks", "task_fields"]

MAX_TASKS = 100


class PlanTask(msgspec.Struct):
    """One planned task; ``depends_on`` names keys of others in the plan."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    description: Annotated[str, msgspec.Meta(max_length=100_000)] = ""
    role: Literal["PM", "FRONTEND", "BACKEND", "QA", "DEVOPS"] = "BACKEND"
    priority: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0
    depends_on: list[str] = []
    acceptance: str | list[str] | None = None
    files: list[str] = []


class Plan(msgspec.Struct):
    """What the PM agent submits."""

    tasks: Annotated[list[PlanTask], msgspec.Meta(min_length=1, max_length=MAX_TASKS)]
    summary: str = ""


class PlanReport(msgspec.Struct):
    """The LDA's report on a decomposition: a plan or a failure."""

    plan: Plan | None = None
    response: str = ""
    usage: dict[str, Any] = {}
    failure: Failure | None = None
    message: str | None = None


def check_plan_tasks(tasks: list[PlanTask]) -> None:
    """Refuse plans with blank titles, repeated keys, unknown dependencies or cycles.

    Raises
    ------
    InvalidInput
        With one sentence that names the task.
    """
    graph: dict[str, list[str]] = {}
    for index, task in enumerate(tasks):
        if not task.title.strip():
            raise InvalidInput(field=f"tasks[{index}].title", detail="A title may not be blank.")
        if task.key in graph:
            raise InvalidInput(
                field=f"tasks[{index}].key", detail=f"The key {task.key!r} appears twice."
            )
        graph[task.key] = task.depends_on
    for index, task in enumerate(tasks):
        where = f"tasks[{index}].depends_on"
        unknown = next((key for key in task.depends_on if key not in graph), None)
        if unknown is not None:
            raise InvalidInput(
                field=where, detail=f"{task.key!r} depends on {unknown!r}, which is not planned."
            )
        if path := cycle_in(graph, task.key):
            raise InvalidInput(
                field=where,
                code="dependency-cycle",
                detail=f"These tasks would wait for each other: {' → '.join(path)}.",
            )


def task_fields(task: PlanTask, ids: dict[str, str]) -> dict[str, Any]:
    """Return the fields of the task to be made.

    Parameters
    ----------
    task
        The planned one.
    ids
        Ids of the tasks that exist already, by key.
    """
    parts = [task.description.strip()]
    if task.acceptance:
        wanted = task.acceptance if isinstance(task.acceptance, list) else [task.acceptance]
        lines = wanted if len(wanted) == 1 else [f"- {line}" for line in wanted]
        parts.append("Acceptance:\n" + "\n".join(lines))
    if task.files:
        parts.append("Files:\n" + "\n".join(f"- {name}" for name in task.files))
    return {
        "title": task.title.strip(),
        "description": "\n\n".join(part for part in parts if part),
        "agent_role": task.role,
        "priority": task.priority,
        "dependencies": [ids[key] for key in task.depends_on],
    }
