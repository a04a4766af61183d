"""Reading the audit log: a lazy query that pages by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from . import _html as html
from . import _operations as ops
from .errors import MissingDependencyError, ServerError
from .models import AuditEntry

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

    from .aio import AsyncClient
    from .client import Client

_COLUMNS = ("timestamp", "operation", "result", "path", "source", "seq", "attempt", "run_id")
_PREVIEW = 20


class _Query:
    """What both queries know: the filter, and how to ask for a page."""

    def __init__(self, *, page_size: int, limit: int | None, **filters: Any) -> None:
        self.filters = ops.without_none(**filters)
        self.limit = limit
        self.page_size = page_size

    def operation(self, cursor: str | None, limit: int) -> ops.Operation[ops.Page[AuditEntry]]:
        """Return the request for one page."""
        return ops.page(
            AuditEntry, None, "audit", "logs", cursor=cursor, limit=limit, **self.filters
        )


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
        return _frame(list(self))

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
        return _frame([entry async for entry in self])


def _note(page: ops.Page[AuditEntry]) -> str:
    shown = f"the newest {len(page.items)}; iterate, or use .df(), for all"
    return shown if page.next else f"{len(page.items)} in all"


def _frame(entries: list[AuditEntry]) -> pd.DataFrame:
    try:
        import pandas as pd  # optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(
            "df() needs pandas, which is not installed; run `pip install pandas`, or iterate "
            "over the query instead."
        ) from error
    rows = [
        {**{name: getattr(entry, name) for name in _COLUMNS}, "detail": entry.detail}
        for entry in entries
    ]
    return pd.DataFrame(rows, columns=[*_COLUMNS, "detail"])
