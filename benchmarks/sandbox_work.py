"""The workloads of the sandbox benchmark: what each of them runs, and what it leaves behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FILES = 8_000
TESTS = 200
OPENS = 4_000

_MICRO = """
import os, sys, time
kind, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
flags = os.O_RDONLY if kind == "read" else os.O_WRONLY
opened, close, clock = os.open, os.close, time.perf_counter
start = clock()
for _ in range(count):
    close(opened(path, flags))
print((clock() - start) / count * 1e6)
"""
_CPU = """
import hashlib, time
start = time.perf_counter()
value = b""
for index in range(120):
    value = hashlib.pbkdf2_hmac("sha256", b"x", value, 4000)
    sum(i * i for i in range(20_000))
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Work:
    """One workload.

    Parameters
    ----------
    name
        Its row of the table.
    unit
        ``"ms"``, ``"s"`` or ``"us"``.
    argv
        What runs, with the working folder as current one.
    printed
        Whether the figure is what the program prints; otherwise it is the wall time.
    leaves
        Folders that it makes and that are removed afterwards, outside the measured time.
    needs
        Makes the files it works on, in the working folder.
    fresh
        Whether the command is the first of a run, so that what a run has of its own is made.
    """

    name: str
    unit: str
    argv: tuple[str, ...]
    printed: bool = False
    leaves: tuple[Path, ...] = ()
    needs: Callable[[Path], object] | None = None
    fresh: bool = False

    def clear(self) -> None:
        for folder in self.leaves:
            shutil.rmtree(folder, ignore_errors=True)


def prepare(tree: Path, scratch: Path, python: str, only: str = "") -> list[Work]:
    """Make the files that the workloads need and return these.

    Parameters
    ----------
    tree
        The working folder of the run.
    scratch
        Its folder for temporary files, where `.git` folders may be made.
    python
        An interpreter with pytest.
    only
        Leave out workloads whose name holds none of these words, with commas between them.
    """
    (tree / "one").write_text("x")
    bare = str(Path(sys.executable).resolve())
    micro = (bare, "-I", "-S", "-c", _MICRO)
    git = ("git", "-c", "safe.directory=*", "clone", "-q")
    tests = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suite")
    source, archive = tree / "source.bare", tree / "files.tar"
    works = [
        Work("start of a command", "ms", ("/bin/true",)),
        Work("first command of a run", "ms", ("/bin/true",), fresh=True),
        Work(f"pytest, {TESTS} tests", "s", tests, needs=_suite),
        Work(f"git clone, {FILES:,} files", "s", (*git, str(source), str(scratch / "clone")),
             leaves=(scratch / "clone",), needs=_repository),
        Work(f"untar, {FILES:,} files", "s", ("tar", "-xf", str(archive), "-C", str(tree / "out")),
             leaves=(tree / "out" / "files",), needs=_archive),
        Work("open for reading", "us", (*micro, "read", "one", str(OPENS)), printed=True),
        Work("open for writing", "us", (*micro, "write", "one", str(OPENS)), printed=True),
        Work("CPU-bound", "s", (bare, "-I", "-S", "-c", _CPU), printed=True),
    ]  # fmt: skip
    works = [work for work in works if any(word in work.name for word in only.split(","))]
    for work in works:
        if work.needs is not None:
            work.needs(tree)
    return works


def _tree_of_files(folder: Path) -> None:
    for index in range(FILES):
        place = folder / f"d{index // 100:02}" / f"file{index}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"content of file {index}\n" * 8)


def _repository(tree: Path) -> Path:
    source, target = tree / "source", tree / "source.bare"
    _tree_of_files(source)
    call: Callable[..., object] = lambda *argv: subprocess.run(  # noqa: E731
        [
            "git",
            "-c",
            "user.name=b",
            "-c",
            "user.email=b@example.org",
            "-c",
            "gc.auto=0",
            "-c",
            "maintenance.auto=false",
            *argv,
        ],
        check=True,
        cwd=tree,
    )
    call("init", "-q", "source")
    call("-C", "source", "add", ".")
    call("-C", "source", "commit", "-qm", "all")
    call("-C", "source", "gc", "-q")
    call("clone", "-q", "--bare", "source", target.name)
    shutil.rmtree(source)
    return target


def _archive(tree: Path) -> Path:
    _tree_of_files(tree / "files")
    with tarfile.open(tree / "files.tar", "w") as archive:
        archive.add(tree / "files", "files")
    shutil.rmtree(tree / "files")
    (tree / "out").mkdir()
    return tree / "files.tar"


def _suite(tree: Path) -> None:
    folder = tree / "suite"
    folder.mkdir()
    for index in range(20):
        tests = "".join(
            f"def test_{number}(tmp_path):\n"
            f"    (tmp_path / 'a').write_text('{number}')\n"
            f"    assert int((tmp_path / 'a').read_text()) == {number}\n\n"
            for number in range(TESTS // 20)
        )
        (folder / f"test_part{index}.py").write_text(tests)
