"""What an attempt changes: files, sizes and bounded patches between two commits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .baseline import is_test_file
from .git import Git

__all__ = ["diff", "diff_size"]

MAX_PATCH_FILES: Final = 400
MAX_PATCH_LINES: Final = 20_000
MAX_FILE_LINES: Final = 5_000
MAX_FILE_CHARS: Final = 400_000
MAX_PATH_BYTES: Final = 500_000
"""Of all paths whose patch is asked for: they are arguments of one command."""

_STATUS: Final = {"A": "added", "D": "deleted", "R": "renamed", "C": "added"}
_OPTIONS: Final = ("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames")


async def diff_size(git: Git, base: str, head: str) -> tuple[tuple[int, int, int], list[str]]:
    """Return the number of files, added and deleted lines between two commits, and the paths.

    A renamed file counts once and has two paths.
    """
    output = await git.run("diff", "--numstat", "-z", *_OPTIONS, base, head)
    rows = list(_numstat(output.stdout))
    size = len(rows), sum(row[0] or 0 for row in rows), sum(row[1] or 0 for row in rows)
    return size, [path for row in rows for path in row[2]]


async def diff(git: Git, base: str, head: str) -> dict[str, Any]:
    """Describe every changed file between two commits, with bounded patches.

    Returns
    -------
    dict
        ``base``, ``head``, ``files`` and ``stats``, as ``GET /runs/{id}/diff`` answers.
    """
    raw = await git.run("diff", "--raw", "-z", "--no-abbrev", *_OPTIONS, base, head)
    numbers = await git.run("diff", "--numstat", "-z", *_OPTIONS, base, head)
    changes = list(_changes(raw.stdout, numbers.stdout))
    shown = _within_limits(changes)
    if shown:
        # Both sides of a rename, or git would show it as a file that is new.
        paths = [os.fsdecode(path) for change in shown for path in change.paths]
        patch = await git.run(
            "--literal-pathspecs", "diff", "--patch", *_OPTIONS, base, head, "--", *paths
        )
        _attach(shown, patch.stdout.decode("utf-8", "replace"))
    files = [change.file for change in changes]
    stats = {
        "files": len(files),
        "additions": sum(file["additions"] for file in files),
        "deletions": sum(file["deletions"] for file in files),
    }
    return {"base": base, "head": head, "files": files, "stats": stats}


@dataclass(frozen=True, slots=True)
class _Change:
    """One changed file.

    Attributes
    ----------
    paths
        As git has them: the old one of a rename, and the present one.
    sections
        How many ``diff --git`` sections of a patch are about it.
    file
        What is said of it.
    """

    paths: tuple[bytes, ...]
    sections: int
    file: dict[str, Any]


def _changes(raw: bytes, numbers: bytes) -> Iterator[_Change]:
    """Join ``--raw -z`` and ``--numstat -z``, which list the same files in the same order."""
    sizes = _numstat(numbers)
    fields = iter(raw.split(b"\0"))
    for head in fields:
        if not head.startswith(b":"):
            continue
        letter = head.split(b" ")[4][:1].decode()
        first = next(fields)
        paths = (first, next(fields)) if letter in "RC" else (first,)
        added, deleted, _ = next(sizes, (None, None, []))
        path = _printable(paths[-1])
        file = {
            "path": path,
            "old_path": _printable(first) if len(paths) > 1 else None,
            "status": _STATUS.get(letter, "modified"),
            "additions": added or 0,
            "deletions": deleted or 0,
            "binary": added is None,
            "patch": "",
            "truncated": False,
            "test": is_test_file(path),
        }
        # A file that becomes a link, or the other way round, is shown deleted and made anew.
        yield _Change(paths, 2 if letter == "T" else 1, file)


def _printable(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _numstat(numbers: bytes) -> Iterator[tuple[int | None, int | None, list[str]]]:
    """Yield added and deleted lines per file, ``None`` for a binary one, and its paths."""
    fields = iter(numbers.split(b"\0"))
    for row in fields:
        if row.count(b"\t") < 2:
            continue
        added, deleted, path = row.split(b"\t", 2)
        # Of a rename, the old and the new path follow.
        paths = [path] if path else [next(fields, b""), next(fields, b"")]
        names = [name.decode("utf-8", "replace") for name in paths]
        binary = added == b"-"
        yield None if binary else int(added), None if binary else int(deleted), names


def _within_limits(changes: list[_Change]) -> list[_Change]:
    """Choose the files whose patch is shown; mark the others as cut."""
    shown: list[_Change] = []
    lines = length = 0
    for change in changes:
        size = change.file["additions"] + change.file["deletions"]
        lines += size
        length += sum(len(path) + 1 for path in change.paths)
        fits = size <= MAX_FILE_LINES and lines <= MAX_PATCH_LINES and length <= MAX_PATH_BYTES
        if fits and len(shown) < MAX_PATCH_FILES:
            shown.append(change)
        else:
            change.file["truncated"] = True
    return shown


def _attach(shown: list[_Change], patch: str) -> None:
    """Give each file its part of a patch; none gets one when the two do not fit each other."""
    sections = [part for part in re.split(r"(?m)^(?=diff --git )", patch) if part]
    fitting = len(sections) == sum(change.sections for change in shown)
    rest = iter(sections)
    for change in shown:
        text = "".join(next(rest, "") for _ in range(change.sections)) if fitting else ""
        change.file["patch"] = text[:MAX_FILE_CHARS]
        change.file["truncated"] = len(text) > MAX_FILE_CHARS or not fitting
