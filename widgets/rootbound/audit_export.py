"""Exports of the audit log to a file, streamed."""

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
    from .aio import AsyncClient
    from .client import Client
    from .discovery import Endpoint

_FORMS = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}
_PATH = "/api/audit/logs/"


def export(client: Client, path: Path, form: str | None, filters: Mapping[str, Any]) -> Path:
    """Write an export to a file; see `AuditQuery.export`."""
    form = _form(path, form)
    http: httpx.Client = client._transport._http
    for is_last in (False, True):
        request = _request(client.endpoint, form, filters)
        with _errors(client.endpoint), http.stream(**request) as response:
            if response.status_code == 401 and not is_last and client.endpoint.refresh():
                continue
            if response.status_code >= 300:
                response.read()
                raise _refusal(response)
            with whole_file(path) as file:
                for block in response.iter_bytes():
                    file.write(block)
        break
    return path


async def async_export(
    client: AsyncClient, path: Path, form: str | None, filters: Mapping[str, Any]
) -> Path:
    """As `export`, awaited."""
    form = _form(path, form)
    http: httpx.AsyncClient = client._transport._http
    for is_last in (False, True):
        request = _request(client.endpoint, form, filters)
        with _errors(client.endpoint):
            async with http.stream(**request) as response:
                if response.status_code == 401 and not is_last and client.endpoint.refresh():
                    continue
                if response.status_code >= 300:
                    await response.aread()
                    raise _refusal(response)
                with whole_file(path) as file:
                    async for block in response.aiter_bytes():
                        file.write(block)
        break
    return path


def _form(path: Path, form: str | None) -> str:
    found = form or _FORMS.get(path.suffix.lower())
    if found not in _FORMS.values():
        raise InvalidRequestError(
            f"{path.name} does not say what to write; end it in .ndjson, .jsonl or .csv, or give "
            "the form.",
            code="invalid-form",
        )
    return str(found)


def _request(endpoint: Endpoint, form: str, filters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": "GET",
        "url": endpoint.url + _PATH,
        "params": {**{name: str(value) for name, value in filters.items()}, "format": form},
        "headers": {"Accept": "*/*", **endpoint.headers},
    }


def _refusal(response: httpx.Response) -> RootboundError:
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return error_from_problem(
        response.status_code, problem if isinstance(problem, dict) else {}, what=f"GET {_PATH}"
    )


@contextlib.contextmanager
def _errors(endpoint: Endpoint) -> Iterator[None]:
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
