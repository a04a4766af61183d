"""What a request for access is, for both clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from typing import Any, Literal

from . import _html as html
from . import _operations as ops
from . import models

Scope = Literal["task", "always"]


@dataclass(frozen=True, kw_only=True)
class BaseAccessRequest(models.Model):
    """A place where an attempt was denied an operation.

    Attributes
    ----------
    folder : str
        What would have to be granted; for READ it may be a single file.
    operation : str
        ``READ``, ``WRITE`` or ``DELETE``.
    path, program : str
        Of the last denial.
    count : int
        How many denials it stands for.
    status : str
        ``PENDING``, ``GRANTED``, ``REFUSED`` or ``EXPIRED``.
    scope : str or None
        ``TASK`` or ``ALWAYS`` once granted.
    """

    id: str
    attempt: str | None = None
    task: str | None = None
    project: str | None = None
    run_id: str | None = None
    folder: str = ""
    operation: str = ""
    path: str = ""
    program: str = ""
    count: int = 0
    status: str = "PENDING"
    scope: str | None = None
    granted_folder: str = ""
    decided_by: str | None = None
    decided_at: datetime | None = field(default=None, metadata={"parse": models.parse_time})
    expires_at: datetime | None = field(default=None, metadata={"parse": models.parse_time})
    created_at: datetime | None = field(default=None, metadata={"parse": models.parse_time})
    last_denied_at: datetime | None = field(default=None, metadata={"parse": models.parse_time})

    @property
    def is_pending(self) -> bool:
        """Whether it waits for a decision."""
        return self.status == "PENDING"

    def _repr_html_(self) -> str:
        return html.listing(
            "Request for access", [self], ("operation", "folder", "path", "count", "status")
        )


def grant_body(scope: Scope, folder: str | PathLike[str] | None) -> dict[str, Any]:
    """Return the JSON that grants access."""
    return ops.without_none(scope=scope, folder=None if folder is None else ops.absolute(folder))
