"""Running the project's own tests, apart from Rootbound, to see what really holds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from rootbound.demo.errors import DemoError
from rootbound.demo.releases import git, unpack_archive

_TIMEOUT = 600  # seconds
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|xfailed|xpassed|skipped)\b")
# Python and pytest settings of the caller must not decide how the project's tests go.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class TestCounts:
    """What pytest counted.

    Parameters
    ----------
    passed, failed, errors : int
        Numbers from pytest's last line.
    line : str
        That line, for people.
    """

    __test__ = False  # not a test class for pytest

    passed: int
    failed: int
    errors: int
    line: str


def parse_counts(output: str) -> TestCounts:
    """Read pytest's last line.

    Parameters
    ----------
    output : str
        Everything pytest printed.

    Returns
    -------
    TestCounts
        The counts.

    Raises
    ------
    DemoError
        When there is no such line.
    """
    for line in reversed(output.splitlines()):
        found = {name.rstrip("s"): int(count) for count, name in _COUNT.findall(line)}
        if found and " in " in line:
            return TestCounts(
                found.get("passed", 0),
                found.get("failed", 0),
                found.get("error", 0),
                line.strip(" ="),
            )
    last = (output.strip().splitlines() or ["nothing"])[-1]
    raise DemoError(f"The project's tests could not be run; the last line was: {last}")


class Checker:
    """A virtual environment with pytest in which committed trees are tested.

    Parameters
    ----------
    folder : Path
        Where the environment and the exported trees go; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = folder / "venv" / "bin" / "python"

    def prepare(self) -> None:
        """Make the environment.

        Raises
        ------
        DemoError
            When venv or pip fails.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        # Unpacking a pip into the environment would take longer than all else: this one's serves.
        venv = [sys.executable, "-m", "venv", "--without-pip", str(self._folder / "venv")]
        self._run(venv, "venv")
        pip = [sys.executable, "-m", "pip", "--python", str(self._python), "install", "--quiet"]
        self._run([*pip, "--no-input", "--disable-pip-version-check", "pytest"], "pip")

    def test(self, repository: Path, ref: str) -> TestCounts:
        """Export a commit and run its tests.

        Parameters
        ----------
        repository : Path
            A git repository.
        ref : str
            Branch or commit.

        Returns
        -------
        TestCounts
            What pytest counted; failures are counts, not errors.

        Raises
        ------
        DemoError
            When pytest could not run.
        """
        tree = self._folder / "tree"
        archive = self._folder / "tree.tar"
        if tree.exists():
            shutil.rmtree(tree)
        tree.mkdir()
        git(repository, "archive", "--format=tar", f"--output={archive}", ref)
        with tarfile.open(archive) as tar:
            unpack_archive(tar, tree)
        archive.unlink()
        command = [str(self._python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        return parse_counts(self._run(command, "pytest", cwd=tree, accepted=(0, 1)))

    def remove(self) -> None:
        """Delete the environment and the exported tree."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(
        self,
        command: list[str],
        name: str,
        *,
        cwd: Path | None = None,
        accepted: tuple[int, ...] = (0,),
    ) -> str:
        env = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        try:
            done = subprocess.run(
                command,
                cwd=cwd or self._folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"{name} did not finish within {_TIMEOUT} seconds.") from error
        if done.returncode not in accepted:
            last = (done.stdout.strip().splitlines() or ["it said nothing"])[-1]
            raise DemoError(f"{name} ended with exit code {done.returncode}: {last}")
        return done.stdout
