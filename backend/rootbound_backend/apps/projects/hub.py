"""One reader per board and process, which serves all sockets that show the board."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from rootbound_backend.announce import project_group
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.schedules.selectors import notices_behind
from rootbound_backend.apps.schedules.serializers import NoticeSerializer
from rootbound_backend.apps.tasks.selectors import board_revisions, board_tasks
from rootbound_backend.apps.tasks.serializers import TaskSerializer
from rootbound_backend.readers import SharedReader
from rootbound_backend.websockets import run_in_db

__all__ = ["TAIL_S", "BoardHub"]

TAIL_S = 3.0
"""How often to compare without an announcement, in seconds."""

SETTLE_S = 0.05
KEPT_NOTICES = 20


def _read(
    project_id: uuid.UUID, known: dict[uuid.UUID, int]
) -> tuple[dict[uuid.UUID, int], dict[uuid.UUID, tuple[int, str]]] | None:
    """Return all revisions, and the encoded tasks whose revision is not the known one."""
    revisions: dict[uuid.UUID, int] = board_revisions(project_id)
    if not revisions and not Project.objects.filter(pk=project_id).exists():
        return None
    changed = [pk for pk, revision in revisions.items() if known.get(pk) != revision]
    documents: dict[uuid.UUID, tuple[int, str]] = {}
    for task in board_tasks(project_id, changed) if changed else []:
        data: dict[str, Any] = dict(TaskSerializer(task).data)
        documents[task.pk] = (task.revision, msgspec.json.encode(data).decode())
    return revisions, documents


def _read_notices(project_id: uuid.UUID, last: int | None) -> list[tuple[int, str]]:
    """Return the encoded notices behind a number; without one, the latest alone."""
    return [
        (notice.pk, msgspec.json.encode(dict(NoticeSerializer(notice).data)).decode())
        for notice in notices_behind(project_id, last, at_most=KEPT_NOTICES)
    ]


class BoardHub(SharedReader):
    """Holds the latest state of each task of a project, already encoded.

    Attributes
    ----------
    tasks
        Revision and JSON of each task, in the board's order.
    notices
        Number and JSON of the latest notices, oldest first.
    version
        Grows with every change.
    """

    def __init__(self, key: uuid.UUID) -> None:
        super().__init__(key)
        self.tasks: dict[uuid.UUID, tuple[int, str]] = {}
        self.notices: list[tuple[int, str]] = []
        self._last_notice: int | None = None
        self.version = 0

    @property
    def group(self) -> str:
        """The channel layer's group that announces news."""
        return project_group(self.key)

    @property
    def tail_s(self) -> float:
        """How often to compare without an announcement, in seconds."""
        return TAIL_S

    @property
    def settle_s(self) -> float:
        """Wait after an announcement, in seconds, so that a burst becomes one look."""
        return SETTLE_S

    async def wait_for_change(self, version: int) -> None:
        """Wait until something is newer than `version`."""
        async with self.news:
            await self.news.wait_for(lambda: self.version > version or self.gone)

    async def look(self) -> bool:
        """Take in the tasks that changed."""
        known = {pk: revision for pk, (revision, _) in self.tasks.items()}
        found = await run_in_db(_read, self.key, known)
        notices = await run_in_db(_read_notices, self.key, self._last_notice)
        self.take_announcement()
        async with self.news:
            if found is None:
                self.gone = True
            else:
                revisions, documents = found
                if documents or len(revisions) != len(known):
                    merged = {**self.tasks, **documents}
                    self.tasks = {pk: merged[pk] for pk in revisions if pk in merged}
                    self.version += 1
                if notices:
                    self.notices = [*self.notices, *notices][-KEPT_NOTICES:]
                    self.version += 1
                # From the first look on it counts from here, also when there was none.
                self._last_notice = notices[-1][0] if notices else self._last_notice or 0
            self.news.notify_all()
        return False
