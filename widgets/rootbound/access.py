"""Requests for access: what agents were denied, and the user's decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from . import _html as html
from . import _operations as ops
from . import models

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .client import Client

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


@dataclass(frozen=True, kw_only=True)
class AccessRequest(BaseAccessRequest):
    """A request for access that can be decided."""

    @property
    def client(self) -> Client:
        """The client this request was read with."""
        return self._client  # type: ignore[no-any-return]

    def refresh(self) -> AccessRequest:
        """Return the request as it is now (this object does not change)."""
        return self.client._call(ops.read(AccessRequest, self.client, "access-requests", self.id))

    def grant(
        self, scope: Scope = "task", *, folder: str | PathLike[str] | None = None
    ) -> AccessRequest:
        """Grant access; a live run has it from its next command on.

        Parameters
        ----------
        scope : {"task", "always"}, default "task"
            ``task``: for the runs of this task. ``always``: writing becomes a root of yours,
            reading holds for all runs of the project.
        folder : path or None, default None
            Another folder than the one asked for; None takes that one.

        Returns
        -------
        AccessRequest
            The granted request.

        Raises
        ------
        ConflictError
            With code ``request-decided``, ``request-expired`` or ``root-moved``.
        InvalidRequestError
            If the folder cannot be granted; the message says why.
        """
        body = grant_body(scope, folder)
        return self.client._call(
            ops.write(
                AccessRequest, self.client, "POST", "access-requests", self.id, "grant", body=body
            )
        )

    def refuse(self) -> AccessRequest:
        """Refuse access, or take back what was granted for the task; return the result."""
        return self.client._call(
            ops.write(AccessRequest, self.client, "POST", "access-requests", self.id, "refuse")
        )


@dataclass(frozen=True, kw_only=True)
class AsyncAccessRequest(BaseAccessRequest):
    """As `AccessRequest`, awaited."""

    @property
    def client(self) -> AsyncClient:
        """The client this request was read with."""
        return self._client  # type: ignore[no-any-return]

    async def refresh(self) -> AsyncAccessRequest:
        """As `AccessRequest.refresh`."""
        operation = ops.read(AsyncAccessRequest, self.client, "access-requests", self.id)
        return await self.client._call(operation)

    async def grant(
        self, scope: Scope = "task", *, folder: str | PathLike[str] | None = None
    ) -> AsyncAccessRequest:
        """As `AccessRequest.grant`."""
        operation = ops.write(
            AsyncAccessRequest,
            self.client,
            "POST",
            "access-requests",
            self.id,
            "grant",
            body=grant_body(scope, folder),
        )
        return await self.client._call(operation)

    async def refuse(self) -> AsyncAccessRequest:
        """As `AccessRequest.refuse`."""
        operation = ops.write(
            AsyncAccessRequest, self.client, "POST", "access-requests", self.id, "refuse"
        )
        return await self.client._call(operation)


def grant_body(scope: Scope, folder: str | PathLike[str] | None) -> dict[str, Any]:
    """Return the JSON that grants access."""
    return ops.without_none(scope=scope, folder=None if folder is None else ops.absolute(folder))
