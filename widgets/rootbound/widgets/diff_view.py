"""The change an attempt proposes."""

from __future__ import annotations

from typing import Any

import traitlets

from .. import _html as html
from ..diff_models import Diff
from ..errors import ConflictError, NotFoundError
from ..objects import Attempt
from .base import BaseWidget
from .verbs import attempt_verbs, form_verbs


class DiffView(BaseWidget):
    """A view of an attempt's diff, file by file.

    Parameters
    ----------
    attempt : Attempt
        The attempt whose change to show.
    review : bool, default False
        Show the whole review: comments on lines, gate evidence, what merging would do, the
        task's other attempts, and the decision.
    **kwargs
        Traits, such as ``theme``.
    """

    _bundle_name = "diff_view"

    review = traitlets.Bool(False, read_only=True).tag(sync=True)

    def __init__(self, attempt: Attempt, *, review: bool = False, **kwargs: Any) -> None:
        self._attempt = attempt
        self.set_trait("review", review)
        super().__init__(**kwargs)
        self._handlers |= attempt_verbs(lambda _params: self._attempt)
        place = f"api/attempts/{attempt.id}"
        self._handlers |= form_verbs(
            attempt.client,
            (
                f"GET {place}/((diff|comments|merge-preview)/)?",
                f"POST {place}/(comments|approve|reject|request-changes|update)/",
                f"DELETE {place}/comments/[0-9a-f-]{{36}}/",
                f"GET api/tasks/{attempt.task}/compare/",
            ),
        )

    def _diff(self) -> Diff | None:
        """Return the diff; None while the attempt has none."""
        try:
            return self._attempt.diff()
        except (ConflictError, NotFoundError):
            # Not found can also mean that the attempt itself is gone, which is an error.
            self._attempt.refresh()
            return None

    def _load(self) -> dict[str, Any]:
        diff = self._diff()
        state: dict[str, Any] = {"diff": None if diff is None else diff.raw}
        if self.review:
            self._attempt = self._attempt.refresh()
            state["attempt"] = self._attempt.raw
        return state

    def to_html(self) -> str:
        """Return the diff as static HTML, read from the server now."""
        diff = html.diff(self._diff() or Diff())
        return html.attempt(self._attempt.refresh()) + diff if self.review else diff
