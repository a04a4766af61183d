"""The HTTP operations, each defined once; both clients execute them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Generic, TypeVar

from . import models
from .errors import InvalidRequestError, ServerError

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)
JSON = dict[str, Any]

_PART = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One HTTP request and how to read its answer.

    Parameters
    ----------
    method, path : str
        What to ask; the path begins with a slash and has no query.
    parse : callable
        Turns the decoded JSON into the result.
    params : Mapping, optional
        Query parameters; None values are left out.
    body : Any, default None
        JSON to send; None sends no body.
    key : str or None
        The Idempotency-Key that makes a write safe to repeat.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does the same as once."""
        return self.method in ("GET", "DELETE") or self.key is not None

    @property
    def query(self) -> dict[str, str]:
        """The parameters as the URL carries them."""
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in self.params.items()
            if value is not None
        }


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list and the cursor of the next (None on the last)."""

    items: list[T]
    next: str | None


def path(*parts: object) -> str:
    """Return ``/api/a/b/``.

    Raises
    ------
    InvalidRequestError
        If a part could change the route, such as ``"../me"``.
    """
    for part in parts:
        if not _PART.fullmatch(str(part)):
            raise InvalidRequestError(f"{part!r} is not an id.", code="invalid-id")
    return f"/api/{'/'.join(str(part) for part in parts)}/"


def read(cls: type[M], client: Any, *parts: object, **params: Any) -> Operation[M]:
    """Return the operation that gets one object."""
    return Operation("GET", path(*parts), lambda raw: cls.from_json(raw, client), params)


def write(
    cls: type[M], client: Any, method: str, *parts: object, body: JSON | None = None
) -> Operation[M]:
    """Return the operation that makes or changes one object, safe to repeat."""
    return Operation(
        method,
        path(*parts),
        lambda raw: cls.from_json(raw, client),
        body={} if body is None else body,
        key=uuid.uuid4().hex,
    )


def delete(*parts: object) -> Operation[None]:
    """Return the operation that removes one object."""
    return Operation("DELETE", path(*parts), lambda _raw: None)


def page(cls: type[M], client: Any, *parts: object, **params: Any) -> Operation[Page[M]]:
    """Return the operation that gets one page of a list."""

    def parse(raw: Any) -> Page[M]:
        rows, cursor = split_page(raw)
        return Page([cls.from_json(row, client) for row in rows], cursor)

    return Operation("GET", path(*parts), parse, params)


def split_page(raw: Any) -> tuple[list[Any], str | None]:
    """Return the rows and the next cursor of a list answer.

    Raises
    ------
    ServerError
        If the answer is not ``{"results": [...], "next": ...}``.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("results"), list):
        raise ServerError("The server sent something else than a list.")
    cursor = raw.get("next")
    return raw["results"], None if cursor is None else str(cursor)


def events(attempt_id: str, *, after: int, limit: int) -> Operation[list[models.Event]]:
    """Return the operation that gets stored events, oldest first."""
    return Operation(
        "GET",
        path("attempts", attempt_id, "events"),
        lambda raw: [models.Event.from_json(row) for row in split_page(raw)[0]],
        {"after": after, "limit": limit},
    )


def event_page(attempt_id: str, **params: Any) -> Operation[dict[str, Any]]:
    """Return the operation that gets a page of events as the server sends it.

    Parameters
    ----------
    attempt_id : str
        The attempt.
    **params
        ``after``, ``before``, ``limit``, ``type``, ``tail`` and ``q`` of the API; None is left out.
    """

    def parse(raw: Any) -> dict[str, Any]:
        rows, _ = split_page(raw)
        return {**raw, "results": [models.Event.from_json(row) for row in rows]}

    return Operation("GET", path("attempts", attempt_id, "events"), parse, without_none(**params))


def notebook_bytes(raw: Any) -> bytes:
    """Return a notebook's JSON as the bytes of a file.

    Raises
    ------
    ServerError
        If it is no object.
    """
    if not isinstance(raw, dict):
        raise ServerError("The server sent something else than a notebook.")
    return json.dumps(raw, ensure_ascii=False, indent=1).encode()


def gates(attempt_id: str) -> Operation[models.Gates]:
    """Return the operation that gets an attempt's gates."""
    return Operation("GET", path("attempts", attempt_id, "gates"), models.Gates.from_json)


def without_none(**values: Any) -> JSON:
    """Return the given values as a JSON object without the ones that are None."""
    return {name: value for name, value in values.items() if value is not None}


def absolute(value: str | PathLike[str]) -> str:
    """Return a path as the server wants it: absolute, `~` expanded, links left alone."""
    return str(Path(value).expanduser().absolute())


def project_body(
    name: str,
    repo_path: str | PathLike[str],
    config: Mapping[str, Any] | None,
    commands: Mapping[str, str | None],
) -> JSON:
    """Return the JSON of a new project; commands given by name win over `config`."""
    return {
        "name": name,
        "repo_path": absolute(repo_path),
        "config": {**(config or {}), **without_none(**commands)},
    }


def task_body(
    title: str,
    description: str,
    role: str,
    priority: int,
    dependencies: Sequence[models.BaseTask | str],
    auto_start: bool | None,
) -> JSON:
    """Return the JSON of a new task; dependencies may be tasks or ids."""
    return without_none(
        title=title,
        description=description,
        agent_role=role,
        priority=priority,
        dependencies=[item if isinstance(item, str) else item.id for item in dependencies],
        auto_start=auto_start,
    )


def start_body(
    reference_paths: Sequence[str | PathLike[str]] | None,
    agent_id: str | None,
    version: int | None,
) -> JSON:
    """Return the JSON that starts an attempt."""
    paths = None if reference_paths is None else [absolute(item) for item in reference_paths]
    return without_none(reference_paths=paths, agent_id=agent_id, version=version)
