"""``/rootbound/stack``: is the stack up, and start it."""

from __future__ import annotations

import json

from tornado import web

from .base import HostHandler

__all__ = ["StackHandler"]


class StackHandler(HostHandler):
    """Shows the state of the stack, and starts it; answers even when the backend is down."""

    @web.authenticated
    async def get(self) -> None:
        """Answer ``{"state", "message", "services", "autostart"}``; starts nothing."""
        await self._answer()

    @web.authenticated
    async def post(self) -> None:
        """Start the stack unless it runs; answer 202 with its state."""
        await self.host.watch.describe()
        self.host.watch.start()
        self.set_status(202)
        await self._answer()

    async def _answer(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(await self.host.watch.describe()))
