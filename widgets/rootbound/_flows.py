"""Longer conversations with the server, written once for both clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

from . import _operations as ops
from . import models
from ._transport import Flow, Pause, call
from .discovery import Endpoint
from .errors import (
    ConnectionFailedError,
    DecompositionFailedError,
    DetachedInterrupt,
    NotFoundError,
    ServerError,
    WaitTimeoutError,
)
from .tables import Listing

A = TypeVar("A", bound=models.BaseAttempt)
D = TypeVar("D", bound=models.BaseDecomposition)
M = TypeVar("M", bound=models.Model)
P = TypeVar("P", bound=models.BaseProject)
T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a server that is away is waited for while something is being watched."""

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 2.0


class Pages(Generic[M]):
    """Where one is in a list that comes in pages; it performs no I/O."""

    def __init__(self, cls: type[M], client: Any, *parts: object, **params: Any) -> None:
        self._ask = partial(ops.page, cls, client, *parts, **params)
        self._cursor: str | None = None
        self.more = True

    def next(self) -> ops.Operation[ops.Page[M]]:
        """Return the request for the next page."""
        return self._ask(cursor=self._cursor)

    def take(self, page: ops.Page[M]) -> list[M]:
        """Take a page, return its items."""
        if page.next is not None and page.next == self._cursor:
            raise ServerError("The server sent the same page twice; the list cannot be read.")
        self._cursor, self.more = page.next, page.next is not None
        return page.items


def all_pages(
    endpoint: Endpoint, cls: type[M], client: Any, *parts: object, **params: Any
) -> Flow[Listing[M]]:
    """Return every item of a list, following the cursors."""
    items: Listing[M] = Listing(cls)
    pages = Pages(cls, client, *parts, **params)
    while pages.more:
        items += pages.take((yield from call(endpoint, pages.next())))
    return items


def find_project(endpoint: Endpoint, cls: type[P], client: Any, wanted: str | None) -> Flow[P]:
    """Return the project with an id or a name; for None the one made last."""
    projects = yield from all_pages(endpoint, cls, client, "projects")
    if not projects:
        raise NotFoundError(
            "There is no project yet; run `make demo`, or use client.projects.create()."
        )
    if wanted is None:
        return max(projects, key=lambda item: str(item.raw.get("created_at") or ""))
    found = [item for item in projects if wanted in (item.id, item.name)]
    if len(found) != 1:
        known = ", ".join(repr(item.name) for item in projects)
        how = f"{len(found)} projects are" if found else "No project is"
        raise NotFoundError(f"{how} called {wanted!r}; there are: {known}.")
    return found[0]


def _poll(
    endpoint: Endpoint,
    operation: Callable[[], ops.Operation[T]],
    is_done: Callable[[T], bool],
    timeout: float | None,
    what: str,
) -> Flow[T]:
    """Ask again and again, ever slower, until `is_done`; outlast a restart of the server."""
    deadline = None if timeout is None else time.monotonic() + timeout
    away_since: float | None = None
    pause = _FIRST_PAUSE_S
    is_known = False
    while True:
        try:
            state = yield from call(endpoint, operation())
            away_since, is_known = None, True
            if is_done(state):
                return state
        except ConnectionFailedError:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_S:
                raise
        except NotFoundError as error:
            if not is_known:
                raise
            gone = f"{what} was deleted while it was waited for, perhaps with its project."
            raise NotFoundError(gone, code=error.code, status=404) from error
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise WaitTimeoutError(f"{what} did not finish within {timeout:g} s; it goes on.")
        yield Pause(pause if left is None else min(pause, left))
        pause = min(pause * 1.3, _LONGEST_PAUSE_S)


def wait_attempt(
    endpoint: Endpoint, attempt: A, timeout: float | None, report: Callable[[A], None]
) -> Flow[A]:
    """Wait until an attempt is neither queued nor at work."""
    cls, client = type(attempt), attempt._client

    def is_done(state: A) -> bool:
        report(state)
        return not state.is_live

    return _poll(
        endpoint,
        lambda: ops.read(cls, client, "attempts", attempt.id),
        is_done,
        timeout,
        f"Attempt {attempt.number}",
    )


def make_plan(
    endpoint: Endpoint,
    cls: type[D],
    client: Any,
    project_id: str,
    body: dict[str, Any],
    *,
    wait: bool,
    timeout: float | None,
) -> Flow[D]:
    """Ask the PM agent for a plan and, when asked to, wait for it."""
    made = yield from call(
        endpoint,
        ops.write(cls, client, "POST", "projects", project_id, "decompositions", body=body),
    )
    if not wait:
        return made
    auto_approve = bool(body.get("auto_approve"))
    plan = yield from wait_plan(endpoint, made, auto_approve=auto_approve, timeout=timeout)
    return plan


def wait_plan(endpoint: Endpoint, plan: D, *, auto_approve: bool, timeout: float | None) -> Flow[D]:
    """Wait for a plan that was asked for."""
    cls, client = type(plan), plan._client
    # With automatic approval, READY is only a moment on the way to APPROVED.
    done = {"APPROVED", "FAILED"} if auto_approve else {"READY", "APPROVED", "FAILED"}
    ready = yield from _poll(
        endpoint,
        lambda: ops.read(cls, client, "decompositions", plan.id),
        lambda state: state.status in done,
        timeout,
        "The plan",
    )
    if ready.status == "FAILED":
        reason = ready.failure_message or "The PM agent produced no usable plan."
        raise DecompositionFailedError(reason, code=ready.failure, problem=ready.raw)
    return ready


def patiently(flow: Callable[[], Flow[T]]) -> Flow[T]:
    """Do something that may be repeated; outlast a restart of the server."""
    away_since = time.monotonic()
    while True:
        try:
            return (yield from flow())
        except (ConnectionFailedError, ServerError):
            if time.monotonic() - away_since > PATIENCE_S:
                raise
        yield Pause(_LONGEST_PAUSE_S)


@contextmanager
def detaching(sentence: str) -> Iterator[None]:
    """Turn Ctrl-C into `DetachedInterrupt`, which says that the work itself goes on."""
    try:
        yield
    except DetachedInterrupt:
        raise
    except KeyboardInterrupt:
        raise DetachedInterrupt(sentence) from None


@contextmanager
def progress_bar(shown: bool, **options: Any) -> Iterator[Any]:
    """Yield a tqdm bar, for a notebook or a terminal as the case may be; None when not shown."""
    if not shown:
        yield None
        return
    import warnings

    with warnings.catch_warnings():
        # Without ipywidgets tqdm falls back to text by itself; its advice is not for our users.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        bar = tqdm(total=None, leave=True, **options)
    try:
        yield bar
    finally:
        bar.close()


@contextmanager
def attempt_progress(shown: bool) -> Iterator[Callable[[models.BaseAttempt], None]]:
    """Yield a function that shows an attempt's state as a tqdm bar (or does nothing)."""
    with progress_bar(shown, unit=" events") as bar:

        def report(attempt: models.BaseAttempt) -> None:
            if bar is None:
                return
            bar.set_description_str(f"attempt {attempt.number}: {attempt.status}", refresh=False)
            bar.update(max(attempt.last_seq - bar.n, 0))
            bar.refresh()

        yield report
