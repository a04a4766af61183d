"""The papermill engine ``rootbound``: the stack first, then the notebook, resumable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from papermill.engines import NBClientEngine  # type: ignore[import-untyped]

from . import paths
from .batch import LEDGER_VARIABLE
from .errors import RootboundError

__all__ = ["RootboundEngine", "ensure_server", "ledger_of"]


def ledger_of(output: str | os.PathLike[str]) -> Path:
    """Return the file that remembers the batch whose report is written to `output`."""
    path = Path(output).absolute()
    return path.with_name(f".{path.name}.batch.json")


def ensure_server() -> None:
    """Start this state folder's stack, or find it running; leave a named server alone.

    Raises
    ------
    RootboundError
        If the stack does not come up; the message says why.
    """
    if os.environ.get("ROOTBOUND_URL"):
        return
    try:
        from rootbound_server_ext.stack import api, errors
    except ModuleNotFoundError as error:
        raise RootboundError(
            f"Starting the stack needs the server part ({error.name} is missing): run "
            '`pip install "rootbound[server]"`, or set ROOTBOUND_URL and ROOTBOUND_TOKEN.'
        ) from error
    try:
        api.start(None)
    except errors.StackError as error:
        raise RootboundError(error.message) from error


class RootboundEngine(NBClientEngine):  # type: ignore[misc]
    """Executes a notebook with the stack up, and lets a `Batch` in it go on after a crash.

    Use it as ``papermill --engine rootbound``, or as ``engine_name="rootbound"`` from Python.
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
        """Execute the notebook; arguments as for papermill's own engine."""
        ensure_server()
        output = nb_man.nb.metadata.get("papermill", {}).get("output_path")
        with _environment(ledger_of(output) if output else None):
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


@contextmanager
def _environment(ledger: Path | None) -> Iterator[None]:
    """Give the kernel, which inherits our environment, its state folder and its batch's file."""
    wanted = {"ROOTBOUND_HOME": str(paths.state_dir())}
    if ledger is not None and LEDGER_VARIABLE not in os.environ:
        wanted[LEDGER_VARIABLE] = str(ledger)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
