"""The WebSocket of a project's board."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from typing import Any

from channels.layers import get_channel_layer

from rootbound_backend.announce import project_group
from rootbound_backend.apps.projects.selectors import owns_project
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.apps.tasks.selectors import board_revisions, board_tasks
from rootbound_backend.apps.tasks.serializers import TaskSerializer
from rootbound_backend.websockets import CLOSE_BAD_FRAME, FollowingConsumer, end_task, run_in_db

__all__ = ["ProjectConsumer"]

logger = logging.getLogger(__name__)

TAIL_S = 3.0
"""How often to compare without an announcement, in seconds."""

SETTLE_S = 0.05
"""Wait after an announcement, in seconds, so that a burst becomes one look."""

RESUBSCRIBE_S = 2.0


def _documents(
    project_id: uuid.UUID, ids: list[uuid.UUID] | None = None
) -> list[tuple[Task, dict[str, Any]]]:
    tasks = board_tasks(project_id, ids)
    return [(task, dict(TaskSerializer(task).data)) for task in tasks]


class ProjectConsumer(FollowingConsumer):
    """Sends the board once, then each task that changed, in its latest state only."""

    async def may_follow(self) -> bool:
        """Return whether the project is the user's."""
        self._project_id: uuid.UUID = self.scope["url_route"]["kwargs"]["project_id"]
        self._seen: dict[uuid.UUID, int] = {}
        self._wake = asyncio.Event()
        allowed: bool = await run_in_db(owns_project, user=self.user, project_id=self._project_id)
        return allowed

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Refuse frames: this socket only sends."""
        await self.close(CLOSE_BAD_FRAME)

    async def follow(self) -> None:
        """Send the snapshot, then changes."""
        listener = asyncio.create_task(self._listen())
        try:
            board = await run_in_db(_documents, self._project_id)
            self._seen = {task.pk: task.revision for task, _ in board}
            await self.send_document(
                {"type": "snapshot", "tasks": [document for _, document in board]}
            )
            while True:
                self._wake.clear()
                await self._send_changes()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAIL_S):
                        await self._wake.wait()
                        await asyncio.sleep(SETTLE_S)
        finally:
            end_task(listener)

    async def _send_changes(self) -> None:
        revisions: dict[uuid.UUID, int] = await run_in_db(board_revisions, self._project_id)
        changed = [pk for pk, revision in revisions.items() if self._seen.get(pk) != revision]
        for pk in [pk for pk in self._seen if pk not in revisions]:
            del self._seen[pk]
            await self.send_document({"type": "task_deleted", "id": str(pk)})
        if not changed:
            return
        for task, document in await run_in_db(_documents, self._project_id, changed):
            self._seen[task.pk] = task.revision
            await self.send_document({"type": "task", "task": document})

    async def _listen(self) -> None:
        """Turn announcements into wake-ups, whatever happens to Redis meanwhile."""
        layer = get_channel_layer()
        group = project_group(self._project_id)
        while layer is not None:
            try:
                channel = await layer.new_channel()
                try:
                    await layer.group_add(group, channel)
                    while True:
                        await layer.receive(channel)
                        self._wake.set()
                finally:
                    with contextlib.suppress(Exception):
                        await layer.group_discard(group, channel)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("Announcements are not heard at the moment: %s", error)
                await asyncio.sleep(RESUBSCRIBE_S)
