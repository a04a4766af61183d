"""The WebSocket of a project's board."""

from __future__ import annotations

import uuid
from itertools import count

from rootbound_backend import metrics
from rootbound_backend.apps.projects.hub import BoardHub
from rootbound_backend.apps.projects.selectors import owns_project
from rootbound_backend.readers import shared_reader
from rootbound_backend.websockets import (
    CLOSE_BAD_FRAME,
    CLOSE_NOT_FOUND,
    FollowingConsumer,
    SendWindow,
    run_in_db,
)

__all__ = ["ProjectConsumer"]

MAX_UNACKED_FRAMES = 500
MAX_UNACKED_BYTES = 4 * 1024 * 1024
HELD_LOOK_S = 1.0


class ProjectConsumer(FollowingConsumer):
    """Sends the board once, then each task that changed, in its latest state only, and notices.

    Each frame has a ``seq``, which the client acknowledges as in an attempt's stream. While a
    client has not acknowledged much, changes wait, and of each task only the latest state is sent.
    """

    stream = "project"

    async def may_follow(self) -> bool:
        """Return whether the project is the user's."""
        self._project_id: uuid.UUID = self.scope["url_route"]["kwargs"]["project_id"]
        self._seen: dict[uuid.UUID, int] = {}
        self._window = SendWindow(MAX_UNACKED_FRAMES, MAX_UNACKED_BYTES)
        self._numbers = count(1)
        allowed: bool = await run_in_db(owns_project, user=self.user, project_id=self._project_id)
        return allowed

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take an acknowledgement; anything else ends the connection."""
        seq = self.acknowledged(text_data)
        if seq is None:
            await self.close(CLOSE_BAD_FRAME)
            return
        self._window.acknowledge(seq)

    async def follow(self) -> None:
        """Send the snapshot, then changes."""
        async with shared_reader(BoardHub, self._project_id) as hub:
            version, tasks = hub.version, hub.tasks
            # What was told before is read with GET /api/notices/.
            self._told = hub.notices[-1][0] if hub.notices else 0
            self._seen = {pk: revision for pk, (revision, _) in tasks.items()}
            texts = ",".join(text for _, text in tasks.values())
            await self._frame(hub, f'"type":"snapshot","tasks":[{texts}]')
            while not hub.gone:
                await hub.wait_for_change(version)
                version = hub.version
                await self._send_changes(hub)
            await self.close(CLOSE_NOT_FOUND)

    async def _send_changes(self, hub: BoardHub) -> None:
        for pk in [pk for pk in self._seen if pk not in hub.tasks]:
            del self._seen[pk]
            await self._frame(hub, f'"type":"task_deleted","id":"{pk}"')
        for pk in list(hub.tasks):
            # Looked up only now: while the frame before waited, the task may have gone on.
            await self._room(hub)
            revision, text = hub.tasks.get(pk, (None, ""))
            if revision is None or self._seen.get(pk) == revision:
                continue
            self._seen[pk] = revision
            await self._frame(hub, f'"type":"task","task":{text}')

        for number, text in list(hub.notices):
            if number > self._told:
                self._told = number
                await self._frame(hub, f'"type":"notice","notice":{text}')

    async def _room(self, hub: BoardHub) -> None:
        if not self._window.fits(0):
            with metrics.HELD.track_inprogress():
                while not await self._window.room(0, within_s=HELD_LOOK_S) and not hub.gone:
                    continue

    async def _frame(self, hub: BoardHub, members: str) -> None:
        await self._room(hub)
        seq = next(self._numbers)
        self._window.add(seq, len(members))
        metrics.FRAMES.labels("board").inc()
        await self.send(text_data=f'{{{members},"seq":{seq}}}')
