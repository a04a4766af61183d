"""Which folders can be granted, and what a run's policy holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootbound_lda.places import within
from rootbound_lda.policy import (
    PolicyError,
    ProcessLimits,
    RootRefused,
    build_policy,
    canonical_root,
)


def _refusal(path: str, base: Path) -> str:
    with pytest.raises(RootRefused) as caught:
        canonical_root(path, state_dir=base / "state")
    assert caught.value.sentence.endswith(".")
    return caught.value.code


def test_a_name_that_begins_alike_is_no_part_of_a_folder() -> None:
    pairs = [("/a/b", "/a/b"), ("/a/b", "/a"), ("/a", "/"), ("/", "/")]
    assert all(within(Path(path), Path(folder)) for path, folder in pairs)
    pairs = [("/a/bc", "/a/b"), ("/a", "/a/b"), ("/", "/a")]
    assert not any(within(Path(path), Path(folder)) for path, folder in pairs)


def test_a_project_folder_is_granted_by_its_real_path(base: Path) -> None:
    (base / "link").symlink_to(base / "proj")
    granted = canonical_root(f"{base}/link/../proj/./repo/", state_dir=base / "state")
    assert granted == base / "proj/repo"


def test_refusals_name_their_reason(base: Path) -> None:
    (base / "loop").symlink_to(base / "loop")
    (base / "to_state").symlink_to(base / "state")
    cases = {
        f"{base}/none": "root-missing",
        "proj": "root-not-absolute",
        f"{base}/other/file": "root-not-directory",
        f"{base}/other/file/x": "root-missing",
        "/": "root-is-filesystem-root",
        f"{base}/proj/../../../../../../../../..": "root-is-filesystem-root",
        f"{base}/home": "root-is-home",
        f"{base}/home/": "root-is-home",
        f"{base}/home/.ssh": "root-protected",
        f"{base}/state": "root-protected",
        f"{base}/state/secrets": "root-protected",
        f"{base}/to_state": "root-protected",
        f"{base}": "root-protected",
        "/etc": "root-protected",
        "/usr/lib": "root-protected",
        "/proc/self": "root-protected",
        f"{base}/a\0b": "root-invalid",
        f"{base}/{'a' * 300}": "root-too-long",
        f"{base}/{'a/' * 3000}": "root-too-long",
    }
    found = {path: _refusal(path, base) for path in cases}
    assert found == cases
    assert _refusal(f"{base}/loop", base) in ("root-unreadable", "root-missing")


def test_a_folder_that_holds_jupyters_secrets_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "proj/runtime").mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(base / "proj/runtime"))
    assert _refusal(f"{base}/proj", base) == "root-protected"


def test_the_root_of_the_project_stands_for_the_worktree(arguments, base: Path) -> None:
    (base / "data").mkdir()
    (base / "proj/repo/sub").mkdir()
    roots = [f"{base}/proj", f"{base}/data", f"{base}/proj/repo/sub"]
    policy = build_policy(**{**arguments, "writable_roots": roots})
    assert policy.writable == (base / "state/worktrees/a1", base / "data")
    assert base / "proj/repo/.git" in policy.protected
    assert base / "proj/repo/.git" in policy.readable
    assert policy.private_home.stat().st_mode & 0o777 == 0o700
    assert (policy.network.agent, policy.network.install) == (False, True)


def test_a_repository_outside_all_roots_is_refused(arguments, base: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        build_policy(**{**arguments, "writable_roots": [f"{base}/other"]})
    assert caught.value.code == "repo-outside-roots"


@pytest.mark.parametrize("path", ["home/.ssh", "home", "state/secrets", "state", "."])
def test_secrets_cannot_be_made_readable(arguments, base: Path, path: str) -> None:
    with pytest.raises(PolicyError) as caught:
        build_policy(**{**arguments, "readable_paths": [str(base / path)]})
    assert caught.value.code == "readable-protected"


def test_nothing_readable_holds_a_secret(
    arguments, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = base / "home/.local/bin"
    local.mkdir(parents=True)
    (base / "home/.local/share/jupyter/runtime").mkdir(parents=True)
    (base / "home/bin").mkdir()
    (base / "home/.tool/bin").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{local}:{base}/home/bin:{base}/home/.tool/bin:relative:")
    readable = build_policy(**arguments).readable
    assert local in readable
    assert base / "home/bin" in readable
    assert base / "home/.tool" in readable
    forbidden = [base / "home", base / "home/.local", base / "home/.ssh", base / "state"]
    assert not set(forbidden) & set(readable)
    if os.geteuid() == 0:
        assert Path("/etc") not in readable
        assert Path("/etc/shadow") not in readable


def test_a_fork_bomb_meets_a_limit_although_nobody_set_one(arguments) -> None:
    assert build_policy(**arguments).process.max_processes == 2048
    assert build_policy(**arguments | {"limits": {"max_processes": None}}).process == ProcessLimits(
        max_processes=None
    )


def test_limits_are_checked(arguments) -> None:
    policy = build_policy(**{**arguments, "limits": {"max_open_files": 99, "steps": 4}})
    assert policy.process.max_open_files == 99
    with pytest.raises(PolicyError) as caught:
        build_policy(**{**arguments, "limits": {"cpu_seconds": "many"}})
    assert caught.value.code == "limit-invalid"
