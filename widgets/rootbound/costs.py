"""Tokens and money, by day, project and role."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from . import _html as html
from . import _operations as ops
from .models import Model
from .tables import frame

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

_COLUMNS = (
    "day", "project_name", "role", "runs", "input_tokens", "output_tokens", "cost_usd",
    "unpriced_runs",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Costs(Model):
    """What agents used, one row for each day, project and role.

    `cost_usd` holds the runs whose model has a known price; `unpriced_runs` counts the others.
    """

    since: str = ""
    until: str = ""
    results: tuple[dict[str, Any], ...] = field(default=(), metadata={"parse": tuple})

    @property
    def cost_usd(self) -> float:
        """US dollars in all."""
        return float(sum(row["cost_usd"] for row in self.results))

    @property
    def tokens(self) -> int:
        """Tokens in all, read and written."""
        return int(sum(row["input_tokens"] + row["output_tokens"] for row in self.results))

    def df(self) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        return frame(self.results, _COLUMNS, get=dict.__getitem__)

    def _repr_html_(self) -> str:
        return html.costs(self)


def operation(
    project: str | None, since: date | str | None, until: date | str | None
) -> ops.Operation[Costs]:
    """Return the request for costs; days are those of the machine that asks."""
    days = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in (("since", since), ("until", until))
    }
    return ops.read(Costs, None, "costs", project=project, **days)
