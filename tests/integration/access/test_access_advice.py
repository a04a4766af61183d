"""What the LDA proposes to grant, and file tools whose policy changes under them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rootbound_lda import advice
from rootbound_lda.advice import Advisor, canonical_readable
from rootbound_lda.audit import MemorySink
from rootbound_lda.files import AccessDenied, FileAccess
from rootbound_lda.grants import withdrawn
from rootbound_lda.policy import Policy, PolicyError, build_policy


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path.resolve()
    for part in ("home/.ssh", "state/worktrees/a1", "proj/repo/.git", "data/in", "extra/deep"):
        (folder / part).mkdir(parents=True)
    (folder / "data/in/file").write_text("x")
    (folder / "home/notes.txt").write_text("x")
    monkeypatch.setenv("HOME", str(folder / "home"))
    return folder


@pytest.fixture
def policy(base: Path) -> Policy:
    state = base / "state"
    return build_policy(
        run_id="r1", worktree=state / "worktrees/a1", repo_path=base / "proj/repo",
        git_common_dir=base / "proj/repo/.git", private_dir=state / "runs/a1", state_dir=state,
        writable_roots=[str(base / "proj"), str(base / "extra")], readable_paths=[],
        network={}, limits={},
    )  # fmt: skip


@pytest.fixture
def advisor(base: Path, policy: Policy) -> Advisor:
    return Advisor(
        MemorySink(), repo_path=base / "proj/repo", state_dir=base / "state", policy=lambda: policy
    )


def test_the_smallest_folder_that_exists_is_proposed(advisor: Advisor, base: Path) -> None:
    data = base / "data"
    assert advisor.advise("WRITE", f"{data}/in/new") == {"folder": f"{data}/in"}
    assert advisor.advise("WRITE", f"{data}/a/b/c") == {"folder": str(data)}
    assert advisor.advise("DELETE", f"{data}/in") == {"folder": str(data)}
    assert advisor.advise("READ", f"{data}/in") == {"folder": f"{data}/in"}
    assert advisor.advise("READ", f"{data}/in/file") == {"folder": f"{data}/in"}
    (base / "link").symlink_to(data / "in")
    assert advisor.advise("WRITE", f"{base}/link/new") == {"folder": f"{data}/in"}
    home = base / "home"
    alone = {"folder": f"{home}/notes.txt"}
    assert advisor.advise("READ", f"{home}/notes.txt") == alone, "not the whole home folder"


def test_nothing_protected_is_proposed(advisor: Advisor, base: Path) -> None:
    writes = [
        "/etc/x", "/usr/local/x", "/x", "/tmp/x", f"{base}/home/x", f"{base}/home/.ssh/x",
        f"{base}/state/secrets", f"{base}/data/.git/config", f"{base}/proj/repo/x",
        f"{base}/extra/x", "/data/\\xff", f"{base}/state/worktrees/a1/.git",
    ]  # fmt: skip
    for path in writes:
        assert "refused" in advisor.advise("WRITE", path), path
    for path in ("/etc/shadow", "/proc/1/environ", f"{base}/home/.ssh/id", f"{base}/state/run"):
        assert "refused" in advisor.advise("READ", path), path
    for place in ("/etc", "/proc", "/", f"{base}/home"):
        with pytest.raises(PolicyError):
            canonical_readable(place, state_dir=base / "state")


def test_a_flood_of_places_is_not_looked_at(
    advisor: Advisor, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice, "MAX_PLACES", 3)
    for number in range(3):
        assert "folder" in advisor.advise("WRITE", f"{base}/data/{number}/x")
    assert "too many" in advisor.advise("WRITE", f"{base}/data/in/x")["refused"]


@pytest.fixture
def files(policy: Policy) -> Iterator[FileAccess]:
    with FileAccess(policy, MemorySink()) as access:
        yield access


def without_extra(policy: Policy, base: Path) -> Policy:
    kept = tuple(path for path in policy.writable if path != base / "extra")
    return replace(policy, writable=kept)


def test_file_tools_take_another_policy(files: FileAccess, policy: Policy, base: Path) -> None:
    files.write_bytes(base / "extra/one", b"1")
    smaller = without_extra(policy, base)
    assert withdrawn(policy, smaller) == [base / "extra"]
    assert withdrawn(smaller, policy) == []
    files.adopt(smaller)
    for change in (lambda: files.write_bytes(base / "extra/two", b"2"),
                   lambda: files.delete(base / "extra/one")):  # fmt: skip
        with pytest.raises(AccessDenied):
            change()
    assert [path.name for path in sorted((base / "extra").iterdir())] == ["deep", "one"]
    files.adopt(replace(smaller, writable=(*smaller.writable, base / "data")))
    files.write_bytes(base / "data/two", b"2")
    files.adopt(policy)
    files.delete(base / "extra/one")


def test_no_write_follows_a_withdrawal(files: FileAccess, policy: Policy, base: Path) -> None:
    smaller = without_extra(policy, base)
    target, stop = base / "extra/count", threading.Event()
    written: list[int] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                files.write_bytes(target, str(number).encode())
            except AccessDenied:
                continue
            written.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(50):
            files.adopt(policy)
            before = len(written)
            while len(written) == before:
                pass
            files.adopt(smaller)
            content: Any = target.read_bytes()
            seen = len(written)
            for _ in range(5):
                assert target.read_bytes() == content
            assert len(written) <= seen + 1
    finally:
        stop.set()
        thread.join()
