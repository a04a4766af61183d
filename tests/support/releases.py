"""Real repairs: neighbouring releases from the package index; the later one has the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from rootbound.demo.derive import derive_edits
from rootbound.demo.releases import unpack_archive
from rootbound.testing.script import ToolCall
from tests.support.repos import git

# The interpreter of this session has pytest; an environment for each attempt would take minutes.
TEST = (
    f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONPATH=src:. {sys.executable} -m pytest -q "
    "-p no:cacheprovider --confcutdir ."
)

Tree = Callable[[str, str], Path]
"""Returns the unpacked source release of a package and version."""


class Pair(NamedTuple):
    """Two neighbouring releases; the tests of the later one are red on the earlier one."""

    package: str
    old: str
    new: str
    tests: str
    source: str = "src"


PAIRS = [
    Pair("sqlparse", "0.5.4", "0.5.5", "tests/test_split.py", "."),
    Pair("cachetools", "7.0.2", "7.0.3", "tests/test_cachedmethod.py"),
    Pair("tomlkit", "0.13.2", "0.13.3", "tests/test_toml_document.py tests/test_items.py", "."),
    Pair("itsdangerous", "2.1.2", "2.2.0", "tests/test_itsdangerous/test_serializer.py"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Download and unpack source releases, once for all tests of all processes.

    All at the same time, and from the beginning: pip asks each one's build backend for metadata,
    which takes seconds of waiting for the index.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "releases"
    folder.mkdir(exist_ok=True)
    wanted = [(one.package, version) for one in PAIRS for version in (one.old, one.new)]
    with ThreadPoolExecutor(len(wanted)) as pool:
        found = {one: pool.submit(_unpacked, *one, folder) for one in wanted}
        yield lambda package, version: found[package, version].result()


def _unpacked(package: str, version: str, folder: Path) -> Path:
    release = folder / f"{package}-{version}"
    with (folder / f"{release.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not release.is_dir():
            _download(package, version, folder)
    return release


def _download(package: str, version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", package]
    subprocess.run([*command, "-d", str(folder), f"{package}=={version}"], check=True)
    with tarfile.open(folder / f"{package}-{version}.tar.gz") as archive:
        unpack_archive(archive, folder)


def repository_before(repo: Path, before: Path, after: Path, version: str) -> None:
    """Commit the earlier release with the later one's tests."""
    shutil.copytree(before, repo, ignore=shutil.ignore_patterns("*.egg-info", "PKG-INFO"))
    shutil.rmtree(repo / "tests")
    shutil.copytree(after / "tests", repo / "tests")
    for command in (
        ("init", "-q", "-b", "main"), ("config", "user.name", "Ada Owner"),
        ("config", "user.email", "ada@example.org"), ("add", "-A"), ("commit", "-q", "-m", version),
    ):  # fmt: skip
        git(repo, *command)


def changed(pair: Pair, before: Path, after: Path) -> list[str]:
    """Return the source files that the later release changed."""
    return sorted(
        str(path.relative_to(after))
        for path in (after / pair.source / pair.package).rglob("*.py")
        if (before / path.relative_to(after)).read_bytes() != path.read_bytes()
    )


def edits_between(before: Path, after: Path, names: list[str]) -> list[ToolCall]:
    """Return the calls that turn the earlier release's files into the later one's."""
    return [
        ToolCall("edit_file", {"path": e.path, "old_string": e.old, "new_string": e.new})
        for e in derive_edits(before, after, names)
    ]
