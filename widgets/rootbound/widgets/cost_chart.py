"""What agents used, as a plot by day."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import traitlets

from .. import _html as html
from ..client import Client, connect
from ..costs import Costs
from ..objects import Project
from .base import BaseWidget
from .feed import Source

_POLL_S = 15.0


class CostChart(BaseWidget):
    """A live plot of tokens or money by project, role and day.

    Parameters
    ----------
    target : Project, Client or None, default None
        A project, or all projects of a connection; None calls `rootbound.connect`.
    days : int, default 30
        Days to show, today included.
    **kwargs
        Traits, such as ``group``.

    Attributes
    ----------
    group : {"project", "role"}
        What the bars are divided by; the view's buttons change it, and so can Python.
    measure : {"auto", "money", "tokens"}
        What is shown; ``"auto"`` is money, or tokens when no run has a known price.
    """

    _bundle_name = "cost_chart"
    _client_writable = BaseWidget._client_writable | {"group", "measure"}

    group = traitlets.Enum(["project", "role"], default_value="project").tag(sync=True)
    measure = traitlets.Enum(["auto", "money", "tokens"], default_value="auto").tag(sync=True)

    def __init__(
        self, target: Project | Client | None = None, *, days: int = 30, **kwargs: Any
    ) -> None:
        self._project = target if isinstance(target, Project) else None
        self._client = target.client if isinstance(target, Project) else target or connect()
        self._days = days
        if self._project is not None:
            kwargs.setdefault("group", "role")
        super().__init__(**kwargs)

    def _costs(self) -> Costs:
        project = None if self._project is None else self._project.id
        return read_costs(self._client, project, self._days)

    def _load(self) -> dict[str, Any]:
        return {"costs": self._costs().raw}

    def _source(self) -> Source:
        # Bound to names, so that the thread does not keep the widget alive.
        client, days = self._client, self._days
        project = None if self._project is None else self._project.id

        def follow(stop: threading.Event) -> Iterator[Costs]:
            while not stop.wait(_POLL_S):
                yield read_costs(client, project, days)

        return follow

    def _take(self, items: list[Any]) -> None:
        state = {"costs": items[-1].raw}
        if state != self._state:
            self._state = state

    def to_html(self) -> str:
        """Return the use as a static table, read from the server now."""
        return html.costs(self._costs(), title="Cost (snapshot)")


def read_costs(client: Client, project: str | None, days: int) -> Costs:
    """Return the costs of the last days.

    Parameters
    ----------
    client : Client
        The connection to use.
    project : str or None
        Id of one project.
    days : int
        Today included.
    """
    return client.costs(project=project, since=_today() - timedelta(days=days - 1))


def _today() -> date:
    """Return the day on the calendar of whoever runs the kernel."""
    return datetime.now().astimezone().date()
