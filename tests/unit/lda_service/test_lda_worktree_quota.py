"""Worktrees above the quota lose what git ignores, the oldest ended run's first."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootbound_lda.git import RepositoryLocks
from rootbound_lda.records import RunRecord
from rootbound_lda.tending import Tender

SIZE = 300_000


def git(folder: Path, *argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def run(repo: Path, worktrees: Path, name: str, started: str, **more: Any) -> RunRecord:
    """Make a run in review, with work of its own and something that git ignores."""
    path = worktrees / name
    git(repo, "worktree", "add", "-q", "-b", f"attempt/{name}", str(path))
    base = git(path, "rev-parse", "HEAD")
    (path / "work.txt").write_text(name)
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", name)
    (path / ".venv").mkdir()
    (path / ".venv" / "big").write_bytes(b"x" * SIZE)
    return RunRecord(
        attempt_id=name, run_id=name, lease_generation=1, repo_path=str(repo), base_ref="main",
        boot_id="b", started_at=started, base_branch="main", base_commit=base,
        head_commit=git(path, "rev-parse", "HEAD"), **more,
    )  # fmt: skip


def folders(base: Path) -> tuple[Path, Path]:
    """Return an empty repository and a folder for its worktrees."""
    repo, worktrees = base / "repo", base / "worktrees"
    repo.mkdir()
    worktrees.mkdir()
    git(repo, "init", "-q", "-b", "main")
    git(repo, "config", "user.name", "Ada")
    git(repo, "config", "user.email", "ada@example.org")
    return repo, worktrees


@pytest.mark.asyncio
async def test_only_what_nobody_can_miss_goes(tmp_path: Path) -> None:
    """Of runs that ended without a commit: an empty worktree goes, unfinished work stays."""
    repo, worktrees = folders(tmp_path)
    git(repo, "commit", "-q", "--allow-empty", "-m", "first")
    base = git(repo, "rev-parse", "HEAD")
    records = []
    for name in ("empty", "dirty", "ahead", "live"):
        git(repo, "worktree", "add", "-q", "-b", f"attempt/{name}", str(worktrees / name))
        records.append(
            RunRecord(
                attempt_id=name,
                run_id=name,
                lease_generation=1,
                repo_path=str(repo),
                base_ref="main",
                boot_id="b",
                started_at="2026-01-01T00:00:00Z",
                state="FAILED",
                base_branch="main",
                base_commit=base,
            )
        )
    (worktrees / "dirty/half.txt").write_text("half done")
    git(worktrees / "ahead", "commit", "-q", "--allow-empty", "-m", "made just before the end")
    services: Any = SimpleNamespace(
        config=SimpleNamespace(worktrees=worktrees, runs=tmp_path / "runs"),
        locks=RepositoryLocks(),
    )
    tender = Tender(services, lambda: records, "live".__eq__, quota=None)
    reasons = {row["attempt_id"]: row["reason"] for row in (await tender.inventory())["worktrees"]}
    assert reasons == {"empty": "empty", "dirty": "", "ahead": "", "live": ""}
    assert await tender.tend() == ["empty"]
    assert sorted(path.name for path in worktrees.iterdir() if path.name[0] != ".") == [
        "ahead", "dirty", "live",
    ]  # fmt: skip
    assert git(repo, "rev-parse", "refs/rootbound/discarded/empty") == base


@pytest.mark.asyncio
async def test_the_oldest_give_way_and_work_is_kept(tmp_path: Path) -> None:
    repo, worktrees = folders(tmp_path)
    (repo / ".gitignore").write_text(".venv\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "first")
    records = [
        run(repo, worktrees, "live", "2026-01-01T00:00:00Z"),
        run(repo, worktrees, "new", "2026-01-03T00:00:00Z", state="REVIEW"),
        run(repo, worktrees, "old", "2026-01-02T00:00:00Z", state="REVIEW"),
    ]
    services: Any = SimpleNamespace(
        config=SimpleNamespace(worktrees=worktrees, runs=tmp_path / "runs"),
        locks=RepositoryLocks(),
    )
    tender = Tender(services, lambda: records, "live".__eq__, quota=2 * SIZE + SIZE // 2)
    before = await tender.inventory()
    assert before["bytes"] > 3 * SIZE
    assert await tender.tend() == []
    kept = {name: (worktrees / name / ".venv").exists() for name in ("live", "new", "old")}
    assert kept == {"live": True, "new": True, "old": False}
    for record in records:
        assert (worktrees / record.attempt_id / "work.txt").read_text() == record.attempt_id
    assert (await tender.inventory())["bytes"] <= 2 * SIZE + SIZE // 2
