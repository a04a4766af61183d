"""What schedules, their runs and notices are, for both clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import _operations as ops
from .errors import ConflictError
from .models import Model, parse_time

__all__ = ["Notice", "Schedule", "ScheduleRun", "made", "on_schedule", "report_of"]


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
    last_status: str | None = None


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


def made(name: str, project_id: str, crontab: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a new schedule; the kind follows from what is given."""
    if fields.get("notebook"):
        fields = {**fields, "notebook": ops.absolute(fields["notebook"])}
    kind = "BATCH" if fields.get("notebook") else "PLAN"
    return {"name": name, "project_id": project_id, "crontab": crontab, "kind": kind, **fields}


def on_schedule(schedule_id: str, verb: str) -> ops.Operation[Schedule]:
    """Return the request that does something with a schedule as a whole."""
    return ops.write(Schedule, None, "POST", "schedules", schedule_id, verb)


def report_of(run: ScheduleRun) -> ops.Operation[bytes]:
    """Return the request for a report, as the bytes of a notebook."""
    if run.report_url is None:
        raise ConflictError(
            f"This run has no report ({run.status}); {run.message or 'wait for its end.'}",
            code="no-report",
        )
    where = ops.path("schedules", run.schedule_id, "runs", run.id, "report")
    return ops.Operation("GET", where, ops.notebook_bytes)
