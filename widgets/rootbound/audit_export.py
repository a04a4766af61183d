"""What exports of the audit log to a file are made of."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx

from .errors import (
    ConnectionFailedError,
    InvalidRequestError,
    RootboundError,
    error_from_problem,
)

if TYPE_CHECKING:
    from .discovery import Endpoint

_FORMS = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
_PATH = "/api/audit/logs/"


def form_of(path: Path, form: str | None) -> str:
    """Return the form of an export, which may go by the ending of its file.

    Raises
    ------
    InvalidRequestError
        If neither says what to write.
    """
    found = form or _FORMS.get(path.suffix.lower())
    if found not in _FORMS.values():
        raise InvalidRequestError(
            f"{path.name} does not say what to write; end it in .ndjson, .jsonl or .csv, or give "
            "the form.",
            code="invalid-form",
        )
    return str(found)


def request(endpoint: Endpoint, form: str, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request, as httpx takes it."""
    return {
        "method": "GET",
        "url": endpoint.url + _PATH,
        "params": {**{name: str(value) for name, value in filters.items()}, "format": form},
        "headers": {"Accept": "*/*", **endpoint.headers},
    }


def refusal(response: httpx.Response) -> RootboundError:
    """Return the error that a refused export is."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return error_from_problem(
        response.status_code, problem if isinstance(problem, dict) else {}, what=f"GET {_PATH}"
    )


@contextlib.contextmanager
def breaks(endpoint: Endpoint) -> Iterator[None]:
    """Turn what httpx says of a broken connection into an error of ours."""
    try:
        yield
    except httpx.HTTPError as error:
        raise ConnectionFailedError(
            f"The connection to {endpoint.url} broke during the export, which is not complete: "
            f"{error or type(error).__name__}."
        ) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path`, which takes its name when all went well, and else is removed."""
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
