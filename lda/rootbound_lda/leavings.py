"""Files that a run left in its artifact folder, for a backend that is on another machine."""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path
from typing import Any, Final

from .runs import RunRefused

__all__ = ["list_files", "read_part"]

MAX_PART: Final = 1 << 20
_NAME: Final = re.compile(r"[\w.+@=-][\w.+@= -]{0,254}")


def list_files(folder: Path) -> list[dict[str, Any]]:
    """Return name and size in bytes of each file directly in a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            found = [
                {"name": entry.name, "size": entry.stat(follow_symlinks=False).st_size}
                for entry in entries
                if entry.is_file(follow_symlinks=False) and _NAME.fullmatch(entry.name)
            ]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda one: str(one["name"]))


def read_part(folder: Path, name: str, start: int, length: int) -> dict[str, Any]:
    """Return a file's size and at most `length` of its bytes (1 MiB at most), base64.

    Raises
    ------
    RunRefused
        404 when there is no such plain file.
    """
    missing = RunRefused(404, "file-unknown", "There is no such file.")
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise missing
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(folder / name, flags)
    except OSError as error:
        raise missing from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise missing
        data = os.pread(descriptor, min(length, MAX_PART), start)
    finally:
        os.close(descriptor)
    return {"size": facts.st_size, "data": base64.b64encode(data).decode("ascii")}
