# Written by widgets/generate_sync.py from aio_machines.py; change that one.
"""Machines that connect to a server which does not run beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from . import _operations as ops
from .machine_models import Machine
from .tables import Listing

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Machine", "Machines"]


class Machines:
    """The machines of the user: ``client.machines``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __iter__(self) -> Iterator[Machine]:
        return self._client._each(Machine, "machines")

    def get(self, machine_id: str) -> Machine:
        """Return a machine by its id."""
        return self._client._call(ops.read(Machine, None, "machines", machine_id))

    def add(self, name: str, paths: Sequence[str | PathLike[str]]) -> Machine:
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
        return self._client._call(ops.write(Machine, None, "POST", "machines", body=body))

    def update(self, machine_id: str, **changes: Any) -> Machine:
        """Change ``name`` or ``paths``; return the result."""
        return self._client._call(
            ops.write(Machine, None, "PATCH", "machines", machine_id, body=changes)
        )

    def renew_token(self, machine_id: str) -> Machine:
        """Replace the token; return the machine with the new one. The old one is shut out."""
        return self._client._call(ops.write(Machine, None, "POST", "machines", machine_id, "token"))

    def remove(self, machine_id: str) -> None:
        """Remove a machine; what runs on it ends as LDA_LOST."""
        self._client._call(ops.delete("machines", machine_id))

    # Last, because in the class body it hides the built-in type.
    def list(self) -> Listing[Machine]:
        """Return all machines."""
        return self._client._all(Machine, "machines")
