"""The audit of a command names exactly the paths that strace sees the same command change.

Each command runs twice, in equal fresh trees: plainly under strace, and in the sandbox. Written
and deleted paths are compared in both directions. Only what a program draws at random, or takes
from the clock or its process number, is made equal; `VARIABLE` lists every such rule.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rootbound_lda.audit import MemorySink
from rootbound_lda.policy import READABLE_ENV, Policy, build_policy
from rootbound_lda.sandbox import Sandbox, base_env
from tests.integration.lda_audit import strace_log

VARIABLE = (
    # Byte code is written beside its name with the object's address or the process number.
    (r"\.pyc\.\d+$", ".pyc.N"),
    # tempfile: eight random letters, after what the caller chose.
    (r"(/|-|^|[.])(tmp|pip-[a-z-]+-|pytest-cache-files-)[a-z0-9_]{8}(?=/|\.|$)", r"\1\2RANDOM"),
    # tempfile looks for a folder that it can write to, by writing to it.
    (r"^tmp/[a-z0-9_]{8}$", "tmp/RANDOM"),
    # pip writes a file of its records beside its name first.
    (r"(/[A-Za-z_.]+?)[a-z0-9_]{8}\.tmp$", r"\1RANDOM.tmp"),
    # pytest moves an old folder of temporary files away under a random name.
    (r"/garbage-[0-9a-f-]{36}", "/garbage-RANDOM"),
    # npm: its log's name is the time, its cache's temporary names and staging folders random.
    (r"/_logs/[0-9TZ_:-]+-debug", "/_logs/TIME-debug"),
    (r"/_cacache/tmp/[0-9a-f-]+", "/_cacache/tmp/RANDOM"),
    (r"/node_modules/\.([a-z-]+)-[0-9A-Za-z]{8}(?=/|$)", r"/node_modules/.\1-RANDOM"),
)
MIN_CHANGES = 10

MODULE = "def double(number):\n    return 2 * number\n"
TESTS = """
import os, pytest
from module import double

@pytest.mark.parametrize("number", range(20))
def test_double(number, tmp_path):
    (tmp_path / "Grün und\\nlang").write_text(str(double(number)))
    os.rename(tmp_path / "Grün und\\nlang", tmp_path / "renamed")
    os.symlink("renamed", tmp_path / "link")
    os.chmod(tmp_path / "link", 0o600)
    os.link(tmp_path / "renamed", tmp_path / "hard")
    os.utime(tmp_path / "hard")
    os.truncate(tmp_path / "hard", 0)
    os.mkdir(tmp_path / "folder")
    os.rmdir(tmp_path / "folder")
    (tmp_path / "hard").unlink()
    assert (tmp_path / "renamed").read_text() == ""

def test_in_a_child():
    assert os.system("mkdir -p a/b && cd a && touch b/c && cp -a b d && mv d e && rm -r b") == 0
"""


@dataclass
class Boxed:
    """A tree, a home and a folder for temporary files, twice: for strace and for the sandbox."""

    plain: Path
    policy: Policy

    def plain_places(self) -> dict[str, Path]:
        return {name: self.plain / name for name in ("tree", "home", "tmp")}

    def boxed_places(self) -> dict[str, Path]:
        policy = self.policy
        return {"tree": policy.worktree, "home": policy.private_home, "tmp": policy.private_tmp}


@pytest.fixture(scope="module")
def strace() -> None:
    assert shutil.which("strace"), "install strace (`make setup` does); this test compares with it"


@pytest.fixture
def boxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boxed:
    base = tmp_path.resolve()
    for part in ("user", "proj/repo/.git", "state/worktrees/a1", "plain/tree", "plain/home",
                 "plain/tmp"):  # fmt: skip
        (base / part).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(base / "user"))
    monkeypatch.setenv(READABLE_ENV, sys.prefix)
    policy = build_policy(
        run_id="r1", worktree=base / "state/worktrees/a1", repo_path=base / "proj/repo",
        git_common_dir=base / "proj/repo/.git", private_dir=base / "state/runs/a1",
        state_dir=base / "state", writable_roots=[str(base / "proj")], readable_paths=[],
        network={"agent": True, "install": True}, limits={},
    )  # fmt: skip
    return Boxed(base / "plain", policy)


def _relative(path: str, places: dict[str, Path]) -> str | None:
    for name, folder in places.items():
        if path == str(folder) or path.startswith(f"{folder}/"):
            return name + path[len(str(folder)) :]
    return None


def _comparable(found: set[tuple[str, str]], places: dict[str, Path]) -> Counter[tuple[str, str]]:
    """Return the changes inside the places; names that were made equal are counted."""
    result: Counter[tuple[str, str]] = Counter()
    for operation, path in found:
        inside = _relative(path, places)
        if inside is None or "/.shm" in inside:
            continue
        for pattern, replacement in VARIABLE:
            inside = re.sub(pattern, replacement, inside)
        result[operation, inside] += 1
    return result


async def _audited(boxed: Boxed, argv: list[str], env: dict[str, str]) -> set[tuple[str, str]]:
    sink, sandbox = MemorySink(), Sandbox()
    await sandbox.start()
    try:
        result = await sandbox.runner(boxed.policy, sink).run(
            argv, cwd=boxed.policy.worktree, env=env, network=True, timeout_s=240
        )
    finally:
        await sandbox.stop()
    assert result.exit_code == 0, result.output.decode("utf-8", "replace")[-3000:]
    places = boxed.boxed_places()
    found = set()
    for entry in sink.entries:
        operation, path = str(entry["operation"]), str(entry["path"])
        if operation == "READ":
            continue
        refused = entry["result"] == "DENIED" and _relative(path, places)
        assert not refused, f"refused inside the tree: {entry}"
        if entry["result"] == "ALLOWED":
            assert entry["detail"]["exact"] is True, entry
            found.add((operation, path))
    return found


def _traced(boxed: Boxed, argv: list[str], env: dict[str, str]) -> set[tuple[str, str]]:
    log = boxed.plain / "strace.log"
    places = boxed.plain_places()
    done = subprocess.run(
        [*strace_log.command(log), *argv],
        cwd=places["tree"], env={**env, "HOME": str(places["home"]), "TMPDIR": str(places["tmp"])},
        capture_output=True, stdin=subprocess.DEVNULL, timeout=240, check=False, umask=0o022,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")[-3000:]
    return strace_log.changes(log, places["tree"])


async def _compare(
    boxed: Boxed, argv: list[str], prepare: Callable[[Path], None], **extra: str
) -> Counter[tuple[str, str]]:
    env = {**base_env(boxed.policy, network=True), **extra}
    for folder in (boxed.plain_places()["tree"], boxed.policy.worktree):
        prepare(folder)
    # Side by side, because most of the time goes into waiting for the package index.
    seen, recorded = await asyncio.gather(
        asyncio.to_thread(_traced, boxed, argv, env), _audited(boxed, argv, env)
    )
    traced = _comparable(seen, boxed.plain_places())
    audited = _comparable(recorded, boxed.boxed_places())
    missing, invented = sorted(+(traced - audited)), sorted(+(audited - traced))
    assert not missing, f"{len(missing)} changes that the audit lacks: {missing[:20]}"
    assert not invented, f"{len(invented)} changes that strace does not see: {invented[:20]}"
    assert len(audited) >= MIN_CHANGES, audited
    return audited


def _environment(folder: Path) -> None:
    venv.create(folder / ".venv", with_pip=False)


def _python_project(folder: Path) -> None:
    (folder / "module.py").write_text(MODULE)
    (folder / "test_module.py").write_text(TESTS)


def _node_project(folder: Path) -> None:
    (folder / "package.json").write_text('{"name": "sample", "version": "1.0.0"}\n')


SCRIPT = """
set -e
mkdir d 'Grün "x"'
(cd d; echo > one; cp one ../two; chmod 600 ./one)
mv two "$PWD/three"; ln -s three link; ln three hard; touch link; : >> /dev/null
rm hard; rmdir 'Grün "x"'; cat three > "$(printf 'a\nb')"
mv missing nowhere || true; rm -f missing
"""
SCRIPT_CHANGES = {
    ("WRITE", name) for name in ("d", 'Grün "x"', "d/one", "two", "three", "link", "hard", "a\nb")
} | {("DELETE", name) for name in ("two", "hard", 'Grün "x"')}


@pytest.mark.asyncio
@pytest.mark.usefixtures("strace")
async def test_what_is_compared_is_what_a_known_script_does(boxed: Boxed) -> None:
    """Strace's log is read rightly, and neither side is blind."""
    audited = await _compare(boxed, ["/bin/sh", "-c", SCRIPT], lambda _: None)
    assert set(audited) == {(operation, f"tree/{name}") for operation, name in SCRIPT_CHANGES}


@pytest.mark.asyncio
@pytest.mark.usefixtures("strace")
async def test_pytest(boxed: Boxed) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:django"]
    audited = await _compare(boxed, argv, _python_project, PYTHONPATH="")
    assert ("DELETE", "tree/a/d") in audited
    assert any("Grün und\nlang" in path for _, path in audited)


@pytest.mark.asyncio
@pytest.mark.usefixtures("strace")
async def test_pip_install(boxed: Boxed) -> None:
    python = ".venv/bin/python"
    argv = [sys.executable, "-m", "pip", "--python", python, "install", "iniconfig"]
    audited = await _compare(boxed, argv, _environment)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    module = f"tree/.venv/lib/{version}/site-packages/iniconfig/__init__.py"
    assert ("WRITE", module) in audited


@pytest.mark.asyncio
@pytest.mark.usefixtures("strace")
async def test_npm_install(boxed: Boxed) -> None:
    npm = shutil.which("npm")
    assert npm, "install Node.js with npm"
    audited = await _compare(
        boxed, [os.path.realpath(npm), "install", "--no-audit", "--no-fund", "is-number"],
        _node_project,
    )  # fmt: skip
    assert ("WRITE", "tree/node_modules/is-number/index.js") in audited
