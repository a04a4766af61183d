"""A repository as they are in life: large, with hooks, a submodule, LFS and a dirty checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rootbound.testing.script import Conversation, Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "It is done."}),))
FILES = 50_000
ODD = "naïve 名前/with space.txt"
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    f"oid sha256:{hashlib.sha256(b'big').hexdigest()}\nsize 3\n"
)
HOOKS = (
    "pre-commit", "commit-msg", "post-commit", "post-checkout", "pre-merge-commit", "post-merge",
    "reference-transaction", "post-index-change", "pre-rebase", "post-rewrite",
)  # fmt: skip


def many_files() -> bytes:
    """Return a fast-import stream that adds `FILES` small files to the branch."""
    who = b"Ada Owner <ada@example.org> 1700000000 +0000"
    lines = [b"commit refs/heads/main\ncommitter %s\ndata 4\nmany\nfrom refs/heads/main^0\n" % who]
    for number in range(FILES):
        content = b"%d\n" % number
        name = b"many/%03d/%05d.txt" % (number // 250, number)
        lines.append(b"M 644 inline %s\ndata %d\n%s\n" % (name, len(content), content))
    return b"".join(lines)


@pytest.fixture
def hard(repo: Path, tmp_path: Path) -> Path:
    """Return the repository, on a branch of the user's own with work that is not committed."""
    module = tmp_path / "module"
    git_init = ("init", "-q", "-b", "main")
    module.mkdir()
    git(module, *git_init)
    (module / "inner.txt").write_text("inner\n")
    git(module, "add", "-A")
    git(module, "-c", "user.name=M", "-c", "user.email=m@example.org", "commit", "-q", "-m", "M")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(module), "sub")
    (repo / ODD).parent.mkdir()
    (repo / ODD).write_text("odd\n")
    (repo / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (repo / "big.bin").write_text(POINTER)
    marks = tmp_path / "marks"
    marks.mkdir()
    for tool in ("clean", "smudge"):
        git(repo, "config", f"filter.lfs.{tool}", f"touch {marks}/filter-{tool}; cat")
    git(repo, "-c", "filter.lfs.clean=cat", "add", "-A")
    git(repo, "commit", "-q", "-m", "Odd things")
    subprocess.run(
        ["git", "fast-import", "--quiet", "--force"], cwd=repo, input=many_files(), check=True
    )
    git(repo, "-c", "filter.lfs.smudge=cat", "reset", "-q", "--hard")
    git(repo, "checkout", "-q", "-b", "wip")
    for name in HOOKS:
        hook = repo / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {marks}/hook-{name}\nexit 1\n")
        hook.chmod(0o755)
    # Dirty in every way: staged, changed, untracked, deleted, and a mode.
    (repo / "staged.txt").write_text("staged\n")
    git(repo, "add", "staged.txt")
    (repo / "calc.py").write_text("half = 'done'\n")
    (repo / "untracked.txt").write_text("mine\n")
    (repo / "check.py").unlink()
    (repo / ODD).chmod(0o755)
    for mark in marks.iterdir():
        mark.unlink()
    return repo


def fingerprint(repo: Path) -> str:
    """Digest everything in the checkout, the index and where HEAD points to."""
    found = hashlib.sha256()
    for folder, folders, names in os.walk(repo):
        if Path(folder) == repo:
            folders.remove(".git")
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            found.update(f"{path} {path.lstat().st_mode} {path.lstat().st_mtime_ns}".encode())
            found.update(path.read_bytes())
    for name in ("index", "HEAD", "config"):
        found.update((repo / ".git" / name).read_bytes())
    return found.hexdigest()


def test_it_is_worked_on_and_merged_and_the_checkout_stays_bit_for_bit(
    hard: Path, tmp_path: Path, lda: Any, receiver: Any, stub: Any
) -> None:
    before, tip = fingerprint(hard), git(hard, "rev-parse", "main")
    heard: list[str] = []

    def look(conversation: Conversation) -> Turn:
        heard.extend(result.text for result in conversation.last_results)
        return DONE

    fix = {"path": "calc.py", "content": "def add(a, b):\n    return a + b\n"}
    odd = {"path": ODD, "content": "changed\n"}
    count = ToolCall("run_command", {"command": "find many -type f | wc -l; cat big.bin"})
    work = (ToolCall("write_file", fix), ToolCall("read_file", {"path": ODD}),
            ToolCall("write_file", odd), count)  # fmt: skip
    payload = run_payload(hard, receiver, stub(Steps([Turn(calls=work), look])))
    attempt = payload["attempt_id"]
    assert lda.call("POST", "/run", payload).status_code == 202
    status = wait_for(lambda: receiver.status(attempt), "the end of the run", 120)
    assert status["status"] == "REVIEW", status
    head = status["head_commit"]
    assert str(FILES) in heard[-1]
    assert POINTER.strip() in heard[-1], "a pointer stays a pointer"
    changed = git(hard, "-c", "core.quotePath=false", "diff", "--name-only", tip, head)
    assert changed.splitlines() == ["calc.py", ODD]
    assert git(hard, "rev-parse", f"{head}:sub") == git(hard, "rev-parse", f"{tip}:sub")

    answer = lda.call("POST", f"/runs/{attempt}/merge", {"head_commit": head, "message": "Merge"})
    assert answer.status_code == 200, answer.text
    assert git(hard, "merge-base", "--is-ancestor", head, "main") == ""
    assert git(hard, "show", f"main:{ODD}") == "changed"
    assert fingerprint(hard) == before, "what the user has open is untouched"
    assert sorted(mark.name for mark in (tmp_path / "marks").iterdir()) == []
