"""Reading the audit log: a lazy query that pages by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _html as html
from . import _operations as ops
from .audit_export import async_export, export
from .audit_models import AuditTimeline, AuditTree, AuditVerification
from .errors import ServerError
from .models import AuditEntry, AuditSummary
from .tables import arrow_stream, frame

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

    from .aio import AsyncClient
    from .client import Client

_COLUMNS = (
    "timestamp", "operation", "result", "path", "source", "seq", "attempt", "run_id", "detail",
)  # fmt: skip
_PREVIEW = 20
_SCOPE = ("attempt", "run", "task", "project")

Form = Literal["ndjson", "csv"]


class _Query:
    """What both queries know: the filter, and how to ask for a page."""

    def __init__(self, *, page_size: int, limit: int | None, **filters: Any) -> None:
        self.filters = {name: _plain(value) for name, value in ops.without_none(**filters).items()}
        self.limit = limit
        self.page_size = page_size

    def operation(self, cursor: str | None, limit: int) -> ops.Operation[ops.Page[AuditEntry]]:
        """Return the request for one page."""
        return ops.page(
            AuditEntry, None, "audit", "logs", cursor=cursor, limit=limit, **self.filters
        )

    def _export_filters(self) -> dict[str, Any]:
        return {**self.filters, **ops.without_none(limit=self.limit)}

    def _summary(self) -> ops.Operation[AuditSummary]:
        return ops.read(AuditSummary, None, "audit", "summary", **self.filters)

    def _tree(self, path: str) -> ops.Operation[AuditTree]:
        return ops.read(AuditTree, None, "audit", "tree", path=path, **self.filters)

    def _timeline(self, bucket_s: int | None) -> ops.Operation[AuditTimeline]:
        return ops.read(AuditTimeline, None, "audit", "timeline", bucket=bucket_s, **self.filters)

    def _verification(
        self,
    ) -> Generator[ops.Operation[AuditVerification], AuditVerification, AuditVerification]:
        """Ask until the end is reached; yields operations, takes their results, returns the sum."""
        scope = {name: self.filters[name] for name in _SCOPE if name in self.filters}
        runs = entries = retained = 0
        findings: list[Any] = []
        cursor: str | None = None
        while True:
            part = yield ops.read(
                AuditVerification, None, "audit", "verify", cursor=cursor, **scope
            )
            runs, entries = runs + part.runs, entries + part.entries
            retained += part.retained_away
            findings += part.raw.get("findings", [])
            if part.next is None:
                break
            if part.next == cursor:
                raise ServerError("The verification does not get on; see `rootbound logs backend`.")
            cursor = part.next
        return AuditVerification.from_json(
            {
                "ok": not findings,
                "runs": runs,
                "entries": entries,
                "retained_away": retained,
                "findings": findings,
            }
        )


def _plain(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    # A time without a zone is the user's own.
    return (value if value.tzinfo else value.astimezone()).isoformat()


class _Progress:
    """Counts what was taken and decides whether and how to go on."""

    def __init__(self, query: _Query) -> None:
        self._query = query
        self._taken = 0
        self._cursor: str | None = None
        self.more = query.limit is None or query.limit > 0

    def next(self) -> ops.Operation[ops.Page[AuditEntry]]:
        size = self._query.page_size
        if self._query.limit is not None:
            size = min(size, self._query.limit - self._taken)
        return self._query.operation(self._cursor, size)

    def take(self, page: ops.Page[AuditEntry]) -> list[AuditEntry]:
        if page.next is not None and page.next == self._cursor:
            raise ServerError("The server sent the same page twice; the list cannot be read.")
        limit = self._query.limit
        items = page.items if limit is None else page.items[: limit - self._taken]
        self._taken += len(items)
        self._cursor = page.next
        self.more = page.next is not None and (limit is None or self._taken < limit)
        return items


class AuditQuery(_Query):
    """Audit entries that match a filter, newest first, read page by page as you iterate.

    Made by `Client.audit`, `Project.audit` and `Attempt.audit`.
    """

    def __init__(self, client: Client, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._client = client

    def __iter__(self) -> Iterator[AuditEntry]:
        progress = _Progress(self)
        while progress.more:
            yield from progress.take(self._client._call(progress.next()))

    def page(self, cursor: str | None = None, *, limit: int | None = None) -> ops.Page[AuditEntry]:
        """Return one page.

        Parameters
        ----------
        cursor : str or None, default None
            The `next` of the page before; None for the first.
        limit : int or None, default None
            Entries at most; None means the query's page size.

        Returns
        -------
        Page
            ``items`` and the ``next`` cursor, None on the last page.
        """
        return self._client._call(self.operation(cursor, limit or self.page_size))

    def df(self) -> pd.DataFrame:
        """Return all matching entries as a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            One row per entry; `detail` is the last column, as dicts.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        return frame(self, _COLUMNS)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return all matching entries as an Arrow stream; `detail` is JSON text."""
        return arrow_stream(self, _COLUMNS, requested_schema)

    def summary(self) -> AuditSummary:
        """Return the counts of the matching entries by operation and result."""
        return self._client._call(self._summary())

    def tree(self, path: str = "/") -> AuditTree:
        """Return what was touched directly below a folder, with counts.

        Parameters
        ----------
        path : str, default "/"
            The folder.
        """
        return self._client._call(self._tree(path))

    def timeline(self, bucket_s: int | None = None) -> AuditTimeline:
        """Return counts of allowed and denied operations by time.

        Parameters
        ----------
        bucket_s : int or None, default None
            Seconds of one bucket; None takes a width that gives at most 300.
        """
        return self._client._call(self._timeline(bucket_s))

    def verify(self) -> AuditVerification:
        """Recompute the hash chains of the runs in question, on the server.

        Of the filters, only `attempt`, `run`, `task` and `project` count; without them all of your
        runs are verified.

        Returns
        -------
        AuditVerification
            `ok`, or the findings, each of which names run, entry and row.
        """
        steps = self._verification()
        part: Any = None
        try:
            while True:
                part = self._client._call(steps.send(part))
        except StopIteration as stop:
            result: AuditVerification = stop.value
            return result

    def export(self, path: str | PathLike[str], form: Form | None = None) -> Path:
        """Write all matching entries to a file, streamed from the server.

        Parameters
        ----------
        path : str or os.PathLike
            The file; it appears when it is complete and replaces one of that name.
        form : {"ndjson", "csv"} or None, default None
            None goes by the ending: ``.csv``, or ``.ndjson`` and ``.jsonl``.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InvalidRequestError
            If neither `form` nor the ending says what to write.
        ConnectionFailedError
            If the connection broke; there is then no file.
        """
        return export(self._client, Path(path), form, self._export_filters())

    def _repr_html_(self) -> str:
        page = self.page(limit=min(_PREVIEW, self.limit or _PREVIEW))
        return html.audit(page.items, note=_note(page))


class AsyncAuditQuery(_Query):
    """As `AuditQuery`, for ``async for``."""

    def __init__(self, client: AsyncClient, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._client = client

    async def __aiter__(self) -> AsyncIterator[AuditEntry]:
        progress = _Progress(self)
        while progress.more:
            for entry in progress.take(await self._client._call(progress.next())):
                yield entry

    async def page(
        self, cursor: str | None = None, *, limit: int | None = None
    ) -> ops.Page[AuditEntry]:
        """As `AuditQuery.page`, awaited."""
        return await self._client._call(self.operation(cursor, limit or self.page_size))

    async def df(self) -> pd.DataFrame:
        """As `AuditQuery.df`, awaited."""
        return frame([entry async for entry in self], _COLUMNS)

    async def summary(self) -> AuditSummary:
        """As `AuditQuery.summary`, awaited."""
        return await self._client._call(self._summary())

    async def tree(self, path: str = "/") -> AuditTree:
        """As `AuditQuery.tree`, awaited."""
        return await self._client._call(self._tree(path))

    async def timeline(self, bucket_s: int | None = None) -> AuditTimeline:
        """As `AuditQuery.timeline`, awaited."""
        return await self._client._call(self._timeline(bucket_s))

    async def verify(self) -> AuditVerification:
        """As `AuditQuery.verify`, awaited."""
        steps = self._verification()
        part: Any = None
        while True:
            try:
                operation = steps.send(part)
            except StopIteration as stop:
                result: AuditVerification = stop.value
                return result
            part = await self._client._call(operation)

    async def export(self, path: str | PathLike[str], form: Form | None = None) -> Path:
        """As `AuditQuery.export`, awaited."""
        return await async_export(self._client, Path(path), form, self._export_filters())


def _note(page: ops.Page[AuditEntry]) -> str:
    shown = f"the newest {len(page.items)}; iterate, or use .df(), for all"
    return shown if page.next else f"{len(page.items)} in all"
