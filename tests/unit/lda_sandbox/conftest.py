"""A run's folders and a sandbox, for the tests of the enforcement core."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootbound_lda.audit import MemorySink
from rootbound_lda.policy import Policy, build_policy
from rootbound_lda.sandbox import Sandbox


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path.resolve()
    for part in ("home/.ssh", "state/worktrees/a1", "state/secrets", "proj/repo/.git", "other"):
        (folder / part).mkdir(parents=True)
    (folder / "state/worktrees/a1/.git").write_text("gitdir: elsewhere\n")
    (folder / "other/file").write_text("original")
    monkeypatch.setenv("HOME", str(folder / "home"))
    return folder


@pytest.fixture
def arguments(base: Path) -> dict[str, object]:
    """The arguments of `build_policy` for the run."""
    state = base / "state"
    return {
        "run_id": "r1", "worktree": state / "worktrees/a1", "repo_path": base / "proj/repo",
        "git_common_dir": base / "proj/repo/.git", "private_dir": state / "runs/a1",
        "state_dir": state, "writable_roots": [str(base / "proj")], "readable_paths": [],
        "network": {}, "limits": {},
    }  # fmt: skip


@pytest.fixture
def policy(arguments: dict[str, object]) -> Policy:
    return build_policy(**arguments)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox()
    asyncio.run(started.start())
    yield started
    asyncio.run(started.stop())
