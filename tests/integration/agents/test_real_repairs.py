"""Real repairs from neighbouring releases on the package index: red before, green after."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rootbound.demo.derive import derive_edits
from rootbound.demo.releases import unpack_archive
from rootbound.testing.script import Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

# The interpreter of this session has pytest; an environment for each attempt would take minutes.
TEST = (
    f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONPATH=src {sys.executable} -m pytest -q "
    "-p no:cacheprovider --confcutdir ."
)
DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "As released."}),))


def tree(folder: Path, package: str, version: str) -> Path:
    """Download and unpack one source release."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "-d", str(folder), f"{package}=={version}"], check=True)
    with tarfile.open(folder / f"{package}-{version}.tar.gz") as archive:
        unpack_archive(archive, folder)
    return folder / f"{package}-{version}"


@pytest.mark.parametrize(
    ("provider", "package", "old", "new", "tests"),
    [
        ("GLM", "itsdangerous", "2.1.2", "2.2.0", "tests/test_itsdangerous/test_serializer.py"),
        ("GLM", "cachetools", "7.0.2", "7.0.3", "tests/test_cachedmethod.py"),
    ],
)
def test_a_release_is_repaired_to_its_successor(
    provider: str, package: str, old: str, new: str, tests: str,
    tmp_path: Path, lda: Any, receiver: Any, stub: Any,
) -> None:  # fmt: skip
    before, after = (tree(tmp_path, package, version) for version in (old, new))
    repo = tmp_path / "granted" / package
    shutil.copytree(before, repo, ignore=shutil.ignore_patterns("*.egg-info", "PKG-INFO"))
    shutil.rmtree(repo / "tests")
    shutil.copytree(after / "tests", repo / "tests")
    for command in (
        ("init", "-q", "-b", "main"), ("config", "user.name", "Ada Owner"),
        ("config", "user.email", "ada@example.org"), ("add", "-A"), ("commit", "-q", "-m", old),
    ):  # fmt: skip
        git(repo, *command)
    names = sorted(
        str(path.relative_to(after))
        for path in (after / "src" / package).rglob("*.py")
        if (before / path.relative_to(after)).read_bytes() != path.read_bytes()
    )
    edits = [
        ToolCall("edit_file", {"path": e.path, "old_string": e.old, "new_string": e.new})
        for e in derive_edits(before, after, names)
    ]
    idle = ToolCall("write_file", {"path": "NOTES.txt", "content": "Looked at it.\n"})
    tidy = ToolCall("delete_file", {"path": "NOTES.txt"})
    model = stub(Steps([Turn(calls=(idle,)), DONE, Turn(calls=(*edits, tidy)), DONE]))
    payload = run_payload(
        repo, receiver, model, provider=provider, commands={"test_cmd": f"{TEST} {tests}"}
    )
    attempt = payload["attempt_id"]
    answer = lda.call("POST", "/run", payload)
    assert answer.status_code == 202, answer.text
    status = wait_for(lambda: receiver.status(attempt), "the end of the run", 120)
    assert status["status"] == "REVIEW", status["message"]
    (base,) = receiver.payloads(attempt, "baseline")
    assert base["exit_code"] != 0, "the gate is red on the release before"
    assert base["new"] == []
    head = status["head_commit"]
    shown = git(repo, "diff", "--name-only", "main", head).splitlines()
    assert shown == names, "nothing but what upstream changed"
    for name in names:
        blob = subprocess.run(
            ["git", "show", f"{head}:{name}"], cwd=repo, check=True, capture_output=True
        ).stdout
        assert blob == (after / name).read_bytes(), name
