"""AsyncSchedules: plans and batch notebooks that a crontab starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _operations as ops
from .schedule_models import Notice, Schedule, ScheduleRun, made, on_schedule, report_of
from .tables import Listing

if TYPE_CHECKING:
    from .aio import AsyncClient

__all__ = ["AsyncSchedules", "Notice", "Schedule", "ScheduleRun"]


class AsyncSchedules:
    """The schedules of the user: ``client.schedules``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[Schedule]:
        return self._client._each(Schedule, "schedules")

    async def get(self, schedule_id: str) -> Schedule:
        """Return a schedule by its id."""
        return await self._client._call(ops.read(Schedule, None, "schedules", schedule_id))

    async def create(self, name: str, project_id: str, crontab: str, **fields: Any) -> Schedule:
        """Make a schedule.

        Parameters
        ----------
        name : str
            For people.
        project_id : str
            Where to work.
        crontab : str
            Minute, hour, day of month, month, day of week; or such as ``@daily``.
        **fields
            ``prompt`` for a plan, or ``notebook`` and ``parameters`` for a batch; ``timezone``
            (default UTC), ``overlap`` (``SKIP``, ``QUEUE`` or ``REPLACE``), ``is_enabled``,
            ``max_parallel``, ``budget`` (US dollars).

        Returns
        -------
        Schedule
            With `next_run_at`.

        Raises
        ------
        InvalidRequestError
            If a field is wrong, or the crontab never fires.
        """
        body = made(name, project_id, crontab, fields)
        return await self._client._call(ops.write(Schedule, None, "POST", "schedules", body=body))

    async def update(self, schedule_id: str, **changes: Any) -> Schedule:
        """Change fields; return the result."""
        return await self._client._call(
            ops.write(Schedule, None, "PATCH", "schedules", schedule_id, body=changes)
        )

    async def pause(self, schedule_id: str) -> Schedule:
        """Start nothing until it is resumed; a run at work goes on."""
        return await self._client._call(on_schedule(schedule_id, "pause"))

    async def resume(self, schedule_id: str) -> Schedule:
        """Be due again from now on."""
        return await self._client._call(on_schedule(schedule_id, "resume"))

    async def delete(self, schedule_id: str) -> None:
        """Delete a schedule with its history; tasks that it made stay."""
        await self._client._call(ops.delete("schedules", schedule_id))

    async def run(self, schedule_id: str) -> ScheduleRun:
        """Start a run now, under the schedule's overlap policy."""
        return await self._client._call(
            ops.write(ScheduleRun, None, "POST", "schedules", schedule_id, "run")
        )

    async def runs(self, schedule_id: str) -> Listing[ScheduleRun]:
        """Return the history, newest first."""
        return await self._client._all(ScheduleRun, "schedules", schedule_id, "runs")

    async def cancel(self, run: ScheduleRun) -> ScheduleRun:
        """End a run and what it left at work."""
        return await self._client._call(
            ops.write(
                ScheduleRun, None, "POST", "schedules", run.schedule_id, "runs", run.id, "cancel"
            )
        )

    async def report(self, run: ScheduleRun, path: str | PathLike[str]) -> Path:
        """Write a run's executed notebook to a file; return its path.

        Raises
        ------
        ConflictError
            If it has none, with code ``no-report``.
        """
        report = await self._client._call(report_of(run))
        await asyncio.to_thread(Path(path).write_bytes, report)
        return Path(path)

    async def notices(self) -> Listing[Notice]:
        """Return what you should hear of, newest first."""
        return await self._client._all(Notice, "notices")

    # Last, because in the class body it hides the built-in type.
    async def list(self) -> Listing[Schedule]:
        """Return all schedules."""
        return await self._client._all(Schedule, "schedules")
