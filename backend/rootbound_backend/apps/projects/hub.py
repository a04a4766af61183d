"""One reader per board and process, which serves all sockets that show the board."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from rootbound_backend.announce import project_group
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.tasks.selectors import board_revisions, board_tasks
from rootbound_backend.apps.tasks.serializers import TaskSerializer
from rootbound_backend.readers import SharedReader
from rootbound_backend.websockets import run_in_db

__all__ = ["TAIL_S", "BoardHub"]

TAIL_S = 3.0
"""How often to compare without an announcement, in seconds."""

SETTLE_S = 0.05


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


class BoardHub(SharedReader):
    """Holds the latest state of each task of a project, already encoded.

    Attributes
    ----------
    tasks
        Revision and JSON of each task, in the board's order.
    version
        Grows with every change.
    """

    def __init__(self, key: uuid.UUID) -> None:
        super().__init__(key)
        self.tasks: dict[uuid.UUID, tuple[int, str]] = {}
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
            self.news.notify_all()
        return False
