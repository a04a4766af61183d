"""One worktree per attempt, outside of the user's repository."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .git import Git, GitError, Identity, survey, user_identity
from .removal import remove_worktree

BY_PRODUCTS: Final = (
    ".venv/",
    "venv/",
    "node_modules/",
    "__pycache__/",
    "*.py[co]",
    "*.egg-info/",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".hypothesis/",
    ".tox/",
    ".nox/",
    ".coverage",
    ".ipynb_checkpoints/",
)
"""What tools leave behind; never part of a commit, whatever the project ignores."""

_ZERO: Final = "0" * 40


class RepoRefused(Exception):  # noqa: N818 - it reads as what it says
    """The repository cannot be used.

    Attributes
    ----------
    code
        Short, stable name of the reason.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that was found fit for attempts.

    Attributes
    ----------
    path
        The top of the user's checkout, canonical.
    git
        Git on objects and refs, without a work tree.
    checkout
        Git on the user's own checkout.
    """

    path: Path
    git: Git
    checkout: Git
    identity: Identity
    head_commit: str
    default_branch: str | None


@dataclass(frozen=True, slots=True)
class Worktree:
    """An attempt's own checkout."""

    path: Path
    git: Git
    branch: str
    base_commit: str
    base_branch: str


async def open_repository(path: str) -> Repository:
    """Check that ``path`` is a git work tree with a commit and a user to commit as.

    Raises
    ------
    RepoRefused
        With ``repo-not-absolute``, ``repo-missing``, ``repo-odd-path``, ``repo-not-git``,
        ``repo-bare``, ``repo-empty`` or ``repo-no-identity``.
    GitError
        When git itself is missing.
    """
    if not path.startswith("/") or "\0" in path:
        raise RepoRefused("repo-not-absolute", f"{path!r} is not an absolute path; give one.")
    folder = await asyncio.to_thread(_folder, path)
    if folder is None:
        raise RepoRefused("repo-missing", f"There is no folder {path}; check the path.")
    if "\n" in str(folder):
        raise RepoRefused(
            "repo-odd-path", f"The path {str(folder)!r} holds a line break; rename the folder."
        )
    found, identity = await asyncio.gather(survey(folder), user_identity(folder))
    if found is None:
        raise RepoRefused(
            "repo-not-git", f"{path} is not in a git repository; run `git init` there first."
        )
    work_tree = found.git.work_tree
    if work_tree is None:
        raise RepoRefused(
            "repo-bare", f"{path} is a bare repository; give a clone that has a work tree."
        )
    if found.head is None:
        raise RepoRefused("repo-empty", f"{path} has no commit yet; commit something first.")
    if identity is None:
        raise RepoRefused(
            "repo-no-identity",
            f"git does not know who commits in {path}; run `git config user.name` and "
            "`git config user.email` with your name and address there.",
        )
    common = found.git.common_dir
    git = Git(common, None, common, identity=identity)
    return Repository(work_tree.resolve(), git, found.git, identity, found.head, found.branch)


def _folder(path: str) -> Path | None:
    folder = Path(path)
    return folder.resolve() if folder.is_dir() else None


async def resolve_base(repo: Repository, base_ref: str, base_commit: str | None) -> tuple[str, str]:
    """Return the branch that an attempt merges into, and the commit it starts from.

    Raises
    ------
    RepoRefused
        ``base-unknown`` when the repository has no such branch or commit.
    """
    name = base_ref.removeprefix("refs/heads/")
    checked_out = name == repo.default_branch
    tip = repo.head_commit if checked_out else await repo.git.commit_of(f"refs/heads/{name}")
    branch = name if tip else repo.default_branch
    commit = await repo.git.commit_of(base_commit) if base_commit else tip
    if commit is None and base_commit is None:
        commit = await repo.git.commit_of(base_ref)
    if branch is None or commit is None:
        raise RepoRefused(
            "base-unknown",
            f"The repository {repo.path} has no branch or commit {base_ref!r}; set the project's "
            "default_branch to one it has.",
        )
    return branch, commit


async def _heads(repo: Repository, *options: str) -> list[str]:
    listed = await repo.git.run("for-each-ref", "--format=%(refname)", *options, "refs/heads/")
    return [ref.removeprefix("refs/heads/") for ref in listed.text.splitlines()]


def _without_attempts(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("attempt/")]


async def branches_of(repo: Repository) -> list[str]:
    """Return the branches that work can be merged into, the one committed to last first."""
    return _without_attempts(await _heads(repo, "--sort=-committerdate"))


async def check_base(repo: Repository, branch: str | None) -> str:
    """Return the branch that a project's work is merged into.

    Parameters
    ----------
    repo
        The project's.
    branch
        The one that was asked for; default the one that is checked out.

    Raises
    ------
    RepoRefused
        ``repo-detached`` when none is named and none is checked out; ``base-unknown`` when there
        is no such branch.
    """
    if branch is None and repo.default_branch is not None:
        return repo.default_branch
    names = await _heads(repo)
    some = _without_attempts(names)
    known = f"its branches are {', '.join(some[:10])}{' and more' if len(some) > 10 else ''}"
    if branch is None:
        raise RepoRefused(
            "repo-detached",
            f"{repo.path} is on no branch (a commit is checked out, or a rebase is under way); "
            f"check out the branch that work is merged into, or give default_branch; {known}.",
        )
    if branch not in names:
        raise RepoRefused("base-unknown", f"{repo.path} has no branch {branch!r}; {known}.")
    return branch


async def make_place(repo: Repository, path: Path) -> None:
    """Make the empty folder of an attempt's worktree; what an earlier run left is taken away."""
    await remove_worktree(repo.git, path)
    await asyncio.to_thread(path.mkdir, mode=0o700, parents=True)


async def add_worktree(
    repo: Repository,
    path: Path,
    *,
    attempt_id: str,
    base: tuple[str, str],
    excludes: Path,
    start: str | None = None,
    placed: bool = False,
) -> Worktree:
    """Make an attempt's worktree on its own branch; what an earlier run left is replaced.

    Parameters
    ----------
    repo
        Where the branch is made.
    path
        Where the files go; below the state folder.
    attempt_id
        Gives the branch its name.
    base
        Branch to merge into later, and commit to start from.
    excludes
        File for the patterns that keep by-products out of commits; written here.
    start
        Commit to go on from, when the work of another attempt is taken up. Default the base.
    placed
        Whether `make_place` has just made the folder. Default false.
    """
    branch = f"attempt/{attempt_id}"
    if not placed:
        await make_place(repo, path)
    await asyncio.to_thread(_write_excludes, excludes)
    await repo.git.run(
        "worktree", "add", "--quiet", "--no-track", "--lock", "--reason", "Rootbound attempt",
        "-B", branch, str(path), start or base[1],
    )  # fmt: skip
    git_dir = Path((path / ".git").read_text(encoding="utf-8").removeprefix("gitdir: ").strip())
    git = Git(git_dir, path, repo.git.common_dir, excludes=excludes, identity=repo.identity)
    return Worktree(path, git, branch, base[1], base[0])


def _write_excludes(path: Path) -> None:
    path.write_text("\n".join([*BY_PRODUCTS, *_user_excludes()]) + "\n", encoding="utf-8")


def _user_excludes() -> list[str]:
    """Return the user's own global ignore patterns, which our file takes the place of."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    try:
        text = (Path(config) / "git" / "ignore").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return text.splitlines()


async def exclude_untracked(worktree: Worktree) -> list[str]:
    """Keep what the install command made out of the agent's commits.

    Returns
    -------
    list of str
        The paths, relative to the worktree.
    """
    listed = await worktree.git.run(
        "ls-files",
        "--others",
        "--exclude-standard",
        "--directory",
        "-z",
        *_outside_nested(worktree),
    )
    names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    if names and worktree.git.excludes is not None:
        with worktree.git.excludes.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"/{_escape(name)}\n" for name in names)
    return names


async def restore_tracked(worktree: Worktree) -> list[str]:
    """Bring tracked files back to what the index says; files in conflict are left alone.

    Returns
    -------
    list of str
        The paths that differed, relative to the worktree.
    """
    git = worktree.git
    listed = await git.run(
        "diff", "--raw", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=all"
    )
    # Each entry is ":modes ids letter" and a path; one in conflict has an entry with U as well.
    fields = [part for part in listed.stdout.split(b"\0") if part]
    entries = list(zip(fields[::2], fields[1::2], strict=False))
    unmerged = {path for facts, path in entries if facts.endswith(b"U")}
    changed = sorted({path for _, path in entries} - unmerged)
    if changed:
        await git.run("checkout-index", "--force", "-z", "--stdin", stdin=b"\0".join(changed))
    return [os.fsdecode(path) for path in changed]


def _escape(name: str) -> str:
    """Quote what has a meaning in an ignore pattern; a line break would begin another one."""
    return re.sub(r"[\r\n]", "?", re.sub(r"([\\*?\[\]!# ])", r"\\\1", name))


def nested_repositories(top: Path) -> list[str]:
    """Return folders below ``top`` that are repositories of their own, relative to it.

    git would start itself inside of them, with their configuration, so they are left out
    of everything that looks at the work tree.
    """
    found: list[str] = []
    for folder, names, files in os.walk(top):
        if Path(folder) == top:
            names[:] = [name for name in names if name != ".git"]
        elif ".git" in names or ".git" in files:
            found.append(os.path.relpath(folder, top))
            names.clear()
    return found


def _outside_nested(worktree: Worktree) -> list[str]:
    nested = nested_repositories(worktree.path)
    return ["--", ".", *(f":(exclude,literal,top){name}" for name in nested)] if nested else []


async def not_taken(worktree: Worktree) -> str:
    """Say which folders a commit does not take, for an agent that worked in nothing else."""
    nested = await asyncio.to_thread(nested_repositories, worktree.path)
    if not nested:
        return ""
    names = ", ".join(f"“{name}”" for name in nested[:3]) + (" and more" if nested[3:] else "")
    return f" What it did in {names} is not taken: these are repositories of their own."


async def commit_all(worktree: Worktree, message: str) -> str | None:
    """Commit everything the agent changed, as the repository's user.

    Returns
    -------
    str or None
        The new commit; ``None`` when nothing differs from the commit before.
    """
    git = worktree.git
    await git.run("add", "--all", *(_outside_nested(worktree) or ["--", "."]))
    # A merge is committed even where it changes nothing, unless somebody looks.
    if (git.git_dir / "MERGE_HEAD").exists() and await _nothing_staged(git):
        return None
    made = await git.run(
        "commit", "--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=verbatim", "--file=-",
        stdin=message.encode("utf-8", "replace"), ok=(0, 1),
    )  # fmt: skip
    if made.code == 0:
        return await asyncio.to_thread(_tip, worktree) or await git.commit_of("HEAD")
    if await _nothing_staged(git):
        return None
    said = made.stderr.decode("utf-8", "replace").strip().splitlines()
    raise GitError(f"git commit failed: {said[-1] if said else 'exit code 1'}", 1)


async def _nothing_staged(git: Git) -> bool:
    staged = await git.run("diff", "--cached", "--quiet", "--ignore-submodules=dirty", ok=(0, 1))
    return staged.code == 0


def _tip(worktree: Worktree) -> str | None:
    """Read what a branch was just set to, where it lies in a file of its own; git need not run."""
    ref = f"refs/heads/{worktree.branch}"
    try:
        if (worktree.git.git_dir / "HEAD").read_text(encoding="utf-8") != f"ref: {ref}\n":
            return None
        commit = (worktree.git.common_dir / ref).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit) else None


async def clean(worktree: Worktree) -> None:
    """Bring the work tree to exactly its commit: gates judge nothing that is not committed."""
    await worktree.git.run("reset", "--hard", "--quiet", "HEAD")
    await worktree.git.run("clean", "-ffdxq")


async def discard(git: Git, path: Path, *, attempt_id: str, branch: str) -> None:
    """Take an attempt's worktree away; its commits stay under ``refs/rootbound/discarded``.

    Raises
    ------
    GitError
        When the branch cannot be moved there.
    """
    await remove_worktree(git, path)
    tip = await git.commit_of(f"refs/heads/{branch}")
    if tip is None:
        return
    kept = f"refs/rootbound/discarded/{attempt_id}"
    before = await git.commit_of(kept)
    if not await git.update_ref(kept, tip, before or _ZERO):
        raise GitError(f"{kept} could not be written.", 1)
    await git.run("update-ref", "-d", f"refs/heads/{branch}", tip)
