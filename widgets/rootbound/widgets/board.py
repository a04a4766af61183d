"""The task board of a project."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import traitlets

from .. import _html as html
from .. import stream
from ..errors import NotFoundError
from ..objects import Attempt, Project
from .base import BaseWidget, text_param
from .feed import Source
from .verbs import attempt_verbs


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
        Id of the task selected in the view; observe it to react.
    """

    _bundle_name = "task_board"

    selected = traitlets.Unicode(allow_none=True, default_value=None)

    def __init__(self, project: Project, **kwargs: Any) -> None:
        self._project = project
        self._tasks: dict[str, dict[str, Any]] = {}
        super().__init__(**kwargs)
        self._handlers |= attempt_verbs(self._attempt)
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
            return stream.follow_board(client, project_id, stop)

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
        return self._project.client.task(task_id).start().raw

    def _select(self, params: dict[str, Any]) -> dict[str, Any]:
        task_id = params.get("task_id")
        self.selected = task_id if isinstance(task_id, str) else None
        return {"selected": self.selected}

    def to_html(self) -> str:
        """Return the board as static HTML, read from the server now."""
        tasks = [task.raw for task in self._project.tasks()]
        return html.board(tasks, title=f"Tasks of {self._project.name} (snapshot)")
