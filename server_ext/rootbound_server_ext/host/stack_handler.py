"""``/rootbound/stack``: is the stack up, start it, restart a service, read a service's log."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tornado import web

from ..stack.errors import StackError
from .base import HostHandler
from .problems import HostProblem

__all__ = ["StackHandler", "StackLogHandler"]

STACK_RESOURCE = "rootbound:stack"

_DEFAULT_LINES = 200
_MOST_LINES = 2000


class StackHandler(HostHandler):
    """Shows the state of the stack, and starts it; answers even when the backend is down."""

    @property
    def auth_resource(self) -> str:
        """The services, which an authorizer may guard apart from the work."""
        return STACK_RESOURCE

    @web.authenticated
    async def get(self) -> None:
        """Answer state, message and services; starts nothing."""
        await self._answer()

    @web.authenticated
    async def post(self) -> None:
        """Start the stack unless it runs, or restart one service; answer 202 with its state.

        The body is empty to start, or ``{"restart": "worker"}``.
        """
        name = self._service_to_restart()
        await self.host.watch.describe()
        if name is None:
            self.host.watch.start()
        else:
            try:
                await self.host.watch.restart(name)
            except StackError as error:
                raise HostProblem(409, "not-restarted", error.message) from error
        self.set_status(202)
        await self._answer()

    def _service_to_restart(self) -> str | None:
        try:
            body = json.loads(self.request.body or b"{}")
        except ValueError as error:
            raise HostProblem(400, "bad-request", "The body must be JSON.") from error
        name = body.get("restart") if isinstance(body, dict) else body
        if name is not None and not isinstance(name, str):
            raise HostProblem(400, "bad-request", "restart must be the name of a service.")
        return name

    async def _answer(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        # Views turn a path of Jupyter's file browser into one of the machine's, and offer commands
        # that reach this very installation.
        about = {"files_root": self._files_root(), "python": sys.executable}
        self.finish(json.dumps({**await self.host.watch.describe(), **about}))

    def _files_root(self) -> str | None:
        """Return the folder that the file browser shows; None when its files are not on disk."""
        root: Any = getattr(self.contents_manager, "root_dir", None)
        return str(Path(root).expanduser().resolve()) if isinstance(root, str) and root else None


class StackLogHandler(HostHandler):
    """Shows the end of a service's log."""

    @property
    def auth_resource(self) -> str:
        """As for the services themselves."""
        return STACK_RESOURCE

    @web.authenticated
    async def get(self, name: str) -> None:
        """Answer ``{"service", "text"}``; ``?lines=`` takes 1 to 2000, 200 by default."""
        text = self.get_query_argument("lines", str(_DEFAULT_LINES))
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_LINES):
            raise HostProblem(400, "bad-request", f"lines must be 1 to {_MOST_LINES}.")
        try:
            log = await self.host.watch.log_of(name, int(text))
        except StackError as error:
            raise HostProblem(404, "not-found", error.message) from error
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"service": name, "text": log}))
