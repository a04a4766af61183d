"""Attacks run in worker processes: as the tests' own user and, for root, as an ordinary one too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.security.attack_model import SECRET

ROOT = Path(__file__).resolve().parents[2]
UID = 65534
PATIENCE_S = 280
IS_ROOT = os.geteuid() == 0
BOOT = (
    "import sys; sys.path[:0] = sys.argv[1:]; from tests.security.attack_worker import main; main()"
)
# Root's interpreter, and this very clone, may lie where nobody else can go. A mount namespace of
# its own shows them to the worker where everybody can enter; nobody's permissions are changed.
IN_NAMESPACE = """
set -eu
mkdir "$1/python"
mount --bind "$2" "$1/python"
if [ -n "$3" ]; then
    mount -t tmpfs -o mode=755 tmpfs "$3"
    mkdir -p "$2"
    mount --bind "$1/python" "$2"
fi
uid="$4"
shift 4
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
"""
SHOWN = """
set -eu
mkdir "$1/code" "$1/packages"
mount --bind "$2" "$1/code"
mount --bind "$3" "$1/packages"
shift 3
exec "$@"
"""


def _hidden(path: str) -> str:
    """Return the outermost folder above a path that others cannot enter."""
    hidden = [one for one in Path(path).parents if not one.stat().st_mode & 0o001]
    return str(hidden[-1]) if hidden else ""


PACKAGES = Path(msgspec.__file__).parents[1]


def _code(folder: Path | None) -> list[str]:
    """Return where the tests, the LDA's code and what it imports are, or are shown in a folder."""
    code, packages = (ROOT, PACKAGES) if folder is None else (folder / "code", folder / "packages")
    return [str(code), str(code / "lda"), str(packages)]


@dataclass
class Worker:
    """One process that runs attacks, and what it found."""

    who: str
    python: bool = False
    results: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    folder: Path | None = None
    _taken: int = 0

    def start(self, cases: list[tuple[str, str]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rb-attacks-"))
        self.folder.chmod(0o755)
        work = self.folder / "work"
        work.mkdir()
        python = os.path.realpath(sys.executable)
        other = self.who == "user" and IS_ROOT
        command = [python, "-I", "-S", "-c", BOOT, *_code(self.folder if other else None)]
        if other:
            os.chown(work, UID, UID)
            prefix = str(Path(python).parents[1])
            places = (str(self.folder), prefix, _hidden(prefix + "/x"), str(UID))
            shown = ["sh", "-c", SHOWN, "sh", str(self.folder), str(ROOT), str(PACKAGES)]
            command = [
                "unshare", "--mount", *shown, "sh", "-c", IN_NAMESPACE, "sh", *places, *command,
            ]  # fmt: skip
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(work),
            "LANG": "C.UTF-8",
            "ROOTBOUND_TEST_SECRET": SECRET,
            **({"ROOTBOUND_SUPERVISOR": "python"} if self.python else {}),
        }
        job = {"cases": cases, "folder": str(work)}
        with tempfile.TemporaryFile("w+") as given:
            given.write(json.dumps(job))
            given.seek(0)
            self.process = subprocess.Popen(
                command, stdin=given, stdout=(self.folder / "out").open("w"),
                stderr=(self.folder / "err").open("w"), text=True, env=env, cwd="/",
            )  # fmt: skip

    def result(self, name: str, way: str) -> dict[str, Any]:
        """Return what was seen of an attack; waits until it was tried."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_S
        while (name, way) not in self.results:
            ended = self.process.poll() is not None
            self._read()
            if (name, way) not in self.results:
                assert not ended, f"the worker ended: {(self._place / 'err').read_text()}"
                assert time.monotonic() < deadline, f"{name} was not tried in {PATIENCE_S} s"
                time.sleep(0.02)
        found = self.results[name, way]
        assert "error" not in found, found["error"]
        return found

    @property
    def _place(self) -> Path:
        assert self.folder is not None
        return self.folder

    def _read(self) -> None:
        """Take the lines that are whole."""
        with (self._place / "out").open() as file:
            file.seek(self._taken)
            while (line := file.readline()).endswith("\n"):
                self._taken = file.tell()
                found = json.loads(line)
                self.results[found.pop("name"), found.pop("way")] = found

    def stop(self) -> None:
        """End it if it still runs, and clear up."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def workers(request: pytest.FixtureRequest) -> Iterator[dict[str, Worker]]:
    """Workers by name, each at work on the attacks that are among the tests of the file."""
    wanted: dict[str, set[tuple[str, str]]] = {}
    for item in request.session.items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        # An empty list of cases is a test too, with nothing in its parameters.
        if item.path == request.path and isinstance(parameters.get("worker"), str):
            case = (parameters["attack"].name, parameters["way"])
            wanted.setdefault(parameters["worker"], set()).add(case)
    started = {}
    for name, cases in wanted.items():
        # Root's attacks have no worker where there is no root.
        if name.startswith("root") and not IS_ROOT:
            continue
        started[name] = Worker(name.removesuffix("-python"), python=name.endswith("-python"))
        started[name].start(sorted(cases))
    yield started
    for worker in started.values():
        worker.stop()
