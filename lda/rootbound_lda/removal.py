"""Taking worktrees away: at once for everybody, on the disk in the background."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from pathlib import Path
from typing import Any

from .git import Git

__all__ = ["delete_tree", "empty_trash", "remove_worktree"]


async def remove_worktree(git: Git, path: Path) -> None:
    """Take a worktree away: renamed at once, deleted in the background, unknown to git."""
    trash = await asyncio.to_thread(_throw_away, path)
    if trash is not None:
        task = asyncio.create_task(asyncio.to_thread(delete_tree, trash))
        _DELETIONS.add(task)
        task.add_done_callback(_DELETIONS.discard)
    await asyncio.to_thread(_forget, git.common_dir / "worktrees" / path.name, path)


def _forget(own: Path, path: Path) -> None:
    """Do for one worktree what `git worktree prune` does, by git's documented layout.

    Parameters
    ----------
    own
        The worktree's folder in the common git folder.
    path
        Where the worktree was; a folder that belongs to another one is left alone.
    """
    try:
        text = (own / "gitdir").read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return
    if Path(text.rstrip("\n")) != path / ".git":
        return
    shutil.rmtree(own)
    with contextlib.suppress(OSError):  # others are left
        own.parent.rmdir()


def _throw_away(path: Path) -> Path | None:
    trash = path.with_name(f".trash-{uuid.uuid4().hex}")
    try:
        path.rename(trash)
    except FileNotFoundError:
        return None
    return trash


_DELETIONS: set[asyncio.Task[None]] = set()


def delete_tree(path: Path) -> None:
    """Delete a folder, also where a read-only folder is in the way."""

    def make_writable(function: Any, name: str, _: Any) -> None:
        parent = Path(name).parent
        if parent.is_relative_to(path):
            parent.chmod(0o700)
        if not Path(name).is_symlink() and Path(name).is_dir():
            Path(name).chmod(0o700)
        function(name)

    shutil.rmtree(path, onerror=make_writable)


def empty_trash(folder: Path) -> None:
    """Delete what an earlier process had renamed away and not finished deleting."""
    for path in folder.glob(".trash-*"):
        shutil.rmtree(path, ignore_errors=True)
