"""What Rootbound takes on the disk, measured now and then and kept for those who ask."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.retention import project_use, remove_files
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.users.models import User

__all__ = ["disk_report", "measure_disk", "remove_orphans", "usage_of"]

ORPHAN_S = 86_400
"""Age at which files of an attempt that was deleted are removed, in seconds."""

PARTS = ("postgres", "redis", "logs", "outbox", "worktrees", "artifacts", "runs")


def _report_file() -> Path:
    return Path(settings.HOME) / "run" / "usage.json"


def folder_bytes(folder: Path) -> int:
    """Return the disk space of all files beneath a folder, in bytes; what vanishes counts not."""
    total = 0
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def measure_disk(now: datetime) -> dict[str, Any]:
    """Measure the state folder's parts and each attempt's files, and keep the result.

    Returns
    -------
    dict
        ``{"measured_at", "parts": {name: bytes}}``, also in ``run/usage.json`` of the state folder,
        where the command line finds it without the database.
    """
    home = Path(settings.HOME)
    by_attempt: dict[uuid.UUID, int] = {}
    parts = dict.fromkeys(PARTS, 0)
    for part in PARTS:
        if part not in {"artifacts", "runs"}:
            parts[part] = folder_bytes(home / part)
            continue
        for folder in _folders(home / part):
            size = folder_bytes(folder)
            parts[part] += size
            if (attempt_id := _uuid(folder.name)) is not None:
                by_attempt[attempt_id] = by_attempt.get(attempt_id, 0) + size
    _store(by_attempt)
    report = {"measured_at": now.isoformat(), "parts": parts}
    target = _report_file()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode(report))
    fresh.replace(target)
    return report


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def remove_orphans() -> int:
    """Remove the files of attempts that no longer exist; return how many folders went."""
    found = {
        attempt_id: folder
        for folder in _folders(Path(settings.HOME) / "artifacts")
        if (attempt_id := _uuid(folder.name)) is not None
        and time.time() - folder.stat().st_mtime > ORPHAN_S
    }
    known = set(Attempt.objects.filter(pk__in=list(found)).values_list("pk", flat=True))
    gone = [attempt_id for attempt_id in found if attempt_id not in known]
    remove_files(gone)
    return len(gone)


def _store(sizes: dict[uuid.UUID, int]) -> None:
    known = dict(
        Attempt.objects.filter(file_bytes__gt=0).values_list("pk", "file_bytes"),
    )
    for attempt_id in known.keys() | sizes.keys():
        size = sizes.get(attempt_id, 0)
        if known.get(attempt_id) != size:
            Attempt.objects.filter(pk=attempt_id).update(file_bytes=size)


def disk_report() -> dict[str, Any]:
    """Return the last measurement with the space that is free now."""
    try:
        report: dict[str, Any] = msgspec.json.decode(_report_file().read_bytes())
    except (OSError, msgspec.DecodeError):
        report = {"measured_at": None, "parts": {}}
    space = shutil.disk_usage(settings.HOME)
    return {**report, "free_bytes": space.free, "total_bytes": space.total}


def usage_of(user: User) -> list[dict[str, Any]]:
    """Return what each of a user's projects takes, and what it may take."""
    found = []
    for project in Project.objects.filter(owner=user).order_by("name", "id"):
        use = project_use(project)
        found.append(
            {
                "id": str(project.pk),
                "name": project.name,
                "event_bytes": use.event_bytes,
                "file_bytes": use.file_bytes,
                "max_bytes": use.rule.max_bytes,
                "days": use.rule.days,
                "state": use.state,
            }
        )
    return found
