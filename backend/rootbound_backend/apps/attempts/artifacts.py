"""Files that a run left in its folder of the state folder: lists, and ranges of bytes."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import stat
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from django.conf import settings
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.renderers import BaseRenderer

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.lda_client import LdaRefusedError, is_outward, lda_request
from rootbound_backend.problems import Problem, not_found

__all__ = [
    "AnyRenderer",
    "artifact_response",
    "artifacts_dir",
    "end_of_artifact",
    "list_artifacts",
]

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
    """Return the folder of an attempt's files where they are on this machine."""
    return Path(settings.HOME) / "artifacts" / str(attempt_id)


def list_artifacts(attempt: Attempt) -> list[dict[str, Any]]:
    """Return name and size in bytes of each of an attempt's files, by name.

    Raises
    ------
    Problem
        503 when they are on a user's machine whose LDA does not answer.
    """
    if is_outward():
        answer = lda_request("GET", f"/runs/{attempt.pk}/files", **place_of(attempt))
        return list(answer["files"])
    try:
        with os.scandir(artifacts_dir(attempt.pk)) as entries:
            found = [
                {"name": entry.name, "size": entry.stat(follow_symlinks=False).st_size}
                for entry in entries
                if entry.is_file(follow_symlinks=False) and _NAME.fullmatch(entry.name)
            ]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda one: str(one["name"]))


def end_of_artifact(attempt: Attempt, name: str, max_bytes: int) -> bytes:
    """Return the last bytes of a file, b"" when it is gone or its machine does not answer."""
    try:
        with closing(_opened(attempt, name)) as file:
            return file.read(max(0, file.size - max_bytes), max_bytes)
    except Problem:
        return b""


def artifact_response(attempt: Attempt, name: str, wanted: str) -> HttpResponseBase:
    """Return a file or a part of it.

    Parameters
    ----------
    attempt
        The attempt, which the caller has authorised.
    name
        Name of a file directly in the attempt's folder.
    wanted
        The ``Range`` header, "" for the whole; anything but one range of bytes means the whole.

    Raises
    ------
    Problem
        404 when there is no such file; 416 for a range outside of it; 503 as for
        :func:`list_artifacts`.
    """
    file = _opened(attempt, name)
    try:
        bounds = _bounds(wanted, file.size)
        start, end = bounds or (0, file.size)
        response = StreamingHttpResponse(
            _Chunks(file, start, end),
            status=206 if bounds else 200,
            content_type="application/octet-stream",
        )
    except BaseException:
        file.close()
        raise
    response["Accept-Ranges"] = "bytes"
    response["Content-Length"] = str(end - start)
    # The content is what some command wrote, so no browser may take it for a page.
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    if bounds:
        response["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    return response


class _File(Protocol):
    """An artifact, wherever it lies."""

    size: int

    def read(self, start: int, length: int) -> bytes:
        """Return at most so many bytes from `start`."""

    def close(self) -> None:
        """Let it go; may be called again."""


class _LocalFile:
    """A plain file of the attempt's own folder on this machine."""

    def __init__(self, attempt_id: uuid.UUID, name: str) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._descriptor = os.open(artifacts_dir(attempt_id) / name, flags)
        except OSError as error:
            raise not_found("file") from error
        facts = os.fstat(self._descriptor)
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise not_found("file")
        self.size = facts.st_size

    def read(self, start: int, length: int) -> bytes:
        """Return at most so many bytes from `start`."""
        return os.pread(self._descriptor, length, start)

    def close(self) -> None:
        """Close it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _RemoteFile:
    """A file on a user's machine, read through its LDA."""

    def __init__(self, attempt: Attempt, name: str) -> None:
        self._attempt, self._name = attempt, name
        self.size = int(self._part(0, 0)["size"])

    def _part(self, start: int, length: int) -> Any:
        target = f"/runs/{self._attempt.pk}/files/{quote(self._name)}"
        try:
            return lda_request(
                "GET", f"{target}?start={start}&length={length}", **place_of(self._attempt)
            )
        except LdaRefusedError as error:
            raise not_found("file") from error

    def read(self, start: int, length: int) -> bytes:
        """Return at most so many bytes from `start`."""
        return base64.b64decode(self._part(start, length)["data"])

    def close(self) -> None:
        """Nothing is held."""


def _opened(attempt: Attempt, name: str) -> _File:
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise not_found("file")
    return _RemoteFile(attempt, name) if is_outward() else _LocalFile(attempt.pk, name)


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

    def __init__(self, file: _File, start: int, end: int) -> None:
        self._file = file
        self._position = start
        self._end = end

    def _read(self) -> bytes:
        if self._position >= self._end:
            return b""
        data = self._file.read(self._position, min(CHUNK, self._end - self._position))
        self._position += len(data)
        # Nothing: it was shortened meanwhile, and the client sees that bytes are missing.
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
        self._file.close()

    def __del__(self) -> None:
        self.close()
