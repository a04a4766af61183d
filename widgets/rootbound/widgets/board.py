"""The task board of a project."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import traitlets

from .. import _html as html
from .. import board_stream
from ..errors import NotFoundError
from ..objects import Attempt, Project
from .base import BaseWidget, text_param
from .feed import Source
from .verbs import attempt_verbs, form_verbs, version_param


class TaskBoard(BaseWidget):
    """A live board of a project's tasks.

    Parameters
    ----------
    project : Project
        The project to show.
    **kwargs
        Traits, such as ``theme``.

    Attributes
    ----------
    selected : str or None
        Id of the task selected in the view. Observe it to react; setting it moves the selection
        of every view and brings the card into sight, None takes it away.

    Raises
    ------
    traitlets.TraitError
        When ``selected`` is set to what is no task of the project.
    """

    _bundle_name = "task_board"

    selected = traitlets.Unicode(allow_none=True, default_value=None).tag(sync=True)

    def __init__(self, project: Project, **kwargs: Any) -> None:
        self._project = project
        self._tasks: dict[str, dict[str, Any]] = {}
        super().__init__(**kwargs)
        self._handlers |= attempt_verbs(self._attempt)
        project_id, one = project.id, "[0-9a-f-]{36}"
        self._handlers |= form_verbs(
            project.client,
            (
                f"POST api/projects/{project_id}/(tasks|decompositions)/",
                f"GET api/projects/{project_id}/decompositions/",
                f"GET api/decompositions/{one}/",
                f"POST api/decompositions/{one}/approve/",
                f"(PATCH|DELETE) api/tasks/{one}/",
            ),
            lambda place: not place.startswith("api/tasks/") or place.split("/")[2] in self._tasks,
        )
        self._handlers |= {"start_attempt": self._start, "select": self._select}

    def _load(self) -> dict[str, Any]:
        self._tasks = {task.id: task.raw for task in self._project.tasks()}
        return self._board()

    def _board(self) -> dict[str, Any]:
        project = {"id": self._project.id, "name": self._project.name}
        return {"project": project, "tasks": list(self._tasks.values())}

    def _source(self) -> Source:
        # Bound to names, so that the thread does not keep the widget alive.
        client, project_id = self._project.client, self._project.id

        def follow(stop: threading.Event) -> Iterator[dict[str, Any]]:
            return board_stream.follow_board(client, project_id, stop)

        return follow

    def _take(self, items: list[Any]) -> None:
        changed: dict[str, dict[str, Any]] = {}
        is_all_new = False
        for frame in items:
            if frame.get("type") == "snapshot":
                self._tasks = {task["id"]: task for task in frame["tasks"]}
                is_all_new = True
            elif frame.get("type") == "task":
                task = frame["task"]
                self._tasks[task["id"]] = changed[task["id"]] = task
            elif frame.get("type") == "task_deleted":
                self._tasks.pop(str(frame["id"]), None)
                is_all_new = True
        if self.selected not in self._tasks:
            self.selected = None
        if is_all_new:
            self._push("tasks", list(self._tasks.values()))
        else:
            for task in changed.values():
                self._push("task", task)
        self._state = self._board()

    def _attempt(self, params: dict[str, Any]) -> Attempt:
        return self._project.client.attempt(text_param(params, "attempt_id"))

    def _start(self, params: dict[str, Any]) -> Any:
        task_id = text_param(params, "task_id")
        if task_id not in self._tasks:
            raise NotFoundError("This task is not on the board.", status=404, code="not-found")
        return self._project.client.task(task_id).start(version=version_param(params)).raw

    def _select(self, params: dict[str, Any]) -> dict[str, Any]:
        task_id = params.get("task_id")
        if task_id is not None and task_id not in self._tasks:
            raise NotFoundError("This task is not on the board.", status=404, code="not-found")
        self.selected = task_id
        return {"selected": self.selected}

    @traitlets.validate("selected")
    def _selected_set(self, proposal: dict[str, Any]) -> str | None:
        wanted: str | None = proposal["value"]
        if wanted is not None and wanted not in self._tasks:
            # Perhaps made since, in the cell itself.
            self._state = self._load()
            self._push("tasks", self._state["tasks"])
            if wanted not in self._tasks:
                raise traitlets.TraitError(f"The project has no task {wanted!r}.")
        return wanted

    def to_html(self) -> str:
        """Return the board as static HTML, read from the server now."""
        tasks = [task.raw for task in self._project.tasks()]
        return html.board(tasks, title=f"Tasks of {self._project.name} (snapshot)")
