"""The starting point: two real releases, and a git repository made from them.

The repository holds the older release with the newer one's tests, so that the tests of what
the newer release fixed fail. Nothing of the fix is in Rootbound: the two archives are
downloaded with pip, which compares them with the digests below before it looks inside.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rootbound.demo.errors import DemoError

PACKAGE = "sqlparse"
OLD_VERSION = "0.5.4"
NEW_VERSION = "0.5.5"
_DIGESTS = {
    OLD_VERSION: "4396a7d3cf1cd679c1be976cf3dc6e0a51d0111e87787e7a8d780e7d5a998f9e",
    NEW_VERSION: "e20d4a9b0b8585fdf63b10d30066c7c94c5d7a7ec47c889a2d83a3caa93ff28e",
}
_DOWNLOAD_TIMEOUT = 300  # seconds
_IGNORED = (".venv/", "__pycache__/", "*.egg-info/", ".pytest_cache/", "build/", "dist/")
# Made by the packaging tool, not part of the project's own tree.
_GENERATED = ("PKG-INFO",)


@dataclass(frozen=True, slots=True)
class Releases:
    """Two unpacked releases of one project.

    Parameters
    ----------
    old, new : Path
        Top folders of the two trees.
    """

    old: Path
    new: Path


def download(cache: Path) -> dict[str, Path]:
    """Download the two source archives with pip, unless the cache has them.

    Parameters
    ----------
    cache : Path
        Folder for the archives; made when missing.

    Returns
    -------
    dict[str, Path]
        Archive by version.

    Raises
    ------
    DemoError
        When pip is missing, cannot reach an index, or gets something else than expected.
    """
    cache.mkdir(parents=True, exist_ok=True)
    archives = {version: cache / f"{PACKAGE}-{version}.tar.gz" for version in _DIGESTS}
    missing = [version for version, archive in archives.items() if not _is_expected(archive)]
    jobs = [(version, _start_pip(cache, version)) for version in missing]
    try:
        for version, job in jobs:
            output, _ = job.communicate(timeout=_DOWNLOAD_TIMEOUT)
            if job.returncode != 0:
                raise DemoError(_pip_problem(version, output))
    except subprocess.TimeoutExpired as error:
        raise DemoError(
            f"pip did not finish downloading {PACKAGE} within {_DOWNLOAD_TIMEOUT} seconds; "
            "check the network and run the command again."
        ) from error
    finally:
        for _, job in jobs:
            if job.poll() is None:
                job.kill()
                job.wait()
    for version, archive in archives.items():
        if not _is_expected(archive):
            raise DemoError(
                f"{archive} is not the released {PACKAGE} {version} (its SHA-256 differs); "
                "delete it and run the command again."
            )
    return archives


def _is_expected(archive: Path) -> bool:
    if not archive.is_file():
        return False
    version = archive.name.removeprefix(f"{PACKAGE}-").removesuffix(".tar.gz")
    return hashlib.sha256(archive.read_bytes()).hexdigest() == _DIGESTS[version]


def _start_pip(cache: Path, version: str) -> subprocess.Popen[str]:
    # pip runs the build backend for an archive's metadata. With the digest in the requirement
    # it refuses a foreign archive before that.
    wanted = cache / f"{PACKAGE}-{version}.txt"
    wanted.write_text(f"{PACKAGE}=={version} --hash=sha256:{_DIGESTS[version]}\n", "utf-8")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
            *("--disable-pip-version-check", "--require-hashes", "--no-binary", PACKAGE),
            *("--dest", str(cache), "--requirement", str(wanted)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _pip_problem(version: str, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return f"{sys.executable} has no pip; install it with `python -m ensurepip`."
    errors = [line for line in lines if line.startswith("ERROR")]
    last = (errors or lines or ["it said nothing"])[0]
    return (
        f"pip could not download {PACKAGE} {version} ({last}); check the network and pip's "
        "index settings, and run the command again."
    )


def unpack(archives: Mapping[str, Path], folder: Path) -> Releases:
    """Unpack the two archives, refusing members that point outside the folder.

    Parameters
    ----------
    archives : Mapping[str, Path]
        Archive by version.
    folder : Path
        Where to unpack; must exist.

    Returns
    -------
    Releases
        The two trees.

    Raises
    ------
    DemoError
        When an archive cannot be unpacked or does not hold the one folder it should.
    """
    trees = {}
    for version, archive in archives.items():
        top = f"{PACKAGE}-{version}"
        try:
            with tarfile.open(archive, "r:gz") as tar:
                unpack_archive(tar, folder)
        except (OSError, tarfile.TarError) as error:
            raise DemoError(f"Cannot unpack {archive} ({error}).") from error
        if not (folder / top / PACKAGE).is_dir() or not (folder / top / "tests").is_dir():
            raise DemoError(f"{archive} does not hold {top}/{PACKAGE} and {top}/tests.")
        trees[version] = folder / top
    return Releases(trees[OLD_VERSION], trees[NEW_VERSION])


def unpack_archive(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack plain files and folders, and nothing that would land outside the folder.

    Raises
    ------
    tarfile.TarError
        When a member is a link or a device, or its path leaves the folder.
    """
    if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer
        tar.extractall(folder, filter="data")
        return
    members = tar.getmembers()
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
            raise tarfile.ExtractError(f"{member.name} is not a plain file of the archive")
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    tar.extractall(folder, members)  # noqa: S202 - every member was looked at


def build_repository(releases: Releases, folder: Path) -> str:
    """Make a git repository of the older release with the newer one's tests.

    Parameters
    ----------
    releases : Releases
        The two trees.
    folder : Path
        Where to make it; must not exist.

    Returns
    -------
    str
        The commit, in full, on the branch `main`.

    Raises
    ------
    DemoError
        When git is missing or fails.
    """
    shutil.copytree(releases.old, folder, ignore=shutil.ignore_patterns(*_GENERATED))
    shutil.rmtree(folder / "tests")
    shutil.copytree(releases.new / "tests", folder / "tests")
    ignore = folder / ".gitignore"
    present = ignore.read_text("utf-8").rstrip("\n").splitlines() if ignore.is_file() else []
    added = [line for line in _IGNORED if line not in present]
    ignore.write_text("\n".join([*present, *added]) + "\n", "utf-8")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    # An identity of the repository's own: the user's may be missing, and is not ours to use.
    git(folder, "config", "user.name", "Rootbound demo")
    git(folder, "config", "user.email", "demo@rootbound.invalid")
    git(folder, "config", "commit.gpgsign", "false")
    git(folder, "add", "--all")
    message = f"{PACKAGE} {OLD_VERSION} with the tests of {NEW_VERSION}"
    git(folder, "commit", "--quiet", "--no-verify", "--message", message)
    return git(folder, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return its output.

    Parameters
    ----------
    folder : Path
        Work tree.
    *arguments : str
        Arguments after `git`.

    Returns
    -------
    str
        Standard output.

    Raises
    ------
    DemoError
        When git is missing or ends with another exit code than 0.
    """
    # Inherited variables such as GIT_DIR would lead git to another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise DemoError("git is not installed; install git 2.38 or newer.") from error
    if done.returncode != 0:
        problem = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise DemoError(f"git {arguments[0]} failed in {folder}: {problem}")
    return done.stdout
