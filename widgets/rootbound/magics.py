"""``%load_ext rootbound`` and the ``%rootbound`` line magic."""

from __future__ import annotations

import shlex
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import HTML

from . import _html as html
from .client import Client, connect
from .errors import RootboundError

_USAGE = """%rootbound status            services, enforcement and roots
%rootbound board [PROJECT]   the task board
%rootbound audit [PROJECT]   the file operations, counted and listed
%rootbound plan [--project PROJECT] PROMPT...   ask the PM agent for a plan
PROJECT is an id or a name; without it the newest project is taken."""


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
        """Show or start something: ``status``, ``board``, ``audit`` or ``plan``.

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
        verbs = {
            "status": self._status,
            "board": self._board,
            "audit": self._audit,
            "plan": self._plan,
        }
        if not words or words[0] not in verbs:
            raise UsageError(_USAGE)
        try:
            return verbs[words[0]](words[1:])
        except RootboundError as error:
            raise UsageError(error.detail) from error

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
        wanted = None
        if words[:1] == ["--project"]:
            wanted, words = (words[1] if len(words) > 1 else ""), words[2:]
        if not words:
            raise UsageError("%rootbound plan needs a prompt")
        return self.client.projects.find(wanted).plan(" ".join(words))
