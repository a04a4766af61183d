"""Keeps the worktrees of ended runs within bounds, in the background."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .git import GitError
from .housekeeping import Found, removable, remove, shed, size_of
from .records import RunRecord
from .services import Services


class Tender:
    """Lists worktrees and takes away what nobody can miss.

    Parameters
    ----------
    services
        What runs share.
    records
        Returns the record of every run.
    is_live
        Whether a run goes on.
    quota
        Bytes that all worktrees together may take; ``None`` for no limit.
    """

    def __init__(
        self,
        services: Services,
        records: Callable[[], Iterable[RunRecord]],
        is_live: Callable[[str], bool],
        quota: int | None,
    ) -> None:
        self._services = services
        self._records = records
        self._is_live = is_live
        self._quota = quota
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def wake(self) -> None:
        """Look after the worktrees, soon and in the background."""
        task = asyncio.create_task(self.tend(), name="tend worktrees")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Leave what is being done to the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def inventory(self) -> dict[str, Any]:
        """Return every worktree with its size, the largest first, and the total."""
        found = await self._look()
        return {
            "worktrees": [asdict(one) for one in sorted(found, key=lambda f: -f.bytes)],
            "bytes": sum(one.bytes for one in found),
            "quota_bytes": self._quota,
        }

    async def tend(self) -> list[str]:
        """Remove what is merged, discarded or empty; above the quota, shed by-products.

        Returns
        -------
        list of str
            Attempts whose worktree is gone.
        """
        async with self._lock:
            gone: list[str] = []
            for record, path in self._ended():
                if self._is_live(record.attempt_id):
                    continue  # it has begun again meanwhile
                if await removable(record, path, self._services.config) and await remove(
                    record, path, self._services.locks
                ):
                    gone.append(record.attempt_id)
                await asyncio.to_thread(self._forget_home, record.attempt_id)
            if self._quota is not None:
                await self._keep_quota(self._quota)
            return gone

    def _ended(self) -> list[tuple[RunRecord, Path]]:
        folder = self._services.config.worktrees
        return [
            (record, folder / record.attempt_id)
            for record in list(self._records())
            if not self._is_live(record.attempt_id) and (folder / record.attempt_id).is_dir()
        ]

    async def _look(self) -> list[Found]:
        folder = self._services.config.worktrees
        found = []
        for record in list(self._records()):
            path = folder / record.attempt_id
            if not path.is_dir():
                continue
            live = self._is_live(record.attempt_id)
            found.append(
                Found(
                    record.attempt_id,
                    str(path),
                    record.repo_path,
                    record.title,
                    record.state,
                    live,
                    await asyncio.to_thread(size_of, path),
                    "" if live else await removable(record, path, self._services.config),
                )
            )
        return found

    async def _keep_quota(self, quota: int) -> None:
        """Delete by-products of ended runs, the oldest first, until the rest fits."""
        found = await self._look()
        total = sum(one.bytes for one in found)
        started = {record.attempt_id: record.started_at for record in self._records()}
        for one in sorted(found, key=lambda f: started.get(f.attempt_id, "")):
            if total <= quota:
                return
            if one.live:
                continue
            try:
                await shed(Path(one.path))
            except GitError:
                continue
            total -= one.bytes - await asyncio.to_thread(size_of, Path(one.path))

    def _forget_home(self, attempt: str) -> None:
        """Delete the private folders of a run that has ended; its journal and record stay."""
        for name in ("home", "tmp"):
            shutil.rmtree(self._services.config.runs / attempt / name, ignore_errors=True)
