"""Going on with an attempt's branch: after a restart, and on a base that has moved."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Final

from .git import Git, GitError
from .worktrees import RepoRefused, Repository, Worktree

_LOCK_WAIT_S: Final = 15.0


async def reopen_worktree(
    repo: Repository, path: Path, *, attempt_id: str, base: tuple[str, str], excludes: Path
) -> Worktree | None:
    """Return an attempt's worktree as an earlier process left it.

    Parameters
    ----------
    repo
        The repository.
    path
        The worktree.
    attempt_id
        Gives the branch its name.
    base
        Branch to merge into later, and the commit it is compared with.
    excludes
        The file with the patterns of by-products.

    Returns
    -------
    Worktree or None
        ``None`` when it is gone or is no worktree of this branch any more.
    """
    branch = f"attempt/{attempt_id}"
    git_dir = await asyncio.to_thread(_git_dir_of, path, repo.git.common_dir)
    if git_dir is None:
        return None
    await _wait_for_git(git_dir)
    git = Git(git_dir, path, repo.git.common_dir, excludes=excludes, identity=repo.identity)
    found = await git.run("symbolic-ref", "--quiet", "HEAD", ok=(0, 1, 128))
    tip = await git.commit_of(f"refs/heads/{branch}")
    if tip is None:
        return None
    if found.text != f"refs/heads/{branch}":
        # It was looking at the base commit for a moment.
        await git.run("checkout", "--quiet", "--force", branch)
    return Worktree(path, git, branch, base[1], base[0])


def _git_dir_of(path: Path, common_dir: Path) -> Path | None:
    """Read where a worktree's own git folder is; only one of this repository counts."""
    try:
        text = (path / ".git").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    git_dir = Path(text.removeprefix("gitdir: ").strip())
    inside = git_dir.is_relative_to(common_dir / "worktrees") and git_dir.is_dir()
    return git_dir if inside else None


async def _wait_for_git(git_dir: Path) -> None:
    """Let a git that outlived its LDA finish; a lock that stays is nobody's, and is removed."""
    lock = git_dir / "index.lock"
    end = time.monotonic() + _LOCK_WAIT_S
    while lock.exists() and time.monotonic() < end:  # noqa: ASYNC110 - git tells nobody
        await asyncio.sleep(0.1)
    with contextlib.suppress(FileNotFoundError):
        lock.unlink()


async def commits_behind(git: Git, base_branch: str, commit: str) -> int:
    """Return how many commits of the base branch an attempt does not have."""
    counted = await git.run("rev-list", "--count", f"{commit}..refs/heads/{base_branch}")
    return int(counted.text or 0)


async def rebase(worktree: Worktree, old_base: str, tip: str) -> list[str]:
    """Put the branch's own commits on ``tip``.

    Returns
    -------
    list of str
        Files in conflict; the branch is then as it was before.

    Raises
    ------
    GitError
        When git fails for another reason.
    """
    git = worktree.git
    done = await git.run("rebase", "--quiet", "--onto", tip, old_base, ok=(0, 1))
    if done.code == 0:
        return []
    files = await _unmerged(git)
    await git.run("rebase", "--abort")
    if not files:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise GitError(f"git rebase failed: {said[-1] if said else 'no reason given'}", done.code)
    return files


async def merge_with_conflicts(worktree: Worktree, tip: str) -> list[str]:
    """Merge ``tip`` into the branch and leave the conflicts in the files, to be settled.

    Returns
    -------
    list of str
        Files that hold conflict markers; empty when the merge is clean (and not yet committed).

    Raises
    ------
    RepoRefused
        ``base-unrelated`` when the two have no commit in common.
    GitError
        When git fails for another reason.
    """
    git = worktree.git
    done = await git.run("merge", "--no-commit", "--no-ff", "--quiet", tip, ok=(0, 1, 128))
    if done.code == 128:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if any("unrelated histories" in line for line in said):
            raise RepoRefused(
                "base-unrelated",
                f"The branch {worktree.base_branch} was replaced and has no commit in common with "
                "the work; retry the task on it as it is now.",
            )
        raise GitError(f"git merge failed: {said[-1] if said else 'no reason given'}", done.code)
    return await _unmerged(git)


async def _unmerged(git: Git) -> list[str]:
    listed = await git.run("diff", "--name-only", "--diff-filter=U", "-z")
    return sorted({n for n in listed.stdout.decode("utf-8", "replace").split("\0") if n})


def with_markers(top: Path, files: list[str]) -> list[str]:
    """Return those of the files that still hold conflict markers."""
    found = []
    for name in files:
        try:
            data = (top / name).read_bytes()
        except OSError:
            continue
        if any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in data.splitlines()):
            found.append(name)
    return found
