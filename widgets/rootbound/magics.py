"""``%load_ext rootbound`` and the ``%rootbound`` line magic."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from IPython.core.error import TryNext, UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import HTML

from . import _html as html
from .client import Client, connect
from .errors import NotFoundError, RootboundError
from .objects import Project, Task

_USAGE = """%rootbound status            services, enforcement and roots
%rootbound board [PROJECT]   the task board
%rootbound audit [PROJECT]   the file operations, counted and listed
%rootbound plan [--project PROJECT] PROMPT...   ask the PM agent for a plan
%rootbound run [--project PROJECT] TASK...      start a task, by title or id, and show its stream
PROJECT is an id or a name; without it the newest project is taken."""

_VERBS = ("audit", "board", "plan", "run", "status")


@magics_class
class RootboundMagics(Magics):
    """The ``%rootbound`` magic; it connects on first use."""

    _client: Client | None = None

    @property
    def client(self) -> Client:
        """The connection, made on first use."""
        if self._client is None:
            self._client = connect()
        return self._client

    @line_magic
    def rootbound(self, line: str) -> Any:
        """Show or start something: ``status``, ``board``, ``audit``, ``plan`` or ``run``.

        Parameters
        ----------
        line : str
            The verb and its arguments.

        Returns
        -------
        object
            Something IPython can show.

        Raises
        ------
        UsageError
            If the line is wrong, or Rootbound refuses; IPython shows it as one line.
        """
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"{error}; quote the prompt") from error
        verbs: dict[str, Callable[[list[str]], Any]] = {
            name: getattr(self, f"_{name}") for name in _VERBS
        }
        if not words or words[0] not in verbs:
            raise UsageError(_USAGE)
        try:
            return verbs[words[0]](words[1:])
        except RootboundError as error:
            raise UsageError(error.detail) from error

    def complete(self, _ip: Any, event: Any) -> list[str]:
        """Return what may follow in a ``%rootbound`` line; IPython's completer hook.

        Parameters
        ----------
        _ip
            The running IPython.
        event
            With ``line``, the text before the cursor, and ``symbol``, its last word.

        Returns
        -------
        list of str
            Verbs, options, and the names of projects and tasks; no name without a server.
        """
        line, symbol = str(event.line), str(event.symbol)
        words = line[: len(line) - len(symbol)].split()[1:]
        try:
            known = self._following(words)
        except RootboundError as error:
            raise TryNext from error
        # The completer replaces the last word only; what stands before it in a name goes.
        return [word for word in known if word.startswith(symbol)]

    def _following(self, words: list[str]) -> list[str]:
        if not words:
            return list(_VERBS)
        verb, last = words[0], words[-1]
        if verb in ("board", "audit") or last == "--project":
            return [shlex.quote(project.name) for project in self.client.projects]
        if verb == "run":
            wanted = words[2] if words[1:2] == ["--project"] and len(words) > 2 else None
            project = self.client.projects.find(wanted and wanted.strip("'\""))
            open_tasks = [shlex.quote(t.title) for t in project.tasks() if t.status == "TODO"]
            return [*([] if wanted else ["--project"]), *open_tasks]
        return ["--project"] if verb == "plan" and len(words) == 1 else []

    def _status(self, _words: list[str]) -> Any:
        from .widgets.stack_status import StackStatus  # ipywidgets is slow to import

        return StackStatus(self.client)

    def _board(self, words: list[str]) -> Any:
        from .widgets.board import TaskBoard  # ipywidgets is slow to import

        return TaskBoard(self.client.projects.find(" ".join(words) or None))

    def _audit(self, words: list[str]) -> Any:
        project = self.client.projects.find(" ".join(words) or None)
        page = project.audit().page(limit=50)
        summary = html.audit_summary(project.audit_summary())
        table = html.audit(page.items, title=f"Audit of {project.name}")
        return HTML(summary + table)  # type: ignore[no-untyped-call]

    def _plan(self, words: list[str]) -> Any:
        project, words = self._project(words)
        if not words:
            raise UsageError("%rootbound plan needs a prompt")
        return project.plan(" ".join(words))

    def _run(self, words: list[str]) -> Any:
        from .widgets.attempt_stream import AttemptStream  # ipywidgets is slow to import

        project, words = self._project(words)
        if not words:
            raise UsageError("%rootbound run needs a task: its title or its id")
        return AttemptStream(_find_task(project, " ".join(words)).start())

    def _project(self, words: list[str]) -> tuple[Project, list[str]]:
        """Return the project that the words name, and the rest of them."""
        wanted = None
        if words[:1] == ["--project"]:
            wanted, words = (words[1] if len(words) > 1 else ""), words[2:]
        return self.client.projects.find(wanted), words


def _find_task(project: Project, wanted: str) -> Task:
    tasks = project.tasks()
    found = [task for task in tasks if wanted in (task.id, task.title)]
    if len(found) != 1:
        known = ", ".join(repr(task.title) for task in tasks) or "none"
        how = f"{len(found)} tasks are" if found else "No task is"
        raise NotFoundError(f"{how} called {wanted!r} in {project.name}; there are: {known}.")
    return found[0]


def load(ipython: Any) -> None:
    """Register the magic and its completion.

    Parameters
    ----------
    ipython : InteractiveShell
        The running IPython.
    """
    magics = RootboundMagics(ipython)
    ipython.register_magics(magics)
    ipython.set_hook("complete_command", magics.complete, str_key="%rootbound")
