"""The agent's file tools stay beneath their roots and leave records."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootbound_lda.audit import AuditRecord, AuditUnavailable, MemorySink
from rootbound_lda.files import AccessDenied, FileAccess, FileTooLarge
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox._sys import RENAME_EXCHANGE, renameat2


@pytest.fixture
def files(policy: Policy, sink: MemorySink) -> Iterator[FileAccess]:
    with FileAccess(policy, sink) as access:
        yield access


@pytest.fixture
def tree(policy: Policy) -> Path:
    return policy.worktree


def _last(sink: MemorySink) -> tuple[object, ...]:
    entry = sink.entries[-1]
    return entry["operation"], entry["result"], entry["path"], entry["source"]


def test_write_read_delete(files: FileAccess, tree: Path, sink: MemorySink) -> None:
    assert files.write_bytes("src/new/a.txt", b"one") is True
    assert _last(sink) == ("WRITE", "ALLOWED", str(tree / "src/new/a.txt"), "tool")
    (tree / "src/new/a.txt").chmod(0o750)
    assert files.write_bytes(tree / "src/new/a.txt", b"two") is False
    assert (tree / "src/new/a.txt").stat().st_mode & 0o777 == 0o750
    assert files.read_bytes("src/../src/new/a.txt", max_bytes=10) == b"two"
    assert _last(sink)[:2] == ("READ", "ALLOWED")
    files.delete("src/new/a.txt")
    assert _last(sink) == ("DELETE", "ALLOWED", str(tree / "src/new/a.txt"), "tool")
    files.delete("src/new")
    assert os.listdir(tree / "src") == []


def test_errors_say_what_is_wrong(files: FileAccess, tree: Path) -> None:
    (tree / "folder").mkdir()
    (tree / "folder/file").write_bytes(b"12345")
    os.mkfifo(tree / "pipe")
    with pytest.raises(FileNotFoundError):
        files.read_bytes("none", max_bytes=1)
    with pytest.raises(FileNotFoundError):
        files.delete("none")
    with pytest.raises(IsADirectoryError):
        files.read_bytes("folder", max_bytes=1)
    with pytest.raises(IsADirectoryError):
        files.write_bytes("folder", b"")
    with pytest.raises(NotADirectoryError):
        files.write_bytes("folder/file/x", b"")
    with pytest.raises(FileTooLarge):
        files.read_bytes("folder/file", max_bytes=4)
    with pytest.raises(ValueError, match="regular"):
        files.read_bytes("pipe", max_bytes=4)
    with pytest.raises(ValueError, match="NUL"):
        files.read_bytes("folder/file\0x", max_bytes=9)
    with pytest.raises(OSError, match="not empty"):
        files.delete("folder")


@pytest.mark.parametrize(
    "path",
    ["../../../other/file", "{base}/other/file", "link", "dir/file", "in/../../../../other/file"],
)
def test_nothing_leads_outside(
    files: FileAccess, base: Path, tree: Path, sink: MemorySink, path: str
) -> None:
    (tree / "link").symlink_to(base / "other/file")
    (tree / "dir").symlink_to(base / "other")
    (tree / "in").mkdir()
    place = path.format(base=base)
    with pytest.raises(AccessDenied) as caught:
        files.read_bytes(place, max_bytes=100)
    assert _last(sink)[:2] == ("READ", "DENIED")
    assert str(tree) in caught.value.sentence
    if path != "link":
        with pytest.raises(AccessDenied):
            files.write_bytes(place, b"changed")
        assert _last(sink)[:2] == ("WRITE", "DENIED")
        with pytest.raises(AccessDenied):
            files.delete(place)
        assert _last(sink)[:2] == ("DELETE", "DENIED")
    assert (base / "other/file").read_text() == "original"


def test_writing_over_a_link_replaces_the_link(files: FileAccess, base: Path, tree: Path) -> None:
    (tree / "link").symlink_to(base / "other/file")
    files.write_bytes("link", b"mine")
    assert not (tree / "link").is_symlink()
    assert (base / "other/file").read_text() == "original"


def test_writing_breaks_a_hard_link(files: FileAccess, base: Path, tree: Path) -> None:
    os.link(base / "other/file", tree / "hard")
    files.write_bytes("hard", b"mine")
    assert (base / "other/file").read_text() == "original"


@pytest.mark.parametrize(
    "path",
    [".git", ".git/config", "vendor/.git/config", "vendor/.GIT/x", "sub/.git", "s/config",
     "vendor/x/../.git/config"],
)  # fmt: skip
def test_git_is_not_changed(files: FileAccess, tree: Path, sink: MemorySink, path: str) -> None:
    (tree / "vendor/.git").mkdir(parents=True)
    (tree / "vendor/x").mkdir()
    (tree / "vendor/.git/config").write_text("original")
    (tree / "s").symlink_to("vendor/.git")
    with pytest.raises(AccessDenied):
        files.write_bytes(path, b"evil")
    with pytest.raises(AccessDenied):
        files.delete(path)
    assert [entry["result"] for entry in sink.entries] == ["DENIED", "DENIED"]
    assert (tree / "vendor/.git/config").read_text() == "original"
    assert (tree / ".git").read_text().startswith("gitdir")


def test_git_can_be_read(files: FileAccess) -> None:
    assert files.read_bytes(".git", max_bytes=100).startswith(b"gitdir")


def test_secrets_are_unreadable(files: FileAccess, base: Path, sink: MemorySink) -> None:
    (base / "home/.ssh/id").write_text("secret")
    (base / "state/secrets/django.key").write_text("secret")
    for path in (base / "home/.ssh/id", base / "state/secrets/django.key", "/etc/shadow"):
        with pytest.raises(AccessDenied):
            files.read_bytes(path, max_bytes=100)
        assert _last(sink) == ("READ", "DENIED", str(path), "tool")


def test_magic_links_lead_nowhere(files: FileAccess, base: Path) -> None:
    with open(base / "other/file") as file, pytest.raises((AccessDenied, FileNotFoundError)):
        files.read_bytes(f"/proc/self/fd/{file.fileno()}", max_bytes=100)


def test_listing_and_walking(files: FileAccess, tree: Path, base: Path) -> None:
    (tree / "b/deep").mkdir(parents=True)
    (tree / "b/deep/x").write_text("x")
    (tree / "a").write_text("a")
    (tree / "out").symlink_to(base / "other")
    assert [(i.path.name, i.kind) for i in files.list_dir()] == [
        (".git", "file"), ("a", "file"), ("b", "folder"), ("out", "link"),
    ]  # fmt: skip
    walked = [str(info.path.relative_to(tree)) for info in files.walk()]
    assert walked == [".git", "a", "b", "b/deep", "b/deep/x", "out"]
    assert files.file_info("a").size == 1
    with pytest.raises(AccessDenied):
        files.list_dir(base / "other")
    with pytest.raises(NotADirectoryError):
        files.list_dir("a")


def test_swapping_folder_and_link_never_wins(files: FileAccess, tree: Path, base: Path) -> None:
    (tree / "slot").mkdir()
    (tree / "fake").symlink_to(base / "other")
    stop = time.monotonic() + 0.5

    def swap() -> None:
        here = os.open(tree, os.O_PATH)
        while time.monotonic() < stop:
            renameat2(here, b"slot", here, b"fake", RENAME_EXCHANGE)
        os.close(here)

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    while time.monotonic() < stop:
        try:
            files.write_bytes("slot/won", b"x")
            outcomes.add("written")
        except AccessDenied:
            outcomes.add("denied")
    thread.join()
    assert not (base / "other/won").exists()
    assert outcomes == {"written", "denied"}


def test_what_cannot_be_recorded_does_not_happen(policy: Policy) -> None:
    class Full:
        def record(self, record: AuditRecord) -> None:
            raise AuditUnavailable("full")

    (policy.worktree / "kept").write_text("original")
    with FileAccess(policy, Full()) as files:
        for act in (
            lambda: files.write_bytes("kept", b"x"),
            lambda: files.write_bytes("a/b", b"x"),
            lambda: files.delete("kept"),
            lambda: files.read_bytes("kept", max_bytes=99),
        ):
            with pytest.raises(AuditUnavailable):
                act()
    assert sorted(os.listdir(policy.worktree)) == [".git", "kept"]
    assert (policy.worktree / "kept").read_text() == "original"
