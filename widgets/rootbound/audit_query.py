"""What a query of the audit log asks, for both clients."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime
from typing import Any, Literal

from . import _operations as ops
from .audit_models import AuditTimeline, AuditTree, AuditVerification
from .errors import ServerError
from .models import AuditEntry, AuditSummary

COLUMNS = (
    "timestamp", "operation", "result", "path", "source", "seq", "attempt", "run_id", "detail",
)  # fmt: skip
PREVIEW = 20
_SCOPE = ("attempt", "run", "task", "project")

Form = Literal["ndjson", "csv"]


class Query:
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
        """Return the filters that an export is asked with."""
        return {**self.filters, **ops.without_none(limit=self.limit)}

    def _summary_operation(self) -> ops.Operation[AuditSummary]:
        """Return the request for the counts."""
        return ops.read(AuditSummary, None, "audit", "summary", **self.filters)

    def _tree_operation(self, path: str) -> ops.Operation[AuditTree]:
        """Return the request for a folder."""
        return ops.read(AuditTree, None, "audit", "tree", path=path, **self.filters)

    def _timeline_operation(self, bucket_s: int | None) -> ops.Operation[AuditTimeline]:
        """Return the request for the counts by time."""
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


class Progress:
    """Counts what was taken and decides whether and how to go on."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._taken = 0
        self._cursor: str | None = None
        self.more = query.limit is None or query.limit > 0

    def next(self) -> ops.Operation[ops.Page[AuditEntry]]:
        """Return the request for the next page."""
        size = self._query.page_size
        if self._query.limit is not None:
            size = min(size, self._query.limit - self._taken)
        return self._query.operation(self._cursor, size)

    def take(self, page: ops.Page[AuditEntry]) -> list[AuditEntry]:
        """Take a page, return its entries."""
        if page.next is not None and page.next == self._cursor:
            raise ServerError("The server sent the same page twice; the list cannot be read.")
        limit = self._query.limit
        items = page.items if limit is None else page.items[: limit - self._taken]
        self._taken += len(items)
        self._cursor = page.next
        self.more = page.next is not None and (limit is None or self._taken < limit)
        return items


def note_of(page: ops.Page[AuditEntry]) -> str:
    """Return what a preview says of what it does not show."""
    shown = f"the newest {len(page.items)}; iterate, or use .df(), for all"
    return shown if page.next else f"{len(page.items)} in all"
