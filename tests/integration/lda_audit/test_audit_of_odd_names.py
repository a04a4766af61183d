"""Commands of a run that use names no audit likes: each change is on record, or does not happen."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from rootbound_lda.audit import verify_chain
from rootbound_lda.outbox import Outbox
from rootbound_lda.policy import build_policy
from rootbound_lda.reports import RunAudit
from rootbound_lda.sandbox import CommandResult, Sandbox, base_env

PYTHON = os.path.realpath(sys.executable)


async def _run(base: Path, code: str) -> tuple[CommandResult, Path, list[dict[str, object]]]:
    """Run Python code in a run whose audit goes into a real outbox; returns what it recorded."""
    for part in ("user", "proj/repo/.git", "state/worktrees/a1"):
        (base / part).mkdir(parents=True)
    policy = build_policy(
        run_id="r1", worktree=base / "state/worktrees/a1", repo_path=base / "proj/repo",
        git_common_dir=base / "proj/repo/.git", private_dir=base / "state/runs/a1",
        state_dir=base / "state", writable_roots=[str(base / "proj")], readable_paths=[],
        network={}, limits={},
    )  # fmt: skip
    box, sandbox = Outbox(base / "outbox.sqlite3"), Sandbox()
    await sandbox.start()
    try:
        result = await sandbox.runner(policy, RunAudit(box, "a1", "a1")).run(
            [PYTHON, "-I", "-S", "-c", code], cwd=policy.worktree, env=base_env(policy),
            network=False, timeout_s=60,
        )  # fmt: skip
    finally:
        await sandbox.stop()
    await box.sync()
    rows = box.rows(box.stream("audit", "a1", "a1"), limit=100_000)
    entries = [json.loads(row.body) for row in rows]
    assert verify_chain(entries) is None
    box.close()
    return result, policy.worktree, entries


def _written(entries: list[dict[str, object]]) -> set[str]:
    return {
        str(entry["path"])
        for entry in entries
        if (entry["operation"], entry["result"]) == ("WRITE", "ALLOWED")
    }


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path.resolve() / "user"))
    return tmp_path.resolve()


@pytest.mark.asyncio
async def test_bytes_lines_and_quotes(base: Path) -> None:
    names = [b"two\nlines", b"not \xff\xfe utf-8", b"\x01\x1b[31mred", b'"quo\\ted"', b"\\xff",
             "Grün 🌱".encode(), b"{\"seq\": 1}\n{\"seq\": 2}"]  # fmt: skip
    code = (
        f"import os\nfor name in {names!r}:\n    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))"
    )
    result, tree, entries = await _run(base, code)
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(os.fsencode(tree))) == sorted(names)
    expected = {f"{tree}/{name.decode('utf-8', 'backslashreplace')}" for name in names}
    assert expected <= _written(entries)
    assert sum(str(entry["path"]).startswith(f"{tree}/") for entry in entries
               if entry["operation"] == "WRITE") == len(names)  # fmt: skip


@pytest.mark.asyncio
async def test_paths_longer_than_the_kernel_takes_at_once(base: Path) -> None:
    """Deep trees are made step by step; beyond 4,096 bytes nothing can be named, nor done."""
    code = """
import os
made = failed = 0
for level in range(60):
    try:
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
        made += 1
    except OSError as error:
        failed += 1
        break
print(made, failed)
"""
    result, tree, entries = await _run(base, code)
    assert result.exit_code == 0, result.output
    made, _ = map(int, result.output.split())
    assert made >= 10
    folders, place = [], str(tree)
    for _ in range(made):
        place += "/" + "d" * 200
        folders.append(place)
    seen = _written(entries)
    for folder in folders:
        for path in (folder, f"{folder}/file"):
            raw = path.encode()
            short = path if len(raw) <= 1024 else (
                f"{path[:900]}…sha256:{hashlib.sha256(raw).hexdigest()}"
            )  # fmt: skip
            assert short in seen, f"{len(raw)} bytes are not on record"


@pytest.mark.asyncio
async def test_many_operations_are_all_on_record(base: Path) -> None:
    code = """
import os
for number in range(1000):
    os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY))
    os.unlink(f"f{number}")
"""
    result, tree, entries = await _run(base, code)
    assert result.exit_code == 0, result.output
    changes = [
        (entry["operation"], entry["path"]) for entry in entries if entry["operation"] != "READ"
    ]
    wanted = [
        (operation, f"{tree}/f{number}")
        for number in range(1000)
        for operation in ("WRITE", "DELETE")
    ]
    assert changes == wanted, "every change, in the order in which they happened"
