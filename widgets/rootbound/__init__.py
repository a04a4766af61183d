"""Rootbound for Python: connect, plan, start, watch, review.

>>> import rootbound as rb
>>> client = rb.connect()
>>> project = client.projects.list()[0]
>>> rb.TaskBoard(project)

Importing this package is cheap; each name's module is imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .access import AccessRequest
    from .aio import AsyncClient, connect_async
    from .aio_access import AsyncAccessRequest
    from .aio_objects import AsyncAttempt, AsyncDecomposition, AsyncProject, AsyncTask
    from .batch import Batch, BatchFailedError, BatchResult
    from .client import Client, connect
    from .costs import Costs
    from .diff_models import Diff
    from .errors import (
        AuthenticationError,
        ConflictError,
        ConnectionFailedError,
        DecompositionFailedError,
        DetachedInterrupt,
        DiscoveryError,
        InvalidRequestError,
        MissingDependencyError,
        NotFoundError,
        PermissionDeniedError,
        RootboundError,
        ServerError,
        WaitTimeoutError,
    )
    from .machine_models import Machine
    from .models import Agent, AuditEntry, AuditSummary, Event, Gate, Root, Status
    from .objects import Attempt, Decomposition, Project, Task
    from .schedule_models import Notice, Schedule, ScheduleRun
    from .widgets import AttemptStream, AuditTable, CostChart, DiffView, StackStatus, TaskBoard

_MODULES = {
    "access": ("AccessRequest",),
    "aio_access": ("AsyncAccessRequest",),
    "diff_models": ("Diff",),
    "aio": ("AsyncClient", "connect_async"),
    "aio_objects": ("AsyncAttempt", "AsyncDecomposition", "AsyncProject", "AsyncTask"),
    "batch": ("Batch", "BatchFailedError", "BatchResult"),
    "client": ("Client", "connect"),
    "costs": ("Costs",),
    "errors": (
        "AuthenticationError",
        "ConflictError",
        "ConnectionFailedError",
        "DecompositionFailedError",
        "DetachedInterrupt",
        "DiscoveryError",
        "InvalidRequestError",
        "MissingDependencyError",
        "NotFoundError",
        "PermissionDeniedError",
        "RootboundError",
        "ServerError",
        "WaitTimeoutError",
    ),
    "models": (
        "Agent",
        "AuditEntry",
        "AuditSummary",
        "Event",
        "Gate",
        "Root",
        "Status",
    ),
    "objects": ("Attempt", "Decomposition", "Project", "Task"),
    "machine_models": ("Machine",),
    "schedule_models": ("Notice", "Schedule", "ScheduleRun"),
    "widgets": ("AttemptStream", "AuditTable", "CostChart", "DiffView", "StackStatus", "TaskBoard"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AccessRequest",
    "Agent",
    "AsyncAccessRequest",
    "AsyncAttempt",
    "AsyncClient",
    "AsyncDecomposition",
    "AsyncProject",
    "AsyncTask",
    "Attempt",
    "AttemptStream",
    "AuditEntry",
    "AuditSummary",
    "AuditTable",
    "AuthenticationError",
    "Batch",
    "BatchFailedError",
    "BatchResult",
    "Client",
    "ConflictError",
    "ConnectionFailedError",
    "CostChart",
    "Costs",
    "Decomposition",
    "DecompositionFailedError",
    "DetachedInterrupt",
    "Diff",
    "DiffView",
    "DiscoveryError",
    "Event",
    "Gate",
    "InvalidRequestError",
    "Machine",
    "MissingDependencyError",
    "NotFoundError",
    "Notice",
    "PermissionDeniedError",
    "Project",
    "Root",
    "RootboundError",
    "Schedule",
    "ScheduleRun",
    "ServerError",
    "StackStatus",
    "Status",
    "Task",
    "TaskBoard",
    "WaitTimeoutError",
    "__version__",
    "connect",
    "connect_async",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """Register ``%rootbound``; called by ``%load_ext rootbound``.

    Parameters
    ----------
    ipython : InteractiveShell
        The running IPython.
    """
    from .magics import load

    load(ipython)
