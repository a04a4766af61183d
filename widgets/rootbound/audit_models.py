"""What verification and the overviews of the audit log return."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .models import Model, parse_time


@dataclass(frozen=True, kw_only=True)
class AuditFinding(Model):
    """One thing that is wrong with the stored log.

    `kind` is ``changed``, ``missing``, ``truncated``, ``doubled``, ``reordered``, ``inserted``,
    ``moved``, ``watermark`` or ``retention``; `id` is the row's, None for a missing one.
    """

    run_id: str = ""
    seq: int = 0
    id: int | None = None
    kind: str = ""
    detail: str = ""

    def __str__(self) -> str:
        row = "" if self.id is None else f" (row {self.id})"
        return f"run {self.run_id}, entry {self.seq}{row}: {self.kind}. {self.detail}"


def _findings(value: Any) -> tuple[AuditFinding, ...]:
    return tuple(AuditFinding.from_json(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class AuditVerification(Model):
    """The result of a verification; `ok` when nothing is wrong.

    `entries` were checked in `runs`; `retained_away` had been removed by retention, which is
    recorded and no tampering.
    """

    ok: bool = True
    runs: int = 0
    entries: int = 0
    retained_away: int = 0
    findings: tuple[AuditFinding, ...] = field(default=(), metadata={"parse": _findings})
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class AuditNode(Model):
    """A file or folder that was touched, counted with all it holds."""

    name: str = ""
    path: str = ""
    is_folder: bool = False
    read: int = 0
    write: int = 0
    delete: int = 0
    denied: int = 0
    total: int = 0


def _nodes(value: Any) -> tuple[AuditNode, ...]:
    return tuple(AuditNode.from_json(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class AuditTree(Model):
    """What was touched directly below a folder, the busiest first."""

    path: str = "/"
    children: tuple[AuditNode, ...] = field(default=(), metadata={"parse": _nodes})
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class AuditBucket(Model):
    """Counts of one stretch of time."""

    timestamp: datetime | None = field(default=None, metadata={"parse": parse_time})
    allowed: int = 0
    denied: int = 0


def _buckets(value: Any) -> tuple[AuditBucket, ...]:
    return tuple(AuditBucket.from_json(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class AuditTimeline(Model):
    """Counts by time, oldest first; stretches without entries are left out."""

    bucket_s: int = 1
    buckets: tuple[AuditBucket, ...] = field(default=(), metadata={"parse": _buckets})
