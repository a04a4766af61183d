# Written by widgets/generate_sync.py from aio_access.py; change that one.
"""Requests for access: what agents were denied, and the user's decision."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from . import _operations as ops
from .access_models import BaseAccessRequest, Scope, grant_body

if TYPE_CHECKING:
    from .client import Client


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
                AccessRequest,
                self.client,
                "POST",
                "access-requests",
                self.id,
                "grant",
                body=body,
            )
        )

    def refuse(self) -> AccessRequest:
        """Refuse access, or take back what was granted for the task; return the result."""
        return self.client._call(
            ops.write(AccessRequest, self.client, "POST", "access-requests", self.id, "refuse")
        )
