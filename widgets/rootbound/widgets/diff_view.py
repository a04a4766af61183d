"""The change an attempt proposes."""

from __future__ import annotations

from typing import Any

from .. import _html as html
from ..errors import ConflictError, NotFoundError
from ..models import Diff
from ..objects import Attempt
from .base import BaseWidget
from .verbs import attempt_verbs


class DiffView(BaseWidget):
    """A view of an attempt's diff, file by file.

    Parameters
    ----------
    attempt : Attempt
        The attempt whose change to show.
    **kwargs
        Traits, such as ``theme``.
    """

    _bundle_name = "diff_view"

    def __init__(self, attempt: Attempt, **kwargs: Any) -> None:
        self._attempt = attempt
        super().__init__(**kwargs)
        self._handlers |= attempt_verbs(lambda _params: self._attempt)

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
        return {"diff": None if diff is None else diff.raw}

    def to_html(self) -> str:
        """Return the diff as static HTML, read from the server now."""
        return html.diff(self._diff() or Diff())
