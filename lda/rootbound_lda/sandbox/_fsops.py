"""Small file operations on pinned folders."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Kind = Literal["file", "folder", "link", "other"]

_TEMP_PREFIX = b".rootbound-"


@dataclass(frozen=True)
class FileInfo:
    """What is known of a path without reading it.

    Parameters
    ----------
    path
        Absolute path.
    kind
        What it is; links are not followed.
    size
        Length in bytes.
    mode
        Permission bits.
    modified
        When its content changed last.
    """

    path: Path
    kind: Kind
    size: int
    mode: int
    modified: datetime


def info_of(path: Path, facts: os.stat_result) -> FileInfo:
    kind: Kind = "other"
    if stat.S_ISREG(facts.st_mode):
        kind = "file"
    elif stat.S_ISDIR(facts.st_mode):
        kind = "folder"
    elif stat.S_ISLNK(facts.st_mode):
        kind = "link"
    return FileInfo(
        path, kind, facts.st_size, stat.S_IMODE(facts.st_mode),
        datetime.fromtimestamp(facts.st_mtime, UTC),
    )  # fmt: skip


def mode_of(folder: int, last: bytes, absolute: Path) -> int | None:
    """Return the permission bits of an existing regular file, None if there is none."""
    try:
        facts = os.stat(last, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(absolute))
    return stat.S_IMODE(facts.st_mode) & 0o777 if stat.S_ISREG(facts.st_mode) else None


def replace(folder: int, last: bytes, data: bytes, mode: int) -> None:
    temporary = _TEMP_PREFIX + secrets.token_hex(8).encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
        os.rename(temporary, last, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def list_folder(fd: int, path: Path) -> list[FileInfo]:
    found = []
    with os.scandir(fd) as entries:
        for entry in entries:
            # It may have gone meanwhile.
            with suppress(FileNotFoundError):
                found.append(info_of(path / entry.name, entry.stat(follow_symlinks=False)))
    return sorted(found, key=lambda info: info.path.name)


def current_umask() -> int:
    # Reading it by umask(2) would change it for the other threads for a moment.
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o022
