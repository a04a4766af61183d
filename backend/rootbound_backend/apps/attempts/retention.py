"""How much of the stream is kept: rules per project, disk use, and the clearing away."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import F, Q, QuerySet, Sum

from rootbound_backend.apps.attempts.models import TERMINAL_STATUSES, Attempt
from rootbound_backend.apps.attempts.partitions import Partition, drop_partition, list_partitions
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.lda_client import is_outward, lda_request
from rootbound_backend.problems import Problem
from rootbound_backend.statements import Prepared

__all__ = [
    "Rule",
    "Use",
    "clear_away",
    "project_use",
    "refuse_when_full",
    "remove_files",
    "rule_of",
]

logger = logging.getLogger(__name__)

MIB = 1024 * 1024
WARN_AT = 0.8
"""Share of the limit from which on people are warned."""

_DELETE = """
DELETE FROM attempts_attemptevent WHERE attempt_id = ANY(%s)
    AND attempt_created_at BETWEEN %s AND %s
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a project keeps of attempts that have ended.

    Attributes
    ----------
    days
        Events and files of older ones are removed; None keeps them.
    max_bytes
        When the project takes more, the oldest ones go first; None for no limit.
    """

    days: float | None
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class Use:
    """What a project takes on the disk, in bytes.

    Attributes
    ----------
    event_bytes, file_bytes
        Stored events as they came in; files of its attempts at the last look.
    fixed_bytes
        The part that no rule may remove, because its attempts have not ended.
    """

    event_bytes: int
    file_bytes: int
    fixed_bytes: int
    rule: Rule

    @property
    def total(self) -> int:
        """Events and files together."""
        return self.event_bytes + self.file_bytes

    @property
    def state(self) -> str:
        """``ok``, ``warning`` near the limit, ``full`` when nothing more can be made room for."""
        limit = self.rule.max_bytes
        if limit is None or self.total < limit * WARN_AT:
            return "ok"
        return "full" if self.fixed_bytes >= limit else "warning"


def rule_of(project: Project) -> Rule:
    """Return a project's rule: its own ``retention``, else the settings'."""
    own: dict[str, Any] = project.config.get("retention") or {}
    days = own.get("days", settings.RETENTION_DAYS)
    max_mb = own.get("max_mb", settings.RETENTION_MAX_MB)
    return Rule(days or None, max_mb * MIB if max_mb else None)


def project_use(project: Project) -> Use:
    """Return what a project takes, in one query."""
    events, files, fixed = _SUMS.first(project.pk) or (0, 0, 0)
    return Use(int(events), int(files), int(fixed or 0), rule_of(project))


_ENDED = Q(status__in=[str(status) for status in TERMINAL_STATUSES])
_SUMS: Prepared[tuple[int, int, int | None]] = Prepared(
    lambda project_id: (
        Attempt.objects.filter(task__project_id=project_id)
        .order_by()
        .values("task__project_id")
        .annotate(
            of_events=Sum("event_bytes"),
            of_files=Sum("file_bytes"),
            of_live=Sum(F("event_bytes") + F("file_bytes"), filter=~_ENDED),
        )
        .values_list("of_events", "of_files", "of_live")
    ),
    uuid.UUID,
)


def refuse_when_full(project: Project) -> str | None:
    """Refuse to start more work where nothing can be kept any more; warn before.

    Returns
    -------
    str or None
        A warning in one sentence, or None when there is room.

    Raises
    ------
    Problem
        507 ``disk-full`` or ``quota-exceeded``.
    """
    disk = shutil.disk_usage(settings.HOME)
    floor = settings.MIN_FREE_MB * MIB
    if disk.free < floor:
        raise Problem(
            status=507,
            code="disk-full",
            detail=(
                f"Only {disk.free // MIB} MB are free where Rootbound keeps its state, and it "
                f"needs {settings.MIN_FREE_MB} MB to begin; free some space."
            ),
        )
    use = project_use(project)
    limit = use.rule.max_bytes
    if limit is not None and use.state == "full":
        raise Problem(
            status=507,
            code="quota-exceeded",
            detail=(
                f"Attempts of this project that have not ended hold {use.fixed_bytes // MIB} MB, "
                f"and it may take {limit // MIB} MB; decide on those in review, or raise "
                "retention.max_mb in its configuration."
            ),
        )
    if disk.free < 4 * floor:
        return f"Only {disk.free // MIB} MB are free where Rootbound keeps its state."
    if limit is not None and use.state == "warning":
        return (
            f"This project's output takes {use.total // MIB} of {limit // MIB} MB; when it is "
            "full, events and files of its oldest ended attempts are removed."
        )
    return None


def clear_away(now: datetime) -> int:
    """Remove events and files that no rule keeps.

    Attempts, their status, evidence and audit log stay; only the stream's body goes.

    Parameters
    ----------
    now
        The present moment.

    Returns
    -------
    int
        How many attempts lost their events.
    """
    expired: dict[uuid.UUID, datetime] = {}
    for project in Project.objects.all().iterator():
        expired.update(_expired(project, now))
    left, removed = dict(expired), 0
    for partition in list_partitions():
        in_week = {pk: at for pk, at in left.items() if partition.start <= at < partition.end}
        left = {pk: at for pk, at in left.items() if pk not in in_week}
        try:
            if partition.end <= now and _all_expired(partition, in_week):
                removed += _forget(in_week, partition)
            elif in_week:
                removed += _forget(in_week, None)
        except OperationalError as error:
            # Somebody reads there; the next round tries again.
            logger.info("The events of %s stay for now: %s", partition.name, error)
    if left:
        removed += _forget(left, None)
    return removed


def _expired(project: Project, now: datetime) -> dict[uuid.UUID, datetime]:
    """Return id and creation of the ended attempts that a project's rule does not keep."""
    rule = rule_of(project)
    found: dict[uuid.UUID, datetime] = {}
    ended = _ended_with_events().filter(task__project=project)
    if rule.days is not None:
        old = ended.filter(completed_at__lt=now - timedelta(days=rule.days))
        found.update(old.values_list("pk", "created_at"))
    if rule.max_bytes is None:
        return found
    use = project_use(project)
    excess = use.total - rule.max_bytes
    rows = ended.order_by("completed_at", "pk").values_list(
        "pk", "created_at", "event_bytes", "file_bytes"
    )
    for pk, created_at, event_bytes, file_bytes in rows:
        if pk not in found and excess <= 0:
            break
        found[pk] = created_at
        excess -= event_bytes + file_bytes
    return found


def _ended_with_events() -> QuerySet[Attempt]:
    statuses = [str(status) for status in TERMINAL_STATUSES]
    kept = Q(first_seq__lte=F("last_seq")) | Q(file_bytes__gt=0)
    return Attempt.objects.filter(kept, status__in=statuses)


def _all_expired(partition: Partition, expired: Iterable[uuid.UUID]) -> bool:
    """Return whether no attempt of the partition's week keeps its events."""
    return (
        not Attempt.objects.filter(
            created_at__gte=partition.start,
            created_at__lt=partition.end,
            first_seq__lte=F("last_seq"),
        )
        .exclude(pk__in=list(expired))
        .exists()
    )


def _forget(attempts: dict[uuid.UUID, datetime], partition: Partition | None) -> int:
    """Remove events, with the whole partition if given, then the files."""
    with transaction.atomic():
        changed = Attempt.objects.filter(pk__in=list(attempts)).update(
            first_seq=F("last_seq") + 1, event_bytes=0, file_bytes=0
        )
        if partition is not None:
            drop_partition(partition)
        else:
            with connection.cursor() as cursor:
                moments = attempts.values()
                cursor.execute(_DELETE, [list(attempts), min(moments), max(moments)])
    remove_files(list(attempts))
    return changed


def remove_files(attempt_ids: Sequence[uuid.UUID]) -> None:
    """Remove the artifacts and the run folders of ended attempts."""
    if is_outward():
        _have_files_removed(attempt_ids)
        return
    for attempt_id in attempt_ids:
        for kind in ("artifacts", "runs"):
            folder = Path(settings.HOME) / kind / str(attempt_id)
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
                if folder.exists():
                    logger.warning("%s cannot be removed.", folder)


def _have_files_removed(attempt_ids: Sequence[uuid.UUID]) -> None:
    rows = Attempt.objects.filter(pk__in=list(attempt_ids)).select_related("task__project")
    for attempt in rows:
        try:
            lda_request("POST", f"/runs/{attempt.pk}/forget", **place_of(attempt), body={})
        except Problem as problem:
            logger.warning("The files of attempt %s stay where they are: %s", attempt.pk, problem)
