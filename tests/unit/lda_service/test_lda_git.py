"""git on repositories that want to run something, worktrees, diffs and merges."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from rootbound_lda.diffs import diff
from rootbound_lda.git import Git, GitError, discover
from rootbound_lda.merging import MergePlan, MergeRefused, merge
from rootbound_lda.removal import delete_tree, remove_worktree
from rootbound_lda.worktrees import (
    RepoRefused,
    Repository,
    Worktree,
    add_worktree,
    clean,
    commit_all,
    discard,
    exclude_untracked,
    open_repository,
    resolve_base,
)

pytestmark = pytest.mark.asyncio


def git(folder: Path, *argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Ada")
    git(folder, "config", "user.email", "ada@example.org")
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


async def started(top: Path, tmp_path: Path, attempt: str = "t1") -> tuple[Repository, Worktree]:
    repo = await open_repository(str(top))
    base = await resolve_base(repo, "main", None)
    (tmp_path / "worktrees").mkdir(exist_ok=True)
    excludes = tmp_path / f"exclude-{attempt}"
    path = tmp_path / "worktrees" / attempt
    return repo, await add_worktree(repo, path, attempt_id=attempt, base=base, excludes=excludes)


def plan(head: str, attempt: str = "t1", base: str = "main") -> MergePlan:
    return MergePlan(f"attempt/{attempt}", head, base, "Do it", attempt, "task-1")


# Hazards: each of these runs when plain git is used, as the last assertion of each shows.


def trap(tmp_path: Path, name: str) -> tuple[Path, Path]:
    """Return a program and the file it leaves when it runs."""
    mark, program = tmp_path / f"ran-{name}", tmp_path / f"trap-{name}"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat 2>/dev/null || true\n")
    program.chmod(0o755)
    return program, mark


async def everything(repo: Repository, worktree: Worktree) -> str:
    """Do all that the LDA does with a worktree."""
    (worktree.path / "a.txt").write_text("one\nTWO\nthree\n")
    (worktree.path / "b.txt").write_text("new\n")
    await exclude_untracked(worktree)
    (worktree.path / "c.txt").write_text("newer\n")
    head = await commit_all(worktree, "work\n")
    assert head is not None
    await clean(worktree)
    await diff(worktree.git, worktree.base_commit, head)
    await merge(repo, plan(head))
    return head


HOOKS = (
    "pre-commit",
    "commit-msg",
    "post-commit",
    "post-checkout",
    "post-merge",
    "reference-transaction",
    "post-index-change",
)


@pytest.mark.parametrize("hook", HOOKS)
async def test_hooks_do_not_run(top: Path, tmp_path: Path, hook: str) -> None:
    program, mark = trap(tmp_path, hook)
    target = top / ".git" / "hooks" / hook
    target.write_text(program.read_text())
    target.chmod(0o755)
    await everything(*await started(top, tmp_path))
    assert not mark.exists()


async def test_fsmonitor_external_diff_and_filters_do_not_run(top: Path, tmp_path: Path) -> None:
    settings = {
        "core.fsmonitor": "fsmonitor",
        "diff.external": "external",
        "diff.evil.command": "diffcommand",
        "diff.evil.textconv": "textconv",
        "filter.evil.clean": "clean",
        "filter.evil.smudge": "smudge",
        "filter.long.process": "process",
        "core.sshCommand": "ssh",
        "gpg.program": "gpg",
        "core.editor": "editor",
        "core.pager": "pager",
    }
    marks = []
    for key, name in settings.items():
        program, mark = trap(tmp_path, name)
        git(top, "config", key, str(program))
        marks.append(mark)
    git(top, "config", "commit.gpgSign", "true")
    git(top, "config", "filter.evil.required", "true")
    (top / ".git" / "info" / "attributes").write_text(
        "*.txt filter=evil diff=evil\nb* filter=long\n"
    )
    head = await everything(*await started(top, tmp_path))
    assert [mark.name for mark in marks if mark.exists()] == []
    assert git(top, "cat-file", "blob", f"{head}:a.txt") == "one\nTWO\nthree"
    (top / "a.txt").write_text("x\n")
    subprocess.run(["git", "status"], cwd=top, capture_output=True, check=False)
    assert any(mark.exists() for mark in marks), "the traps work"


async def test_a_rewritten_git_file_changes_nothing(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    program, mark = trap(tmp_path, "evil")
    evil = tmp_path / "evil"
    evil.mkdir()
    git(evil, "init", "-q")
    git(evil, "config", "core.fsmonitor", str(program))
    git(evil, "config", "filter.evil.clean", str(program))
    (evil / ".git" / "info" / "attributes").write_text("* filter=evil\n")
    (worktree.path / ".git").write_text(f"gitdir: {evil / '.git'}\n")
    head = await everything(repo, worktree)
    assert git(top, "rev-parse", "attempt/t1") == head
    subprocess.run(["git", "add", "-A"], cwd=worktree.path, capture_output=True, check=False)
    assert mark.exists() or not worktree.path.exists(), "the trap works"


async def test_nested_repositories_are_left_alone(top: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    git(
        inner, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x"
    )
    git(top, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    git(top, "commit", "-q", "-m", "submodule")
    repo, worktree = await started(top, tmp_path)
    program, mark = trap(tmp_path, "nested")
    for name in ("sub", "fresh"):
        nested = worktree.path / name
        nested.mkdir(exist_ok=True)
        git(nested, "init", "-q")
        git(nested, "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty",
            "-m", "x")  # fmt: skip
        git(nested, "config", "core.fsmonitor", str(program))
    head = await everything(repo, worktree)
    assert not mark.exists()
    assert "fresh" not in git(top, "ls-tree", "--name-only", head).split()


async def test_inherited_variables_do_not_reach_git(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, mark = trap(tmp_path, "variable")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(program))
    repo = await open_repository(str(top))
    assert repo.path == top
    found = await discover(top)
    assert found is not None
    await found.run("status", "--porcelain")
    await found.run("diff", "HEAD")
    assert not mark.exists()


async def test_a_driver_that_cannot_be_switched_off_is_refused(top: Path) -> None:
    git(top, "config", "filter.a=b.clean", "true")
    found = await discover(top)
    assert found is not None
    with pytest.raises(GitError, match="cannot switch off"):
        await found.run("status")


# Repositories


async def test_repositories_that_cannot_be_used(tmp_path: Path, top: Path, home: Path) -> None:
    bare, empty, plain, anonymous = (tmp_path / name for name in ("bare", "empty", "plain", "anon"))
    git(tmp_path, "init", "-q", "--bare", str(bare))
    git(tmp_path, "init", "-q", str(empty))
    plain.mkdir()
    git(tmp_path, "clone", "-q", str(top), str(anonymous))
    cases = {
        "relative": "repo-not-absolute",
        str(tmp_path / "none"): "repo-missing",
        str(top / "a.txt"): "repo-missing",
        str(plain): "repo-not-git",
        str(bare): "repo-bare",
        str(empty): "repo-empty",
        str(anonymous): "repo-no-identity",
    }
    for path, code in cases.items():
        with pytest.raises(RepoRefused) as refused:
            await open_repository(path)
        assert refused.value.code == code, path
        assert str(refused.value).count("\n") == 0
    with pytest.raises(RepoRefused) as refused:
        await resolve_base(await open_repository(str(top)), "nonsense", None)
    assert refused.value.code == "base-unknown"
    (home / ".gitconfig").write_text("[user]\n\tname = Global\n\temail = g@example.org\n")
    assert (await open_repository(str(anonymous))).identity.name == "Global"


# Commits and diffs


async def test_commits_hold_the_work_and_no_by_products(top: Path, tmp_path: Path) -> None:
    _, worktree = await started(top, tmp_path)
    (worktree.path / ".venv").mkdir()
    (worktree.path / ".venv" / "x").write_text("x")
    (worktree.path / "made by [install]").write_text("x")
    assert await exclude_untracked(worktree) == ["made by [install]"]
    assert await commit_all(worktree, "nothing\n") is None
    (worktree.path / "__pycache__").mkdir()
    (worktree.path / "__pycache__" / "m.pyc").write_text("x")
    (worktree.path / "work.py").write_text("x = 1\n")
    (worktree.path / "x.log").write_text("ignored by the project")
    (worktree.path / "a.txt").unlink()
    head = await commit_all(worktree, "work\n")
    assert head is not None
    assert git(top, "diff", "--name-status", f"{head}~", head) == "D\ta.txt\nA\twork.py"
    await clean(worktree)
    left = sorted(path.name for path in worktree.path.iterdir())
    assert left == [".git", ".gitignore", "work.py"]
    assert git(top, "status", "--porcelain") == ""


async def test_diff_describes_every_kind_of_change(top: Path, tmp_path: Path) -> None:
    (top / "old name.txt").write_text("".join(f"line {n}\n" for n in range(50)))
    (top / "bin").write_bytes(bytes(range(256)))
    (top / "gone.txt").write_text("bye\n")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "more")
    _, worktree = await started(top, tmp_path)
    path = worktree.path
    (path / "old name.txt").rename(path / "new näme.txt")
    (path / "bin").write_bytes(bytes(reversed(range(256))))
    (path / "gone.txt").unlink()
    (path / "a.txt").write_text("one\ndiff --git a/x b/x\nthree\n")
    (path / "huge.txt").write_text("x\n" * 30_000)
    head = await commit_all(worktree, "work\n")
    assert head is not None
    found = await diff(worktree.git, worktree.base_commit, head)
    files = {file["path"]: file for file in found["files"]}
    assert {name: file["status"] for name, file in files.items()} == {
        "a.txt": "modified",
        "bin": "modified",
        "gone.txt": "deleted",
        "huge.txt": "added",
        "new näme.txt": "renamed",
    }
    assert files["new näme.txt"]["old_path"] == "old name.txt"
    assert files["bin"]["binary"]
    assert files["huge.txt"]["truncated"]
    assert files["huge.txt"]["patch"] == ""
    assert "+diff --git a/x b/x" in files["a.txt"]["patch"]
    assert files["gone.txt"]["patch"].startswith("diff --git a/gone.txt")
    assert found["stats"] == {"files": 5, "additions": 30_001, "deletions": 2}


# Merges


async def work(worktree: Worktree, name: str = "b.txt", text: str = "new\n") -> str:
    (worktree.path / name).write_text(text)
    head = await commit_all(worktree, "work\n")
    assert head is not None
    return head


async def test_merge_into_the_clean_checkout_is_repeatable(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    base = git(top, "rev-parse", "main")
    (top / "untracked.txt").write_text("mine\n")
    merged = await merge(repo, plan(head))
    assert (merged.base_before, merged.fast_forward) == (base, True)
    assert git(top, "rev-parse", "HEAD") == merged.merge_commit
    assert git(top, "rev-list", "--parents", "-1", "HEAD").split()[1:] == [base, head]
    assert git(top, "status", "--porcelain") == "?? untracked.txt"
    body = git(top, "log", "-1", "--format=%an%n%B")
    assert body.startswith("Ada\nDo it")
    assert "Rootbound-Task: task-1\nRootbound-Attempt: t1" in body
    assert await merge(repo, plan(head)) == merged
    (top / "later").write_text("x")
    git(top, "add", "later")
    git(top, "commit", "-q", "-m", "later")
    assert await merge(repo, plan(head)) == merged


async def test_merge_into_a_branch_that_is_not_checked_out(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    git(top, "checkout", "-q", "-b", "other")
    (top / "a.txt").write_text("dirty\n")
    merged = await merge(repo, plan(head))
    assert git(top, "rev-parse", "main") == merged.merge_commit
    assert git(top, "rev-parse", "--abbrev-ref", "HEAD") == "other"
    assert (top / "a.txt").read_text() == "dirty\n"


async def test_merge_where_only_another_worktree_has_the_base(top: Path, tmp_path: Path) -> None:
    """The project's own folder is a worktree of a bare repository, whose HEAD names the base."""
    bare, here, there = tmp_path / "bare.git", tmp_path / "here", tmp_path / "with blank"
    git(tmp_path, "clone", "-q", "--bare", str(top), str(bare))
    git(bare, "worktree", "add", "-q", "-b", "side", str(here))
    for name, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        git(here, "config", name, value)
    repo, worktree = await started(here, tmp_path)
    assert repo.default_branch == "side"
    merged = await merge(repo, plan(await work(worktree)))
    assert git(bare, "rev-parse", "main") == merged.merge_commit
    git(bare, "worktree", "add", "-q", "--force", str(there), "main")
    _, worktree = await started(here, tmp_path, "t2")
    head = await work(worktree, "c.txt")
    (there / "a.txt").write_text("mine\n")
    with pytest.raises(MergeRefused, match="with blank has uncommitted changes"):
        await merge(repo, plan(head, "t2"))
    git(there, "checkout", "-q", "a.txt")
    await merge(repo, plan(head, "t2"))
    assert (there / "c.txt").exists()
    # Taking one away leaves the other worktrees' places in the repository alone.
    await remove_worktree(repo.git, worktree.path)
    assert "worktrees/t2" not in git(bare, "worktree", "list")
    assert str(there) in git(bare, "worktree", "list")


async def test_merge_after_the_base_moved(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    (top / "c.txt").write_text("theirs\n")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "meanwhile")
    merged = await merge(repo, plan(head))
    assert not merged.fast_forward
    assert {"b.txt", "c.txt"} <= {path.name for path in top.iterdir()}


async def test_merges_that_are_refused_change_nothing(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree, "a.txt", "one\nagent\nthree\n")

    async def refused(the_plan: MergePlan) -> MergeRefused:
        before = git(top, "rev-parse", "main"), (top / "a.txt").read_text()
        with pytest.raises(MergeRefused) as error:
            await merge(repo, the_plan)
        assert before == (git(top, "rev-parse", "main"), (top / "a.txt").read_text())
        return error.value

    assert (await refused(plan("0" * 40))).code == "head-moved"
    assert (await refused(plan(head, base="none"))).code == "base-moved"
    (top / "a.txt").write_text("unsaved\n")
    assert (await refused(plan(head))).code == "checkout-dirty"
    (top / "a.txt").write_text("one\nuser\nthree\n")
    git(top, "commit", "-q", "-am", "user's own")
    conflict = await refused(plan(head))
    assert (conflict.code, conflict.extras) == ("merge-conflict", {"files": ["a.txt"]})


async def test_an_untracked_file_is_not_overwritten(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    (top / "b.txt").write_text("the user's own\n")
    with pytest.raises(MergeRefused) as error:
        await merge(repo, plan(head))
    assert error.value.code == "checkout-dirty"
    assert (top / "b.txt").read_text() == "the user's own\n"


async def test_a_merge_driver_cannot_decide(top: Path, tmp_path: Path) -> None:
    program, mark = trap(tmp_path, "merge")
    git(top, "config", "merge.evil.driver", f"{program} %A")
    (top / ".git" / "info" / "attributes").write_text("a.txt merge=evil\n")
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree, "a.txt", "ONE\ntwo\nthree\n")
    (top / "a.txt").write_text("one\ntwo\nTHREE\n")
    git(top, "commit", "-q", "-am", "both sides")
    with pytest.raises(MergeRefused):
        await merge(repo, plan(head))
    assert not mark.exists()


# Worktrees


async def test_discard_keeps_the_commits(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    for _ in range(2):
        await discard(repo.git, worktree.path, attempt_id="t1", branch="attempt/t1")
    assert not worktree.path.exists()
    assert git(top, "rev-parse", "refs/rootbound/discarded/t1") == head
    assert git(top, "branch", "--list", "attempt/*") == ""
    assert "t1" not in git(top, "worktree", "list")


async def test_a_worktree_is_made_anew(top: Path, tmp_path: Path) -> None:
    _, first = await started(top, tmp_path)
    await work(first)
    _, second = await started(top, tmp_path)
    assert not (second.path / "b.txt").exists()
    assert git(top, "rev-parse", "attempt/t1") == second.base_commit


async def test_many_worktrees_at_once_with_the_lock(top: Path, tmp_path: Path) -> None:
    lock = asyncio.Lock()

    async def one(number: int) -> str:
        async with lock:
            _, worktree = await started(top, tmp_path, f"p{number}")
        (worktree.path / f"{number}.txt").write_text("x")
        async with lock:
            head = await commit_all(worktree, "work\n")
        assert head is not None
        return head

    heads = await asyncio.gather(*(one(number) for number in range(6)))
    assert len(set(heads)) == 6
    assert len(git(top, "branch", "--list", "attempt/*").splitlines()) == 6


async def test_read_only_folders_are_deleted_too(tmp_path: Path) -> None:
    folder = tmp_path / "ro" / "inner"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    folder.chmod(0o500)
    (tmp_path / "ro").chmod(0o500)
    delete_tree(tmp_path / "ro")
    assert not (tmp_path / "ro").exists()


async def test_removing_what_is_not_there_is_fine(top: Path, tmp_path: Path) -> None:
    repo = await open_repository(str(top))
    await remove_worktree(repo.git, tmp_path / "never")
    assert isinstance(repo.git, Git)
