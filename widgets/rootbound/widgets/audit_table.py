"""The audit log of an attempt or a project."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import traitlets

from .. import _html as html
from ..audit import AuditQuery
from ..errors import InvalidRequestError
from ..models import AuditSummary
from ..objects import Attempt, Project
from .base import BaseWidget, text_param
from .feed import Source
from .verbs import access_verbs

_PAGE = 200
_POLL_S = 3.0
_FILTERS = (
    "operation", "result", "path_prefix", "glob", "program", "source", "since", "until",
)  # fmt: skip


class AuditTable(BaseWidget):
    """A live, paged view of audit entries.

    Parameters
    ----------
    target : Attempt or Project
        Whose file operations to show.
    **kwargs
        Traits, such as ``filter``.

    Attributes
    ----------
    filter : dict of str
        What narrows the rows: ``operation``, ``result``, ``path_prefix``, ``glob``, ``program``,
        ``source``, ``since``, ``until``. The view changes it, and setting it changes the view.
    """

    filter = traitlets.Dict()

    _bundle_name = "audit_table"

    def __init__(self, target: Attempt | Project, **kwargs: Any) -> None:
        self._target = target
        self._filter: dict[str, str] = _checked(kwargs.pop("filter", {}))
        self._seen: list[dict[str, Any]] = []
        super().__init__(**kwargs)
        self.filter = self._filter
        self._handlers |= access_verbs(lambda: self._target.access_requests())
        self._handlers |= {
            "load_more": self._load_more,
            "set_filter": self._set_filter,
            "timeline": lambda _params: self._query().timeline().raw,
            "tree": lambda params: self._query().tree(text_param(params, "path")).raw,
            "verify": lambda _params: {**self._target.audit().verify().raw, "next": None},
        }

    def _load(self) -> dict[str, Any]:
        # Of all entries, whose change is what tells that there is news.
        self._seen = list(self._target.audit_summary().counts)
        counts = list(self._query().summary().counts) if self._filter else self._seen
        return {**self._page(None), "counts": counts, "filter": self._filter}

    def _page(self, cursor: str | None) -> dict[str, Any]:
        page = self._query().page(cursor)
        return {"rows": [entry.raw for entry in page.items], "next": page.next}

    def _query(self) -> AuditQuery:
        return self._target.audit(page_size=_PAGE, **self._filter)

    def _source(self) -> Source:
        # Bound to names, so that the thread does not keep the widget alive.
        target = self._target

        def follow(stop: threading.Event) -> Iterator[AuditSummary]:
            while not stop.wait(_POLL_S):
                yield target.audit_summary()

        return follow

    def _take(self, items: list[Any]) -> None:
        if list(items[-1].counts) != self._seen:
            self._state = self._load()
            self._push("audit", self._state)

    def _load_more(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._page(text_param(params, "cursor"))

    def _set_filter(self, params: dict[str, Any]) -> dict[str, Any]:
        chosen = params.get("filter") or {}
        if not isinstance(chosen, dict):
            raise InvalidRequestError("filter must be an object.", code="invalid-params")
        # The scope (attempt or project) is Python's to choose, so other fields are left out.
        self._narrow({name: str(chosen[name]) for name in _FILTERS if chosen.get(name)})
        self.filter = self._filter
        return self._state

    @traitlets.validate("filter")
    def _filter_set(self, proposal: dict[str, Any]) -> dict[str, str]:
        wanted = _checked(proposal["value"])
        if wanted != self._filter:
            self._narrow(wanted)
        return wanted

    def _narrow(self, wanted: dict[str, str]) -> None:
        before = self._filter
        self._filter = wanted
        try:
            self._state = self._load()
        except Exception:
            self._filter = before
            raise

    def to_html(self) -> str:
        """Return the counts and the newest entries as static HTML, read from the server now."""
        page = self._target.audit(**self._filter).page(limit=50)
        note = f"the newest {len(page.items)}" if page.next else f"{len(page.items)} in all"
        summary = html.audit_summary(self._query().summary())
        return summary + html.audit(page.items, title="Audit (snapshot)", note=note)


def _checked(wanted: dict[str, Any]) -> dict[str, str]:
    """Return a filter without what is empty.

    Raises
    ------
    traitlets.TraitError
        For a name that is no filter.
    """
    unknown = set(wanted) - set(_FILTERS)
    if unknown:
        raise traitlets.TraitError(
            f"There is no filter {', '.join(sorted(unknown))}; there are {', '.join(_FILTERS)}."
        )
    return {name: str(value) for name, value in wanted.items() if value}
