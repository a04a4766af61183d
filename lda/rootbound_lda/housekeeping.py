"""Worktrees of runs that have ended: what there is, and what may go without losing anything."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import worktrees
from .config import Config
from .git import Git, GitError, RepositoryLocks, discover
from .records import RunRecord
from .removal import remove_worktree

log = logging.getLogger(__name__)

GIB: Final = 1024**3
_HEAVY: Final = (".git", ".venv", "node_modules")


@dataclass(frozen=True, slots=True)
class Found:
    """One worktree.

    Attributes
    ----------
    bytes
        Disk space of its files, what tools left behind included.
    reason
        Why it may go: ``merged``, ``discarded`` or ``empty``; ``""`` when it has to stay.
    """

    attempt_id: str
    path: str
    repo_path: str
    title: str
    state: str
    live: bool
    bytes: int
    reason: str


def size_of(top: Path) -> int:
    """Return the bytes that a folder takes on the disk."""
    total = 0
    for folder, _, names in os.walk(top):
        for name in names:
            try:
                total += Path(folder, name).lstat().st_blocks * 512
            except OSError:
                continue
    return total


async def is_touched(record: RunRecord, config: Config) -> bool:
    """Return whether somebody has worked in a worktree since its run ended.

    Parameters
    ----------
    record
        The run.
    config
        Where its worktree is, and the patterns of by-products, which are nobody's work.
    """
    path = config.worktrees / record.attempt_id
    if not record.ended_at or not await asyncio.to_thread(_has_newer, path, record.ended_at):
        return False
    try:
        found = await discover(path)
        if found is None or found.work_tree is None or found.work_tree.name != path.name:
            return False
        excludes = config.runs / record.attempt_id / "exclude"
        git = Git(found.git_dir, path, found.common_dir, excludes=excludes)
        status = await git.run("status", "--porcelain", "-z", "--untracked-files=all")
    except GitError:
        return False
    names = [path / os.fsdecode(entry[3:]) for entry in status.stdout.split(b"\0")]
    return await asyncio.to_thread(_any_newer, names, record.ended_at)


def _has_newer(top: Path, since: float) -> bool:
    for folder, folders, names in os.walk(top):
        if Path(folder) == top:
            folders[:] = [name for name in folders if name not in _HEAVY]
        if _any_newer((Path(folder, name) for name in names), since):
            return True
    return False


def _any_newer(paths: Iterable[Path], since: float) -> bool:
    for path in paths:
        try:
            if path.lstat().st_mtime > since:
                return True
        except OSError:
            continue
    return False


async def removable(record: RunRecord, path: Path, config: Config) -> str:
    """Return why an ended run's worktree may go, ``""`` when something in it is nowhere else.

    Empty is what has no commit of its own and no change that is not committed.
    """
    if (record.merged or record.discarded) and await is_touched(record, config):
        return ""
    if record.merged:
        return "merged"
    if record.discarded:
        return "discarded"
    if record.live or record.head_commit is not None or record.base_commit is None:
        return ""
    try:
        found = await discover(path)
        if found is None or found.work_tree is None or found.work_tree.name != path.name:
            return ""
        git = Git(found.git_dir, path, found.common_dir)
        if await git.commit_of("HEAD") != record.base_commit:
            return ""
        status = await git.run("status", "--porcelain", "-z")
    except GitError:
        return ""
    return "" if status.stdout else "empty"


async def remove(record: RunRecord, path: Path, locks: RepositoryLocks) -> bool:
    """Take a worktree away; the branch's tip is kept under a ref of its own first.

    Returns
    -------
    bool
        Whether it is gone.
    """
    attempt = record.attempt_id
    try:
        repo = await worktrees.open_repository(record.repo_path)
        async with locks(repo.git.common_dir):
            if record.merged:
                await remove_worktree(repo.git, path)
            else:
                await worktrees.discard(
                    repo.git, path, attempt_id=attempt, branch=f"attempt/{attempt}"
                )
    except (worktrees.RepoRefused, GitError) as error:
        log.warning("The worktree of %s stays: %s", attempt, error)
        return False
    return True


async def shed(path: Path) -> None:
    """Delete what git ignores in an ended run's worktree: environments, caches, builds."""
    found = await discover(path)
    if found is not None and found.work_tree is not None:
        await Git(found.git_dir, path, found.common_dir).run("clean", "-ffdXq")


def quota_bytes(text: str | None) -> int | None:
    """Read ``ROOTBOUND_WORKTREE_QUOTA_GB``; ``None`` for no quota."""
    try:
        return int(float(text) * GIB) if text else None
    except ValueError:
        log.warning("ROOTBOUND_WORKTREE_QUOTA_GB is %r; give a number. There is no quota.", text)
        return None
