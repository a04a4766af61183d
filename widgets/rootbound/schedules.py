"""Schedules: plans and batch notebooks that a crontab starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _operations as ops
from .errors import ConflictError
from .models import Model, parse_time
from .tables import Listing

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .client import Client

__all__ = ["AsyncSchedules", "Notice", "Schedule", "ScheduleRun", "Schedules"]


@dataclass(frozen=True, kw_only=True)
class Schedule(Model):
    """A crontab that starts a plan (``PLAN``) or a notebook (``BATCH``) in a project.

    `overlap` is ``SKIP``, ``QUEUE`` or ``REPLACE``; `next_run_at` is None while it is paused.
    """

    id: str
    name: str = ""
    project_id: str = ""
    kind: str = ""
    crontab: str = ""
    timezone: str = "UTC"
    overlap: str = "SKIP"
    is_enabled: bool = True
    prompt: str = ""
    notebook: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    max_parallel: int | None = None
    budget: float | None = None
    next_run_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})


@dataclass(frozen=True, kw_only=True)
class ScheduleRun(Model):
    """One run of a schedule; `report_url` is set once an executed notebook can be read."""

    id: str
    schedule_id: str = ""
    trigger: str = ""
    status: str = ""
    due_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    started_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    ended_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    message: str = ""
    exit_code: int | None = None
    decomposition_id: str | None = None
    report_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Notice(Model):
    """Something that you should hear of, such as a scheduled run that failed."""

    id: int
    text: str = ""
    project_id: str | None = None
    schedule_id: str | None = None
    schedule_run_id: str | None = None
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    read_at: datetime | None = field(default=None, metadata={"parse": parse_time})


def _made(name: str, project_id: str, crontab: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a new schedule; the kind follows from what is given."""
    if fields.get("notebook"):
        fields = {**fields, "notebook": ops.absolute(fields["notebook"])}
    kind = "BATCH" if fields.get("notebook") else "PLAN"
    return {"name": name, "project_id": project_id, "crontab": crontab, "kind": kind, **fields}


def _on(schedule_id: str, verb: str) -> ops.Operation[Schedule]:
    return ops.write(Schedule, None, "POST", "schedules", schedule_id, verb)


def _report(run: ScheduleRun) -> ops.Operation[bytes]:
    """Return the request for a report, as the bytes of a notebook."""
    if run.report_url is None:
        raise ConflictError(
            f"This run has no report ({run.status}); {run.message or 'wait for its end.'}",
            code="no-report",
        )
    where = ops.path("schedules", run.schedule_id, "runs", run.id, "report")
    return ops.Operation("GET", where, ops.notebook_bytes)


class Schedules:
    """The schedules of the user: ``client.schedules``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __iter__(self) -> Iterator[Schedule]:
        return self._client._each(Schedule, "schedules")

    def get(self, schedule_id: str) -> Schedule:
        """Return a schedule by its id."""
        return self._client._call(ops.read(Schedule, None, "schedules", schedule_id))

    def create(self, name: str, project_id: str, crontab: str, **fields: Any) -> Schedule:
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
        body = _made(name, project_id, crontab, fields)
        return self._client._call(ops.write(Schedule, None, "POST", "schedules", body=body))

    def update(self, schedule_id: str, **changes: Any) -> Schedule:
        """Change fields; return the result."""
        return self._client._call(
            ops.write(Schedule, None, "PATCH", "schedules", schedule_id, body=changes)
        )

    def pause(self, schedule_id: str) -> Schedule:
        """Start nothing until it is resumed; a run at work goes on."""
        return self._client._call(_on(schedule_id, "pause"))

    def resume(self, schedule_id: str) -> Schedule:
        """Be due again from now on."""
        return self._client._call(_on(schedule_id, "resume"))

    def delete(self, schedule_id: str) -> None:
        """Delete a schedule with its history; tasks that it made stay."""
        self._client._call(ops.delete("schedules", schedule_id))

    def run(self, schedule_id: str) -> ScheduleRun:
        """Start a run now, under the schedule's overlap policy."""
        return self._client._call(
            ops.write(ScheduleRun, None, "POST", "schedules", schedule_id, "run")
        )

    def runs(self, schedule_id: str) -> Listing[ScheduleRun]:
        """Return the history, newest first."""
        return self._client._all(ScheduleRun, "schedules", schedule_id, "runs")

    def cancel(self, run: ScheduleRun) -> ScheduleRun:
        """End a run and what it left at work."""
        return self._client._call(
            ops.write(
                ScheduleRun, None, "POST", "schedules", run.schedule_id, "runs", run.id, "cancel"
            )
        )

    def report(self, run: ScheduleRun, path: str | PathLike[str]) -> Path:
        """Write a run's executed notebook to a file; return its path.

        Raises
        ------
        ConflictError
            If it has none, with code ``no-report``.
        """
        target = Path(path)
        target.write_bytes(self._client._call(_report(run)))
        return target

    def notices(self) -> Listing[Notice]:
        """Return what you should hear of, newest first."""
        return self._client._all(Notice, "notices")

    # Last, because in the class body it hides the built-in type.
    def list(self) -> Listing[Schedule]:
        """Return all schedules."""
        return self._client._all(Schedule, "schedules")


class AsyncSchedules:
    """As `Schedules`, awaited."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[Schedule]:
        return self._client._each(Schedule, "schedules")

    async def get(self, schedule_id: str) -> Schedule:
        """As `Schedules.get`."""
        return await self._client._call(ops.read(Schedule, None, "schedules", schedule_id))

    async def create(self, name: str, project_id: str, crontab: str, **fields: Any) -> Schedule:
        """As `Schedules.create`."""
        body = _made(name, project_id, crontab, fields)
        return await self._client._call(ops.write(Schedule, None, "POST", "schedules", body=body))

    async def update(self, schedule_id: str, **changes: Any) -> Schedule:
        """As `Schedules.update`."""
        return await self._client._call(
            ops.write(Schedule, None, "PATCH", "schedules", schedule_id, body=changes)
        )

    async def pause(self, schedule_id: str) -> Schedule:
        """As `Schedules.pause`."""
        return await self._client._call(_on(schedule_id, "pause"))

    async def resume(self, schedule_id: str) -> Schedule:
        """As `Schedules.resume`."""
        return await self._client._call(_on(schedule_id, "resume"))

    async def delete(self, schedule_id: str) -> None:
        """As `Schedules.delete`."""
        await self._client._call(ops.delete("schedules", schedule_id))

    async def run(self, schedule_id: str) -> ScheduleRun:
        """As `Schedules.run`."""
        return await self._client._call(
            ops.write(ScheduleRun, None, "POST", "schedules", schedule_id, "run")
        )

    async def runs(self, schedule_id: str) -> Listing[ScheduleRun]:
        """As `Schedules.runs`."""
        return await self._client._all(ScheduleRun, "schedules", schedule_id, "runs")

    async def cancel(self, run: ScheduleRun) -> ScheduleRun:
        """As `Schedules.cancel`."""
        return await self._client._call(
            ops.write(
                ScheduleRun, None, "POST", "schedules", run.schedule_id, "runs", run.id, "cancel"
            )
        )

    async def report(self, run: ScheduleRun, path: str | PathLike[str]) -> Path:
        """As `Schedules.report`."""
        report = await self._client._call(_report(run))
        await asyncio.to_thread(Path(path).write_bytes, report)
        return Path(path)

    async def notices(self) -> Listing[Notice]:
        """As `Schedules.notices`."""
        return await self._client._all(Notice, "notices")

    async def list(self) -> Listing[Schedule]:
        """As `Schedules.list`."""
        return await self._client._all(Schedule, "schedules")
