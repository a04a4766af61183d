"""Files that a run left in its folder of the state folder: lists, and ranges of bytes."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.renderers import BaseRenderer

from rootbound_backend.problems import Problem, not_found

__all__ = ["AnyRenderer", "artifact_response", "artifacts_dir", "list_artifacts"]

CHUNK = 256 * 1024
_NAME = re.compile(r"[\w.+@=-][\w.+@= -]{0,254}")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class AnyRenderer(BaseRenderer):
    """Lets any ``Accept`` through; problems are still JSON."""

    media_type = "*/*"
    format = "bin"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        """Encode a problem."""
        return msgspec.json.encode(data)


def artifacts_dir(attempt_id: uuid.UUID) -> Path:
    """Return the folder of an attempt's files, which need not exist."""
    return Path(settings.HOME) / "artifacts" / str(attempt_id)


def list_artifacts(attempt_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return name and size in bytes of each of an attempt's files, by name."""
    try:
        with os.scandir(artifacts_dir(attempt_id)) as entries:
            found = [
                {"name": entry.name, "size": entry.stat(follow_symlinks=False).st_size}
                for entry in entries
                if entry.is_file(follow_symlinks=False) and _NAME.fullmatch(entry.name)
            ]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda one: str(one["name"]))


def artifact_response(attempt_id: uuid.UUID, name: str, wanted: str) -> HttpResponseBase:
    """Return a file or a part of it.

    Parameters
    ----------
    attempt_id
        The attempt, which the caller has authorised.
    name
        Name of a file directly in the attempt's folder.
    wanted
        The ``Range`` header, "" for the whole; anything but one range of bytes means the whole.

    Raises
    ------
    Problem
        404 when there is no such file; 416 for a range outside of it.
    """
    descriptor = _open(attempt_id, name)
    try:
        size = os.fstat(descriptor).st_size
        bounds = _bounds(wanted, size)
        start, end = bounds or (0, size)
        response = StreamingHttpResponse(
            _Chunks(descriptor, start, end),
            status=206 if bounds else 200,
            content_type="application/octet-stream",
        )
    except BaseException:
        os.close(descriptor)
        raise
    response["Accept-Ranges"] = "bytes"
    response["Content-Length"] = str(end - start)
    # The content is what some command wrote, so no browser may take it for a page.
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    if bounds:
        response["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return response


def _open(attempt_id: uuid.UUID, name: str) -> int:
    """Open a plain file of the attempt's own folder for reading."""
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise not_found("file")
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(artifacts_dir(attempt_id) / name, flags)
    except OSError as error:
        raise not_found("file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_found("file")
    return descriptor


def _bounds(wanted: str, size: int) -> tuple[int, int] | None:
    """Return start and end (exclusive) of the one range that is asked for, or None."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start, last = int(match[1]), int(match[2]) if match[2] else size - 1
        if match[2] and last < start:
            return None
    else:
        start, last = max(0, size - int(match[2])), size - 1
    if start >= size or (not match[1] and int(match[2]) == 0):
        raise Problem(
            status=416,
            code="range-outside",
            detail=f"The file has {size} bytes; ask for a range within it.",
            extras={"size": size},
        )
    return start, min(last + 1, size)


class _Chunks:
    """The bytes of a part of a file; closes the file at the end.

    Asynchronous, because Django on ASGI reads a plain iterator to its end before it sends anything.
    """

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._position = start
        self._end = end
        self._is_open = True

    def _read(self) -> bytes:
        if not self._is_open or self._position >= self._end:
            self.close()
            return b""
        data = os.pread(self._descriptor, min(CHUNK, self._end - self._position), self._position)
        self._position += len(data)
        if not data:
            # Shortened meanwhile: the client sees that bytes are missing.
            self.close()
        return data

    async def _all(self) -> AsyncIterator[bytes]:
        try:
            while data := await asyncio.to_thread(self._read):
                yield data
        finally:
            self.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._all()

    def close(self) -> None:
        """Close the file."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)

    def __del__(self) -> None:
        self.close()
