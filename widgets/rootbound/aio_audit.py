"""Reading the audit log: a lazy query that pages by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

# | from . import _html as html
from . import _operations as ops
from . import audit_export
from .audit_models import AuditTimeline, AuditTree, AuditVerification
from .audit_query import COLUMNS, Form, Progress, Query

# | from .audit_query import PREVIEW, note_of
from .models import AuditEntry, AuditSummary
from .tables import frame

# | from .tables import arrow_stream

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

    from .aio import AsyncClient

__all__ = ["AsyncAuditQuery", "Form"]


class AsyncAuditQuery(Query):
    """Audit entries that match a filter, newest first, read page by page as you iterate.

    Made by `AsyncClient.audit`, `AsyncProject.audit` and `AsyncAttempt.audit`.
    """

    def __init__(self, client: AsyncClient, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._client = client

    async def __aiter__(self) -> AsyncIterator[AuditEntry]:
        progress = Progress(self)
        while progress.more:
            for entry in progress.take(await self._client._call(progress.next())):
                yield entry

    async def page(
        self, cursor: str | None = None, *, limit: int | None = None
    ) -> ops.Page[AuditEntry]:
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
        return await self._client._call(self.operation(cursor, limit or self.page_size))

    async def df(self) -> pd.DataFrame:
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
        return frame([entry async for entry in self], COLUMNS)

    # | def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
    # |     """Return all matching entries as an Arrow stream; `detail` is JSON text."""
    # |     return arrow_stream(self, COLUMNS, requested_schema)

    async def summary(self) -> AuditSummary:
        """Return the counts of the matching entries by operation and result."""
        return await self._client._call(self._summary_operation())

    async def tree(self, path: str = "/") -> AuditTree:
        """Return what was touched directly below a folder, with counts.

        Parameters
        ----------
        path : str, default "/"
            The folder.
        """
        return await self._client._call(self._tree_operation(path))

    async def timeline(self, bucket_s: int | None = None) -> AuditTimeline:
        """Return counts of allowed and denied operations by time.

        Parameters
        ----------
        bucket_s : int or None, default None
            Seconds of one bucket; None takes a width that gives at most 300.
        """
        return await self._client._call(self._timeline_operation(bucket_s))

    async def verify(self) -> AuditVerification:
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
        while True:
            try:
                operation = steps.send(part)
            except StopIteration as stop:
                result: AuditVerification = stop.value
                return result
            part = await self._client._call(operation)

    async def export(self, path: str | PathLike[str], form: Form | None = None) -> Path:
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
        target = Path(path)
        chosen = audit_export.form_of(target, form)
        for is_last in (False, True):
            if await self._exported(target, chosen, is_last=is_last):
                break
        return target

    async def _exported(self, path: Path, form: str, *, is_last: bool) -> bool:
        """Write the file; return False when the token was renewed meanwhile."""
        endpoint = self._client.endpoint
        request = audit_export.request(endpoint, form, self._export_filters())
        http = self._client._transport._http
        with audit_export.breaks(endpoint):
            async with http.stream(**request) as response:
                if response.status_code == 401 and not is_last and endpoint.refresh():
                    return False
                if response.status_code >= 300:
                    await response.aread()
                    raise audit_export.refusal(response)
                with audit_export.whole_file(path) as file:
                    async for block in response.aiter_bytes():
                        file.write(block)
        return True

    # | def _repr_html_(self) -> str:
    # |     page = self.page(limit=min(PREVIEW, self.limit or PREVIEW))
    # |     return html.audit(page.items, note=note_of(page))
