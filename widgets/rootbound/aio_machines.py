"""Machines that connect to a server which does not run beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from . import _operations as ops
from .machine_models import Machine
from .tables import Listing

if TYPE_CHECKING:
    from .aio import AsyncClient

__all__ = ["AsyncMachines", "Machine"]


class AsyncMachines:
    """The machines of the user: ``client.machines``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[Machine]:
        return self._client._each(Machine, "machines")

    async def get(self, machine_id: str) -> Machine:
        """Return a machine by its id."""
        return await self._client._call(ops.read(Machine, None, "machines", machine_id))

    async def add(self, name: str, paths: Sequence[str | PathLike[str]]) -> Machine:
        """Add a machine.

        Parameters
        ----------
        name : str
            For people.
        paths : sequence of path
            Absolute folders, as they are on that machine, which it owns: projects beneath them are
            worked on there.

        Returns
        -------
        Machine
            With the `token` for its Local Desktop Agent, which is shown this once.

        Raises
        ------
        ConflictError
            If the server has a Local Desktop Agent of its own, or name or path is taken.
        """
        body = {"name": name, "paths": [fspath(path) for path in paths]}
        return await self._client._call(ops.write(Machine, None, "POST", "machines", body=body))

    async def update(self, machine_id: str, **changes: Any) -> Machine:
        """Change ``name`` or ``paths``; return the result."""
        return await self._client._call(
            ops.write(Machine, None, "PATCH", "machines", machine_id, body=changes)
        )

    async def renew_token(self, machine_id: str) -> Machine:
        """Replace the token; return the machine with the new one. The old one is shut out."""
        return await self._client._call(
            ops.write(Machine, None, "POST", "machines", machine_id, "token")
        )

    async def remove(self, machine_id: str) -> None:
        """Remove a machine; what runs on it ends as LDA_LOST."""
        await self._client._call(ops.delete("machines", machine_id))

    # Last, because in the class body it hides the built-in type.
    async def list(self) -> Listing[Machine]:
        """Return all machines."""
        return await self._client._all(Machine, "machines")
