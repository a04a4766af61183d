"""Bringing an attempt into its base branch without ever breaking the user's checkout."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .branches import commits_behind
from .git import Git, GitError, discover
from .worktrees import Repository

_TRIES = 3
UNRELATED = 128
"""Exit code of git when it refuses to merge what has no commit in common, among others."""

_OURS = re.compile(r"Rootbound-\w+:", re.IGNORECASE)
_SIDE = re.compile(r"~[0-9a-f]{40}(?:[0-9a-f]{24})?$")
# Given here, it wins over what .gitmodules says: a submodule has a configuration of its own.
_STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty", "-z")


class MergeRefused(Exception):  # noqa: N818 - it reads as what it says
    """The merge was not made and nothing was changed.

    Attributes
    ----------
    code
        ``merge-conflict``, ``checkout-dirty``, ``checkout-busy``, ``unsaved-changes``,
        ``base-moved`` or ``head-moved``.
    extras
        More fields for the answer, such as the conflicting ``files``.
    """

    def __init__(self, code: str, sentence: str, **extras: Any) -> None:
        super().__init__(sentence)
        self.code = code
        self.extras = extras


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge that is in the base branch.

    Attributes
    ----------
    fast_forward
        Whether the base had not moved since the attempt began.
    """

    merge_commit: str
    base_before: str
    fast_forward: bool


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What is merged into what, and what the commit says."""

    branch: str
    head: str
    base_branch: str
    message: str
    attempt_id: str
    task_id: str | None

    @property
    def commit_message(self) -> str:
        """The message with the trailers that lead back to task and attempt."""
        subject = self.message.strip() or f"Merge {self.branch}"
        # Trailers of the message's own would be read as ours.
        subject = "\n".join(line for line in subject.splitlines() if not _OURS.match(line)).strip()
        lines = [f"Rootbound-Attempt: {self.attempt_id}"]
        if self.task_id:
            lines.insert(0, f"Rootbound-Task: {self.task_id}")
        return f"{subject}\n\n" + "\n".join(lines) + "\n"


async def merge(
    repo: Repository, plan: MergePlan, unsaved: Collection[str] = frozenset()
) -> Merged:
    """Merge an attempt. Repeating a merge that was made returns the same answer.

    The caller holds the repository's lock. Another program may still move the base; then the
    merge is computed anew, and given up after three times.

    Parameters
    ----------
    repo, plan
        What is merged where.
    unsaved
        Files that the user has open with unsaved changes, free of symbolic links. Default none.

    Raises
    ------
    MergeRefused
        When the attempt or its base is not what was reviewed, there are conflicts, the user's
        checkout has uncommitted changes, or the merge changes a file with unsaved ones.
    GitError
        When git itself fails.
    """
    git = repo.git
    refs = await _refs(git, plan)
    if refs.tip != plan.head:
        raise MergeRefused("head-moved", await _where_head_is(git, plan, refs.tip))
    for _ in range(_TRIES):
        base = refs.base
        if base is None:
            raise _no_base(plan)
        fork, merged, checkout = await asyncio.gather(
            _fork(git, base, plan.head),
            _merge_tree(git, base, plan),
            _known_checkout(repo, plan.base_branch, refs.checkout),
        )
        if fork == plan.head:
            return await _already_merged(git, base, plan.head)
        commit = await _merge_commit(git, base, plan, *merged)
        if checkout is not None and unsaved:
            await _refuse_unsaved(git, base, commit, checkout.path, unsaved)
        if await _move(git, plan.base_branch, base, commit, checkout):
            return Merged(commit, base, fork == base)
        refs = await _refs(git, plan)
    raise MergeRefused(
        "base-moved", f"The branch {plan.base_branch} keeps moving; try again in a moment."
    )


@dataclass(frozen=True, slots=True)
class _Refs:
    """Where the attempt's branch and its base are, and which folder has the base checked out."""

    tip: str | None
    base: str | None
    checkout: str


async def _refs(git: Git, plan: MergePlan) -> _Refs:
    names = [f"refs/heads/{name}" for name in (plan.branch, plan.base_branch)]
    # No branch has a blank in its name; a folder may have anything.
    form = "%(refname) %(objectname) %(worktreepath)%00"
    listed = await git.run("for-each-ref", f"--format={form}", *names)
    found: dict[str, tuple[str, str]] = {}
    for line in os.fsdecode(listed.stdout).split("\0"):
        if line.strip("\n"):
            name, commit, path = line.removeprefix("\n").split(" ", 2)
            found[name] = (commit, path)
    tip, _ = found.get(names[0], (None, ""))
    base, checkout = found.get(names[1], (None, ""))
    return _Refs(tip, base, checkout)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a merge would do now.

    Attributes
    ----------
    behind
        Commits of the base branch that the attempt does not have.
    files
        Files in conflict.
    checkout
        Folder that has the base branch checked out, if one has.
    checkout_dirty
        Whether that folder has uncommitted changes, or a rebase or merge under way, which keep the
        merge from being made.
    """

    base_branch: str
    base: str
    head: str
    behind: int
    clean: bool
    merged: bool
    files: list[str]
    checkout: str | None
    checkout_dirty: bool


async def preview(repo: Repository, plan: MergePlan) -> Preview:
    """Try a merge on objects only; nothing is changed.

    Raises
    ------
    MergeRefused
        ``base-moved`` when the base branch does not exist any more.
    """
    git = repo.git
    base = await git.commit_of(f"refs/heads/{plan.base_branch}")
    if base is None:
        raise _no_base(plan)
    merged = await _fork(git, base, plan.head) == plan.head
    files = [] if merged else (await _merge_tree(git, base, plan))[1]
    checkout = await _checkout_of(git, plan.base_branch)
    return Preview(
        plan.base_branch, base, plan.head, await commits_behind(git, plan.base_branch, plan.head),
        not files, merged, files, str(checkout.path) if checkout else None,
        checkout is not None and (checkout.dirty or bool(checkout.busy)),
    )  # fmt: skip


def _no_base(plan: MergePlan) -> MergeRefused:
    return MergeRefused(
        "base-moved",
        f"The branch {plan.base_branch} does not exist any more; set the project's default_branch "
        "to another one and bring the attempt up to date.",
    )


async def _where_head_is(git: Git, plan: MergePlan, tip: str | None) -> str:
    """Say what became of an attempt's branch, and how it comes back."""
    if await git.commit_of(plan.head) is None:
        return (
            f"The repository does not have the attempt's commit {plan.head[:12]} any more; reject "
            "the attempt and retry the task."
        )
    back = f"`git update-ref refs/heads/{plan.branch} {plan.head[:12]}`"
    if tip is None:
        return f"The branch {plan.branch} is gone; bring it back with {back} and approve again."
    return (
        f"The branch {plan.branch} is not at the reviewed commit any more but at {tip[:12]}; bring "
        f"it back with {back} and approve again, or ask for changes."
    )


async def _merge_tree(git: Git, base: str, plan: MergePlan) -> tuple[str, list[str]]:
    """Return the merge's tree and the files in conflict.

    Raises
    ------
    MergeRefused
        ``base-moved`` when the two have no commit in common.
    """
    done = await git.run(
        "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", base, plan.head,
        ok=(0, 1, UNRELATED),
    )  # fmt: skip
    if done.code == UNRELATED:
        await refuse_unrelated(git, base, plan.head, plan.base_branch)
        said = done.stderr.decode("utf-8", "replace").strip()
        raise GitError(f"git merge-tree failed: {said}", done.code)
    tree, *names = [part for part in done.stdout.decode("utf-8", "replace").split("\0") if part]
    # What is a file here and a link there is listed once more, under a name of git's own.
    names = [_SIDE.sub("", name) for name in names]
    return tree, sorted(set(names)) if done.code == 1 else []


async def refuse_unrelated(git: Git, base: str, head: str, branch: str) -> None:
    """Refuse two commits that have nothing in common.

    Raises
    ------
    MergeRefused
        ``base-moved``.
    """
    if not await _fork(git, base, head):
        raise MergeRefused(
            "base-moved",
            f"The branch {branch} was replaced and has no commit in common with this attempt; "
            "retry the task on it as it is now.",
        )


async def _fork(git: Git, base: str, head: str) -> str:
    """Return the commit where two lines parted, "" when they have none in common."""
    return (await git.run("merge-base", base, head, ok=(0, 1))).text


async def _already_merged(git: Git, base: str, head: str) -> Merged:
    """Find the merge of ``head``, which ``base`` holds, on the first-parent line of ``base``."""
    listed = await git.run("rev-list", "--first-parent", "--parents", base, f"^{head}")
    for line in listed.text.splitlines():
        commit, *parents = line.split()
        if len(parents) == 2 and parents[1] == head:
            fork = await _fork(git, parents[0], head)
            return Merged(commit, parents[0], fork == parents[0])
    return Merged(base, base, fast_forward=True)


async def _merge_commit(git: Git, base: str, plan: MergePlan, tree: str, files: list[str]) -> str:
    """Make the merge's commit, of objects only; nothing is visible yet."""
    if files:
        raise MergeRefused(
            "merge-conflict",
            f"The attempt conflicts with {plan.base_branch} in {', '.join(files[:5])}"
            f"{' and more' if len(files) > 5 else ''}; have an agent settle it (update with "
            "resolve), or start a new attempt.",
            files=files,
        )
    made = await git.run(
        "commit-tree", tree, "-p", base, "-p", plan.head, "-F", "-",
        stdin=plan.commit_message.encode("utf-8", "replace"),
    )  # fmt: skip
    return made.text


async def _refuse_unsaved(
    git: Git, base: str, commit: str, checkout: Path, unsaved: Collection[str]
) -> None:
    """Refuse to change files on the disk that an editor would overwrite, or lose, by and by."""
    listed = await git.run("diff", "--name-only", "-z", "--no-renames", base, commit)
    names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    real = await asyncio.to_thread(lambda: [os.path.realpath(checkout / name) for name in names])
    open_ones = [name for name, path in zip(names, real, strict=True) if path in unsaved]
    if open_ones:
        one = len(open_ones) == 1
        shown = ", ".join(f"“{name}”" for name in open_ones[:5])
        raise MergeRefused(
            "unsaved-changes",
            f"{shown}{' and more' if len(open_ones) > 5 else ''} {'is' if one else 'are'} open in "
            "JupyterLab with unsaved changes, which this merge would overwrite; save and commit "
            f"{'it' if one else 'them'}, or close {'it' if one else 'them'} without saving, and "
            "approve again.",
            files=open_ones,
        )


async def _move(git: Git, branch: str, base: str, commit: str, checkout: _Checkout | None) -> bool:
    """Move the base branch to the merge; false when it was moved by somebody else."""
    if checkout is not None and checkout.busy:
        raise MergeRefused(
            "checkout-busy",
            f"{checkout.path} has {checkout.busy} of {branch} under way; finish or abort it and "
            "approve again.",
        )
    if checkout is None:
        return await git.update_ref(f"refs/heads/{branch}", commit, base)
    if checkout.git is None:
        raise GitError(f"The checkout {checkout.path} of {branch} is not usable.", 1)
    if checkout.dirty:
        raise MergeRefused(
            "checkout-dirty",
            f"{checkout.path} has uncommitted changes on {branch}; commit or stash them and "
            "approve again.",
        )
    checkout.git.identity = git.identity
    # By itself git overwrites what is ignored, such as the user's `.env`, without a word.
    output = await checkout.git.run(
        "merge", "--ff-only", "--no-overwrite-ignore", "--quiet", commit, ok=(0, 1, 2, 128)
    )
    if output.code == 0:
        return True
    if await git.commit_of(f"refs/heads/{branch}") != base:
        return False
    said = output.stderr.decode("utf-8", "replace").splitlines()
    names = [line.strip() for line in said if line.startswith("\t")]
    which = ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")
    raise MergeRefused(
        "checkout-dirty",
        f"git would overwrite files in {checkout.path} that are not committed; move them away and "
        f"approve again ({which or (said[0] if said else 'merge --ff-only failed')}).",
        files=names,
    )


@dataclass(frozen=True, slots=True)
class _Checkout:
    """A folder that has the base branch checked out; without ``git`` it is not usable.

    Attributes
    ----------
    busy
        What git has begun there and not finished, ``""`` for nothing; git would fail in the middle
        of it, or undo the merge, if the branch moved.
    """

    path: Path
    git: Git | None
    dirty: bool
    busy: str = ""


async def _checkout_of(git: Git, branch: str) -> _Checkout | None:
    """Look at the folder that has ``branch`` checked out, if one has."""
    path = await _where_checked_out(git, branch)
    if path is None:
        return await asyncio.to_thread(_rebasing, git.common_dir, f"refs/heads/{branch}")
    found = await discover(path)
    if found is None or found.work_tree is None:
        return _Checkout(path, None, dirty=False)
    status = await found.run(*_STATUS)
    busy = await asyncio.to_thread(_begun, found.git_dir)
    return _Checkout(path, found, dirty=bool(status.stdout), busy=busy)


_BUSY = {
    "MERGE_HEAD": "a merge", "CHERRY_PICK_HEAD": "a cherry-pick", "REVERT_HEAD": "a revert",
    "rebase-apply": "an application of patches",
}  # fmt: skip
"""What git keeps, while it is at something on the branch that is checked out."""


def _begun(git_dir: Path) -> str:
    return next((what for name, what in _BUSY.items() if (git_dir / name).exists()), "")


def _rebasing(common_dir: Path, ref: str) -> _Checkout | None:
    """Return the folder in which a branch is being rebased: it is not checked out meanwhile."""
    for git_dir in (common_dir, *(common_dir / "worktrees").glob("*")):
        for state in ("rebase-merge", "rebase-apply"):
            try:
                name = (git_dir / state / "head-name").read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                continue
            if name == ref:
                return _Checkout(_folder_of(git_dir), None, dirty=False, busy="a rebase")
    return None


def _folder_of(git_dir: Path) -> Path:
    """Return the work tree that a git folder belongs to, for people to read."""
    try:
        return Path((git_dir / "gitdir").read_text(encoding="utf-8").strip()).parent
    except (OSError, UnicodeDecodeError):
        return git_dir.parent


async def _known_checkout(repo: Repository, branch: str, path: str) -> _Checkout | None:
    """Look at the folder that is said to have ``branch`` checked out."""
    own = repo.checkout.work_tree
    if not path:
        return await asyncio.to_thread(_rebasing, repo.git.common_dir, f"refs/heads/{branch}")
    if own is None or await asyncio.to_thread(os.path.realpath, path) != str(repo.path):
        # Another worktree, or a bare repository, of which git says this as well.
        return await _checkout_of(repo.git, branch)
    git = replace(repo.checkout)
    status = await git.run(*_STATUS)
    busy = await asyncio.to_thread(_begun, git.git_dir)
    return _Checkout(own, git, dirty=bool(status.stdout), busy=busy)


async def _where_checked_out(git: Git, branch: str) -> Path | None:
    listed = await git.run("worktree", "list", "--porcelain", "-z")
    path: str | None = None
    for line in listed.stdout.decode("utf-8", "surrogateescape").split("\0"):
        if line.startswith("worktree "):
            path = line.removeprefix("worktree ")
        elif line == "bare":
            path = None
        elif line == f"branch refs/heads/{branch}" and path is not None:
            return Path(path)
    return None
