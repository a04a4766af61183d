"""Only the chokepoint opens what users' paths name; and it holds without `openat2`."""

from __future__ import annotations

import ast
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rootbound_lda
from rootbound_lda import beneath
from rootbound_lda.audit import MemorySink
from rootbound_lda.files import AccessDenied, FileAccess
from rootbound_lda.policy import Policy
from rootbound_lda.sandbox._sys import RENAME_EXCHANGE, renameat2

PACKAGE = Path(rootbound_lda.__file__).parent

# What opens or changes a file by a path. Looking at names (stat, exists, resolve) is not of these.
BY_NAME = {"open", "openat2"}
BY_ATTRIBUTE = {
    "open", "openat2", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "rename",
    "replace", "mkdir", "makedirs", "rmdir", "rmtree", "touch", "symlink_to", "hardlink_to", "link",
    "symlink", "truncate", "copy", "copy2", "copyfile", "copytree", "move", "chmod", "remove",
    "mkstemp", "mkdtemp", "TemporaryDirectory", "NamedTemporaryFile", "fdopen", "write_atomic",
}  # fmt: skip

# Who may, and on what. Whoever is added here must not take a path from an agent or a payload.
ALLOWED = {
    "files.py": "the chokepoint",
    "beneath.py": "how the chokepoint resolves paths",
    "pins.py": "pins granted folders without opening them",
    "sandbox": "the supervisor: the same for commands; and the probe's own folder",
    "policy.py": "the run's private folders",
    "inspection.py": "the repository's configuration, whose copy the run is shown",
    "config.py": "the state folder",
    "auth.py": "the verify key",
    "__main__.py": "the address file",
    "outbox.py": "the outbox's database",
    "outbox_store.py": "the outbox's database",
    "outbox_writer.py": "the outbox's database",
    "runs.py": "the run's record",
    "records.py": "the run's record",
    "grants.py": "the run's policy, kept",
    "gates.py": "logs in the artifacts' folder",
    "baseline.py": "results kept in the state folder",
    "caches.py": "the project's cache and the run's private home",
    "batches.py": "a batch's record, log and report in the state folder",
    "kernels.py": "a kernel's folders in the state folder, where no kernel can write",
    "kernel_setup.py": "the same",
    "kernel_relay.py": "the socket in one of them",
    "leavings.py": "a run's artifacts in the state folder, by a plain name and never by a link",
    "branches.py": "a temporary worktree in the state folder",
    "worktrees.py": "the worktree's folder as a whole, and git's own files of it",
    "removal.py": "the same",
    "agent/journal.py": "the run's journal",
}  # fmt: skip
# Single calls in modules that may not do so otherwise: all on the state folder.
ALLOWED_CALLS = {
    "agent/tools.py": {"self._log.path.unlink(missing_ok=True)"},
    "notebook_outputs.py": {"rest.remove(right)"},  # a list
    # The machine's own settings, by a fixed list: whether they hold a password.
    "machine_settings.py": {"open(path, 'rb')"},
    # The user's own configuration of pip and npm, by its known names or the LDA's variables; and
    # what is said of it, in a home that was just emptied and in which nothing is alive.
    "downloads.py": {
        "(home() / path).open('rb')",
        "path.parent.mkdir(mode=448, parents=True, exist_ok=True)",
        "path.write_text('\\n'.join(lines) + '\\n', encoding='utf-8')",
    },
    "execution.py": {"self._artifacts.mkdir(mode=448, parents=True, exist_ok=True)"},
    # The configuration that git itself reads, for its digest alone.
    "git.py": {"Path(path).read_bytes()"},
    # The user's own settings of pip, which no run may write, and the copy for a kernel.
    "kernel_pip.py": {
        "(folder / _CERTIFICATES).write_bytes(data)",
        "(folder / _FILE).write_text('\\n'.join(['[global]', *lines, '']), encoding='utf-8')",
        "Path(path).read_bytes()",
    },
    # In the kernel, when it starts.
    "kernel_startup.py": {"os.makedirs(path, exist_ok=True)"},
    # What an environment adds to itself; never one that lies where the kernel can write.
    "kernel_policy.py": {"path.read_text(encoding='utf-8')"},
    # Logs in the artifacts' folder, by a name of their own.
    "logs.py": {"path.open('wb')", "self.path.open('rb')"},
    # What git notes in its own folder of a rebase under way, and of where a worktree is.
    "merging.py": {
        "(git_dir / state / 'head-name').read_text(encoding='utf-8')",
        "(git_dir / 'gitdir').read_text(encoding='utf-8')",
    },
    "tending.py": {
        "shutil.rmtree(self._services.config.runs / attempt / name, ignore_errors=True)"
    },
    "unsaved.py": {"self._memory.read_bytes()"},
    "wire.py": {"(folder / f'{name}.json').write_text(text, encoding='utf-8')"},
}


def _allowed(module: str) -> bool:
    return any(module == entry or module.startswith(f"{entry}/") for entry in ALLOWED)


def _opens(path: Path) -> Iterator[str]:
    """Yield the calls in a module that open or change a file by a path."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in BY_NAME:
            yield ast.unparse(node)
        if not isinstance(called, ast.Attribute) or called.attr not in BY_ATTRIBUTE:
            continue
        # str.replace and dataclasses.replace take two arguments or keywords; Path.replace one.
        if called.attr == "replace" and (len(node.args) != 1 or node.keywords):
            continue
        # `files` and `access` are the chokepoint itself; `.copy()` of a dict takes nothing.
        if called.attr == "copy" and not node.args:
            continue
        owner = ast.unparse(called.value)
        if owner.endswith(("files", "_files", "access")):
            continue
        yield ast.unparse(node)


def test_no_other_module_opens_a_users_path() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = str(path.relative_to(PACKAGE))
        if not _allowed(module):
            known = ALLOWED_CALLS.get(module, set())
            found += [f"{module}: {call}" for call in _opens(path) if call not in known]
    assert found == []


def test_the_search_would_find_one(tmp_path: Path) -> None:
    module = tmp_path / "bad.py"
    lines = ["open(p)", "Path(p).read_text()", "os.open(p, 0)", "p.unlink()", "p.replace(q)",
             "shutil.rmtree(p)"]  # fmt: skip
    module.write_text("\n".join([*lines, "self.files.read_bytes(p)", "t.replace('a', 'b')"]))
    assert len(list(_opens(module))) == len(lines)


@pytest.fixture(params=[beneath.by_kernel, beneath.by_steps])
def files(
    policy: Policy,
    sink: MemorySink,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[FileAccess]:
    monkeypatch.setattr(beneath, "open_beneath", request.param)
    with FileAccess(policy, sink) as access:
        yield access


def test_both_ways_of_resolving_do_the_work(files: FileAccess, policy: Policy) -> None:
    assert files.write_bytes("a/b/../c/file", b"one") is True
    assert files.read_bytes("./a//c/file", max_bytes=9) == b"one"
    assert files.read_bytes("a/b/../../a/c/file", max_bytes=9) == b"one"
    assert [info.path.name for info in files.list_dir("a/..")] == [".git", "a"]
    assert [info.path.name for info in files.list_dir("a/c/..")] == ["b", "c"]
    with pytest.raises(NotADirectoryError):
        files.write_bytes("a/c/file/x", b"")
    with pytest.raises(FileNotFoundError):
        files.read_bytes("a/none/x", max_bytes=9)
    files.delete("a/c/file")
    assert not (policy.worktree / "a/c/file").exists()


@pytest.mark.parametrize(
    "path", ["out/file", "out", "a/../../../../other/file", "../../../other/file", "abs/file"]
)
def test_neither_way_leads_outside(
    files: FileAccess, policy: Policy, base: Path, path: str
) -> None:
    (policy.worktree / "a").mkdir()
    (policy.worktree / "out").symlink_to("../../../other")
    (policy.worktree / "abs").symlink_to(base / "other")
    with pytest.raises(AccessDenied):
        files.read_bytes(path, max_bytes=99)
    if path != "out":
        with pytest.raises(AccessDenied):
            files.write_bytes(path, b"changed")
    assert (base / "other/file").read_text() == "original"


def test_without_openat2_no_link_is_followed(policy: Policy) -> None:
    tree = policy.worktree
    (tree / "real").mkdir()
    (tree / "real/file").write_text("x")
    (tree / "link").symlink_to("real")
    fd = os.open(tree, os.O_PATH)
    try:
        os.close(beneath.by_kernel(fd, b"link/file", os.O_RDONLY))
        for path in (b"link/file", b"link"):
            with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
                os.close(beneath.by_steps(fd, path, os.O_RDONLY))
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
            os.close(beneath.by_steps(fd, b"..", os.O_RDONLY))
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
            os.close(beneath.by_steps(fd, b"/etc", os.O_RDONLY))
        with pytest.raises(ValueError, match="NUL"):
            os.close(beneath.by_steps(fd, b"real\0", os.O_RDONLY))
    finally:
        os.close(fd)


def test_swapping_never_wins_either_way(files: FileAccess, policy: Policy, base: Path) -> None:
    tree = policy.worktree
    (tree / "slot").mkdir()
    (tree / "fake").symlink_to(base / "other")
    stop = time.monotonic() + 0.3

    def swap() -> None:
        here = os.open(tree, os.O_PATH)
        while time.monotonic() < stop:
            renameat2(here, b"slot", here, b"fake", RENAME_EXCHANGE)
        os.close(here)

    thread = threading.Thread(target=swap)
    thread.start()
    while time.monotonic() < stop:
        try:
            files.write_bytes("slot/won", b"x")
        except AccessDenied:
            continue
    thread.join()
    assert not (base / "other/won").exists()


def test_the_way_is_chosen_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(code: int) -> Callable[..., int]:
        def call(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        return call

    assert beneath._kernel_can() is True
    for code in (errno.ENOSYS, errno.EPERM):
        monkeypatch.setattr(beneath, "by_kernel", refuse(code))
        assert beneath._kernel_can() is False
    monkeypatch.setattr(beneath, "AUDIT_ARCH", 0)
    assert beneath._kernel_can() is False
