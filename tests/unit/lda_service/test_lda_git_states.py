"""git in the states that people leave it in: refusals that say the way out, and break nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from rootbound_lda import branches, notebook_diff
from rootbound_lda.diffs import diff, diff_size
from rootbound_lda.git import Git, GitError
from rootbound_lda.merging import MergePlan, MergeRefused, merge, preview
from rootbound_lda.notebook_diff import by_cell
from rootbound_lda.worktrees import (
    RepoRefused,
    check_base,
    commit_all,
    open_repository,
    restore_tracked,
)
from tests.unit.lda_service.test_lda_git import git, home, plan, started, top, work

__all__ = ["home", "top"]

pytestmark = pytest.mark.asyncio


def tried(folder: Path, *argv: str) -> None:
    """Run a git command that may stop half-way."""
    subprocess.run(["git", *argv], cwd=folder, check=False, capture_output=True)


async def patches(git_: Git, base: str, head: str) -> dict[str, Any]:
    return {file["path"]: file for file in (await diff(git_, base, head))["files"]}


async def test_each_file_has_its_own_patch_whatever_its_name_and_kind(
    top: Path, tmp_path: Path
) -> None:
    (top / "link").symlink_to("a.txt")
    (top / "plain").write_text("plain\n")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "kinds")
    _, worktree = await started(top, tmp_path)
    path = os.fsencode(worktree.path)
    for name in (b"bad\xff\xfename", b"new\nline", b"-rf", b"tab\t\"q'", b"*.txt"):
        Path(os.fsdecode(path + b"/" + name)).write_bytes(b"in " + name + b"\n")
    (worktree.path / "link").unlink()
    (worktree.path / "link").write_text("now a file\n")
    (worktree.path / "plain").unlink()
    (worktree.path / "plain").symlink_to("a.txt")
    (worktree.path / "a.txt").chmod(0o755)
    (worktree.path / "zz.txt").write_text("last\n")
    head = await commit_all(worktree, "work\n")
    assert head is not None
    files = await patches(worktree.git, worktree.base_commit, head)
    assert set(files) == {
        "bad\\xff\\xfename", "new\nline", "-rf", "tab\t\"q'", "*.txt", "link", "plain", "a.txt",
        "zz.txt",
    }  # fmt: skip
    for name in ("new\nline", "-rf", "tab\t\"q'", "*.txt"):
        assert f"+in {name.splitlines()[0]}" in files[name]["patch"], name
    assert "+in bad\ufffd" in files["bad\\xff\\xfename"]["patch"]
    for name, gone, made in (("link", "-a.txt", "+now a file"), ("plain", "-plain", "+a.txt")):
        assert files[name]["patch"].count("diff --git") == 2
        assert gone in files[name]["patch"]
        assert made in files[name]["patch"]
    assert "new mode 100755" in files["a.txt"]["patch"]
    assert files["zz.txt"]["patch"].endswith("+last\n")
    assert not any(file["truncated"] for file in files.values())
    assert (await diff_size(worktree.git, worktree.base_commit, head))[0][0] == 9


@pytest.mark.parametrize("linked", [False, True])
async def test_a_branch_that_is_being_rebased_is_not_moved_under_its_user(
    top: Path, tmp_path: Path, linked: bool
) -> None:
    folder = top
    git(top, "checkout", "-q", "-b", "side")
    (top / "a.txt").write_text("side\n")
    git(top, "commit", "-q", "-am", "side")
    git(top, "checkout", "-q", "main")
    (top / "a.txt").write_text("main\n")
    git(top, "commit", "-q", "-am", "main")
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    if linked:
        folder = tmp_path / "linked"
        git(top, "checkout", "-q", "--detach")
        git(top, "worktree", "add", "-q", str(folder), "main")
    tried(folder, "rebase", "side")
    before = git(top, "rev-parse", "main")
    with pytest.raises(MergeRefused) as refused:
        await merge(repo, plan(head))
    assert refused.value.code == "checkout-busy"
    assert str(refused.value) == (
        f"{folder} has a rebase of main under way; finish or abort it and approve again."
    )
    found = await preview(repo, plan(head))
    assert (found.checkout, found.checkout_dirty) == (str(folder), True)
    assert git(top, "rev-parse", "main") == before
    (folder / "a.txt").write_text("main\n")
    git(folder, "add", "a.txt")
    git(folder, "-c", "core.editor=true", "rebase", "--continue")
    merged = await merge(repo, plan(head))
    assert git(top, "rev-parse", "main") == merged.merge_commit


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("merge", "--no-commit", "-s", "ours", "side"), "a merge"),
        (("cherry-pick", "side"), "a cherry-pick"),
        (("revert", "HEAD~1"), "a revert"),
    ],
)
async def test_what_git_is_at_in_the_checkout_is_finished_first(
    top: Path, tmp_path: Path, argv: tuple[str, ...], what: str
) -> None:
    git(top, "checkout", "-q", "-b", "side")
    (top / "a.txt").write_text("side\n")
    git(top, "commit", "-q", "-am", "side")
    git(top, "checkout", "-q", "main")
    for text in ("second\n", "third\n"):
        (top / "a.txt").write_text(text)
        git(top, "commit", "-q", "-am", text)
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    tried(top, *argv)
    with pytest.raises(MergeRefused, match=f"has {what} of main under way") as refused:
        await merge(repo, plan(head))
    assert refused.value.code == "checkout-busy"


async def test_a_base_branch_that_was_replaced_or_deleted(top: Path, tmp_path: Path) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    git(top, "checkout", "-q", "--orphan", "fresh")
    git(top, "commit", "-q", "-m", "another beginning")
    git(top, "branch", "-q", "-M", "main")
    for act in (merge, preview):
        with pytest.raises(MergeRefused, match="has no commit in common with this") as refused:
            await act(repo, plan(head))
        assert refused.value.code == "base-moved"
    with pytest.raises(RepoRefused, match="was replaced") as unrelated:
        await branches.merge_with_conflicts(worktree, git(top, "rev-parse", "main"))
    assert unrelated.value.code == "base-unrelated"
    git(top, "branch", "-q", "-m", "main", "trunk")
    with pytest.raises(MergeRefused, match="set the project's default_branch to another one"):
        await merge(repo, plan(head))


async def test_an_attempts_branch_that_somebody_moved_comes_back_as_it_is_said(
    top: Path, tmp_path: Path
) -> None:
    repo, worktree = await started(top, tmp_path)
    head = await work(worktree)
    mine = await work(worktree, "mine.txt", "by hand\n")

    async def way_back(says: str) -> str:
        with pytest.raises(MergeRefused, match=says) as refused:
            await merge(repo, plan(head))
        assert refused.value.code == "head-moved"
        return str(refused.value).split("`")[1]

    git(top, *(await way_back(f"but at {mine[:12]}")).split()[1:])
    assert git(top, "rev-parse", "attempt/t1") == head
    git(top, "update-ref", "-d", "refs/heads/attempt/t1")
    git(top, *(await way_back("is gone")).split()[1:])
    assert (await merge(repo, plan(head))).fast_forward
    assert not (top / "mine.txt").exists()
    with pytest.raises(MergeRefused, match="does not have the attempt's commit 000000000000"):
        await merge(repo, plan("0" * 40))


async def test_a_file_here_and_a_link_there_is_named_once(top: Path, tmp_path: Path) -> None:
    (top / "x").symlink_to("a.txt")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "a link")
    repo, worktree = await started(top, tmp_path)
    (worktree.path / "x").unlink()
    head = await work(worktree, "x", "a file\n")
    (top / "x").unlink()
    (top / "x").symlink_to(".gitignore")
    git(top, "commit", "-q", "-am", "elsewhere")
    with pytest.raises(MergeRefused) as refused:
        await merge(repo, plan(head))
    assert refused.value.extras == {"files": ["x"]}


async def test_a_project_needs_a_branch_to_merge_into(top: Path, tmp_path: Path) -> None:
    repo = await open_repository(str(top))
    assert await check_base(repo, None) == "main"
    git(top, "checkout", "-q", "--detach")
    repo = await open_repository(str(top))
    with pytest.raises(RepoRefused, match="or give default_branch; its branches are main") as no:
        await check_base(repo, None)
    assert no.value.code == "repo-detached"
    assert await check_base(repo, "main") == "main"
    with pytest.raises(RepoRefused, match="has no branch 'trunk'; its branches are main") as no:
        await check_base(repo, "trunk")
    assert no.value.code == "base-unknown"
    odd = tmp_path / "two\nlines"
    git(tmp_path, "clone", "-q", str(top), str(odd))
    with pytest.raises(RepoRefused, match="holds a line break; rename the folder") as no:
        await open_repository(str(odd))
    assert no.value.code == "repo-odd-path"


async def test_a_folder_that_went_away_is_not_a_missing_git(top: Path, tmp_path: Path) -> None:
    repo = await open_repository(str(top))
    top.rename(tmp_path / "moved")
    with pytest.raises(GitError, match=r"There is no folder .*/project/\.git any more"):
        await repo.git.commit_of("main")


async def test_trailers_of_a_title_are_not_taken_for_ours(top: Path, tmp_path: Path) -> None:
    message = "Merge: Rootbound-Attempt: fake\nRootbound-Task: forged\n\nMore."
    text = MergePlan("attempt/t1", "0" * 40, "main", message, "t1", "task-1").commit_message
    (top / "b").write_text("x")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", text)
    trailers = git(top, "log", "-1", "--format=%(trailers:only)")
    assert trailers.split() == ["Rootbound-Task:", "task-1", "Rootbound-Attempt:", "t1"]
    assert "forged" not in text


async def test_tracked_files_are_put_back_but_for_conflicts(top: Path, tmp_path: Path) -> None:
    (top / "lock").write_text("1\n")
    (top / "sub").mkdir()
    (top / "sub/deep").write_text("deep\n")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "lock")
    _, worktree = await started(top, tmp_path)
    await work(worktree, "a.txt", "agent\n")
    (top / "a.txt").write_text("user\n")
    git(top, "commit", "-q", "-am", "user")
    tip = git(top, "rev-parse", "main")
    assert await branches.merge_with_conflicts(worktree, tip) == ["a.txt"]
    conflict = (worktree.path / "a.txt").read_text()
    (worktree.path / "lock").write_text("2\n")
    (worktree.path / "sub/deep").unlink()
    (worktree.path / "sub").rmdir()
    (worktree.path / "sub").symlink_to(tmp_path)
    (worktree.path / "node_modules").mkdir()
    os.utime(worktree.path / ".gitignore", (1, 1))
    assert await restore_tracked(worktree) == ["lock", "sub/deep"]
    assert (worktree.path / "lock").read_text() == "1\n"
    assert (worktree.path / "sub/deep").read_text() == "deep\n"
    assert not (tmp_path / "deep").exists()
    assert (worktree.path / "a.txt").read_text() == conflict
    assert (worktree.path / "node_modules").is_dir()
    assert await restore_tracked(worktree) == []


async def test_a_notebook_too_large_to_read_is_not_said_to_be_the_same(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notebook(source: str, printed: str) -> str:
        cell = new_code_cell(source, id="one", outputs=[new_output("stream", text=printed)])
        return str(nbformat.writes(new_notebook(cells=[cell])))

    (top / "b.ipynb").write_text(notebook("x = 1", "1"))
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "notebook")
    _, worktree = await started(top, tmp_path)
    (worktree.path / "new.ipynb").write_text(notebook("n = 1", ""))
    head = await work(worktree, "b.ipynb", notebook("x = 2", "2" * 5_000))

    async def shown() -> dict[str, str]:
        found = await diff(worktree.git, worktree.base_commit, head)
        await by_cell(worktree.git, found)
        return {file["path"]: file["patch"] for file in found["files"]}

    assert "-x = 1\n+x = 2" in (await shown())["b.ipynb"]
    assert "+n = 1" in (await shown())["new.ipynb"]
    monkeypatch.setattr(notebook_diff, "MAX_TOTAL", 10)
    found = await diff(worktree.git, worktree.base_commit, head)
    await by_cell(worktree.git, found)
    first, second = (file["notebook"] for file in found["files"])
    assert (len(first["cells"]), first["note"]) == (1, None)
    assert (second["cells"], second["note"][:16]) == ([], "Enough notebooks")
    monkeypatch.setattr(notebook_diff, "MAX_BYTES", 4_000)
    text = (await shown())["b.ipynb"]
    assert "only outputs or metadata differ" not in text
    assert json.dumps("x = 2") in text


async def test_a_file_that_the_user_has_ignored_is_not_overwritten(
    top: Path, tmp_path: Path
) -> None:
    (top / "secret.log").write_text("the user's own\n")
    repo, worktree = await started(top, tmp_path)
    (worktree.path / ".gitignore").write_text("")
    head = await work(worktree, "secret.log", "the agent's\n")
    before = git(top, "rev-parse", "main")
    with pytest.raises(MergeRefused, match="git would overwrite files") as refused:
        await merge(repo, plan(head))
    assert refused.value.code == "checkout-dirty"
    assert "secret.log" in str(refused.value)
    assert (top / "secret.log").read_text() == "the user's own\n"
    assert git(top, "rev-parse", "main") == before
    assert git(top, "status", "--porcelain") == ""
