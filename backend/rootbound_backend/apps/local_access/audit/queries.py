"""Reads of the audit log: filters, pages by keyset, summaries.

Every query is bounded by an index, whatever the filter selects: a run's entries by the run, lists
across runs by user and time. A run, task or project also bounds the time, by the spans that the
watermarks keep, so that an old project's entries are not looked for among the newest ones.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.postgres.aggregates import BoolOr
from django.core import signing
from django.db.models import (
    BooleanField,
    CharField,
    Count,
    DateTimeField,
    DurationField,
    ExpressionWrapper,
    F,
    Func,
    Max,
    Min,
    Q,
    QuerySet,
    Value,
)
from django.db.models.fields.json import KT
from django.db.models.functions import StrIndex, Substr

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.local_access.audit.globs import glob_prefix, glob_regex
from rootbound_backend.apps.local_access.models import (
    AuditWatermark,
    FsAuditEvent,
    KernelSession,
    PMDecomposition,
)
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import InvalidInput

__all__ = [
    "AuditFilter",
    "audit_counts",
    "audit_entries",
    "audit_page",
    "audit_timeline",
    "audit_tree",
    "in_order",
    "scope_of_runs",
]

RARE = 20_000
"""Up to so many entries are sorted; more are read in the order of an index."""

MAX_BUCKETS = 5_000
WANTED_BUCKETS = 300
MAX_NAMES = 1_000
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)
_ORIGIN = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
_CURSOR = "rootbound.audit.cursor"


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """Which entries are asked for; None means all.

    Attributes
    ----------
    user
        Whose entries.
    run
        One attempt, decomposition or kernel session.
    task, project
        All runs of it.
    path_prefix
        What the path begins with.
    glob
        See `globs.glob_regex`.
    program
        The program of a child process, as recorded.
    since, until
        Times, the end exclusive.
    """

    user: User
    run: uuid.UUID | None = None
    task: uuid.UUID | None = None
    project: uuid.UUID | None = None
    operation: str | None = None
    result: str | None = None
    source: str | None = None
    program: str | None = None
    path_prefix: str | None = None
    glob: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def by_seq(self) -> bool:
        """Whether the list follows one run's numbers instead of the time."""
        return self.run is not None


def scope_of_runs(
    *, user: User, task: uuid.UUID | None = None, project: uuid.UUID | None = None
) -> QuerySet[AuditWatermark]:
    """Return the watermarks of all runs of a user, or of one task or project of the user's."""
    marks = AuditWatermark.objects.filter(user=user)
    if task is not None:
        attempts = Attempt.objects.filter(task_id=task, task__project__owner=user)
        marks = marks.filter(run_id__in=attempts.values("pk"))
    if project is not None:
        own = Attempt.objects.filter(task__project_id=project, task__project__owner=user)
        plans = PMDecomposition.objects.filter(project_id=project, project__owner=user)
        kernels = KernelSession.objects.filter(project_id=project, user=user)
        marks = marks.filter(
            Q(run_id__in=own.values("pk"))
            | Q(run_id__in=plans.values("pk"))
            | Q(run_id__in=kernels.values("pk"))
        )
    return marks


def audit_entries(wanted: AuditFilter) -> QuerySet[FsAuditEvent]:
    """Return the entries that match, without an order."""
    rows = FsAuditEvent.objects.filter(user=wanted.user)
    if wanted.run is not None:
        rows = rows.filter(run_id=wanted.run)
    if wanted.task is not None or wanted.project is not None:
        rows = _of_runs(rows, wanted)
    for field in ("operation", "source"):
        if value := getattr(wanted, field):
            rows = rows.filter(**{field: value})
    if wanted.result:
        # The IN form is the one that the partial indexes were made with.
        rows = rows.filter(result__in=[wanted.result])
    if wanted.since is not None:
        rows = rows.filter(timestamp__gte=wanted.since)
    if wanted.until is not None:
        rows = rows.filter(timestamp__lt=wanted.until)
    return _named(rows, wanted)


def _of_runs(rows: QuerySet[FsAuditEvent], wanted: AuditFilter) -> QuerySet[FsAuditEvent]:
    marks = scope_of_runs(user=wanted.user, task=wanted.task, project=wanted.project)
    if wanted.run is not None:
        marks = marks.filter(run_id=wanted.run)
    spans = list(marks.values_list("run_id", "first_at", "last_at"))
    if not spans:
        return rows.none()
    rows = rows.filter(run_id__in=[run for run, _, _ in spans])
    firsts = [first for _, first, _ in spans if first is not None]
    lasts = [last for _, _, last in spans if last is not None]
    if len(firsts) == len(spans) == len(lasts):
        rows = rows.filter(timestamp__gte=min(firsts), timestamp__lte=max(lasts))
    return rows


def _named(rows: QuerySet[FsAuditEvent], wanted: AuditFilter) -> QuerySet[FsAuditEvent]:
    """Filter by program and path."""
    if wanted.program:
        rows = rows.alias(program=KT("detail__program")).filter(program=wanted.program)
    if wanted.path_prefix:
        rows = rows.filter(path__startswith=wanted.path_prefix)
    if wanted.glob:
        if prefix := glob_prefix(wanted.glob):
            rows = rows.filter(path__startswith=prefix)
        if prefix == wanted.glob:
            return rows.filter(path=wanted.glob)
        rows = rows.filter(path__regex=glob_regex(wanted.glob))
    return rows


def _is_rare(wanted: AuditFilter) -> bool:
    """Return whether a path or program selects so little that sorting it is the quick way.

    The planner cannot know: it takes rows that match for evenly spread, and would look for those
    of last month's run one by one behind all newer entries.
    """
    if wanted.by_seq:
        return False
    prefix = wanted.path_prefix or glob_prefix(wanted.glob or "")
    if not wanted.program and len(prefix) < 2:
        return False
    only = AuditFilter(user=wanted.user, program=wanted.program, path_prefix=prefix or None)
    return audit_entries(only)[: RARE + 1].count() <= RARE


def in_order(rows: QuerySet[FsAuditEvent], wanted: AuditFilter) -> QuerySet[FsAuditEvent]:
    """Put entries in the order of the list: the newest first."""
    if wanted.by_seq:
        return rows.order_by("-seq")
    if _is_rare(wanted):
        # No index has this expression, so the entries are found by path or program, then sorted.
        moment = ExpressionWrapper(
            F("timestamp") + Value(timedelta(0), output_field=DurationField()),
            output_field=DateTimeField(),
        )
        return rows.order_by(moment.desc(), "-id")
    return rows.order_by("-timestamp", "-id")


def audit_page(
    wanted: AuditFilter, *, limit: int, cursor: str | None = None
) -> tuple[list[FsAuditEvent], str | None]:
    """Return one page, newest first, and the cursor of the next.

    Parameters
    ----------
    wanted
        Which entries.
    limit
        Entries at most.
    cursor
        Of the page before.

    Raises
    ------
    InvalidInput
        For a cursor that is not of this list.
    """
    rows = audit_entries(wanted)
    if cursor:
        rows = rows.filter(_behind(cursor, wanted))
    page = list(in_order(rows, wanted)[: limit + 1])
    if len(page) <= limit:
        return page, None
    last = page[limit - 1]
    place = [last.seq] if wanted.by_seq else [last.timestamp.isoformat(), last.id]
    return page[:limit], signing.dumps(place, salt=_CURSOR)


def _behind(cursor: str, wanted: AuditFilter) -> Q:
    try:
        place = signing.loads(cursor, salt=_CURSOR)
        if wanted.by_seq:
            (seq,) = place
            return Q(seq__lt=int(seq))
        text, row_id = place
        moment = datetime.fromisoformat(text)
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise InvalidInput(
            field="cursor", detail="The cursor is not one of this list; start without one."
        ) from error
    # Not `< or (= and <)`: this form bounds the index, and leaves newer partitions out.
    return Q(timestamp__lte=moment) & (Q(timestamp__lt=moment) | Q(id__lt=row_id))


def audit_counts(wanted: AuditFilter) -> list[dict[str, Any]]:
    """Return the number of entries by operation and result."""
    counts = (
        audit_entries(wanted)
        .order_by()
        .values("operation", "result")
        .annotate(count=Count("id"))
        .order_by("operation", "result")
    )
    return [dict(row) for row in counts]


def audit_tree(wanted: AuditFilter, *, below: str) -> dict[str, Any]:
    """Return what was touched directly below a folder, folders counted with all they hold.

    Parameters
    ----------
    wanted
        Which entries.
    below
        The folder; ``/`` for the top.

    Returns
    -------
    dict
        ``path``, ``children`` (at most 1,000, the busiest first) and ``truncated``.
    """
    folder = below.rstrip("/") + "/"
    rest = Substr("path", len(folder) + 1)
    name: Any = Func(rest, Value("/"), Value(1), function="split_part", output_field=CharField())
    inside = ExpressionWrapper(Q(slash__gt=0), output_field=BooleanField())
    counts: dict[str, Any] = {
        "read": Count("id", filter=Q(operation="READ")),
        "write": Count("id", filter=Q(operation="WRITE")),
        "delete": Count("id", filter=Q(operation="DELETE")),
        "denied": Count("id", filter=Q(result="DENIED")),
        "total": Count("id"),
    }
    rows = (
        audit_entries(wanted)
        .filter(path__startswith=folder)
        .annotate(name=name, slash=StrIndex(rest, Value("/")))
        .order_by()
        .values("name")
        .annotate(is_folder=BoolOr(inside), **counts)
        .order_by("-total", "name")
    )
    found = [{**row, "path": f"{folder}{row['name']}"} for row in rows[: MAX_NAMES + 1]]
    children = found[:MAX_NAMES]
    path = folder.rstrip("/") or "/"
    return {"path": path, "children": children, "truncated": len(found) > MAX_NAMES}


def audit_timeline(wanted: AuditFilter, *, bucket_s: int | None = None) -> dict[str, Any]:
    """Return counts of allowed and denied operations in buckets of time, oldest first.

    Parameters
    ----------
    wanted
        Which entries.
    bucket_s
        Width of a bucket, in seconds; by default such that there are at most 300.

    Raises
    ------
    InvalidInput
        When there would be more than 5,000 buckets.
    """
    since, until = _span(wanted)
    seconds = (until - since).total_seconds() if since and until else 0.0
    width = bucket_s or _width(seconds)
    if seconds / width > MAX_BUCKETS:
        raise InvalidInput(
            field="bucket",
            detail=(
                f"Buckets of {width} s would be more than {MAX_BUCKETS:,} over this time; take "
                "wider ones, or narrow since and until."
            ),
        )
    start: Any = Func(
        Value(timedelta(seconds=width), output_field=DurationField()),
        F("timestamp"),
        Value(_ORIGIN),
        function="date_bin",
        output_field=DateTimeField(),
    )
    rows = (
        audit_entries(wanted)
        .annotate(start=start)
        .order_by()
        .values("start")
        .annotate(
            allowed=Count("id", filter=Q(result="ALLOWED")),
            denied=Count("id", filter=Q(result="DENIED")),
        )
        .order_by("start")
    )
    buckets = [
        {"timestamp": row["start"], "allowed": row["allowed"], "denied": row["denied"]}
        for row in rows[:MAX_BUCKETS]
    ]
    return {"bucket_s": width, "buckets": buckets}


def _width(seconds: float) -> int:
    fitting: Sequence[int] = [step for step in _STEPS_S if seconds / step <= WANTED_BUCKETS]
    return fitting[0] if fitting else int(seconds / WANTED_BUCKETS) + 1


def _span(wanted: AuditFilter) -> tuple[datetime | None, datetime | None]:
    """Return the time in which the entries lie, from the watermarks."""
    marks = scope_of_runs(user=wanted.user, task=wanted.task, project=wanted.project)
    if wanted.run is not None:
        marks = marks.filter(run_id=wanted.run)
    span = marks.aggregate(first=Min("first_at"), last=Max("last_at"))
    first, last = span["first"], span["last"]
    if first is None or last is None:
        return None, None
    return max(first, wanted.since or first), min(last, wanted.until or last)
