"""The papermill engine ``rootbound``: the stack first, then the notebook, resumable."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from papermill.engines import NBClientEngine  # type: ignore[import-untyped]

from . import paths, rooted
from ._stack import ensure_server
from .batch import LEDGER_VARIABLE

__all__ = ["RootboundEngine", "ledger_of"]


def ledger_of(output: str | os.PathLike[str]) -> Path:
    """Return the file that remembers the batch whose report is written to `output`.

    It lies in the state folder, in a folder of the batch's own that a confined kernel may write in.
    """
    return paths.state_dir() / "kernels" / "batches" / _key(output) / "batch.json"


def _key(output: str | os.PathLike[str]) -> str:
    return hashlib.sha256(os.fsencode(Path(output).absolute())).hexdigest()[:32]


class RootboundEngine(NBClientEngine):  # type: ignore[misc]
    """Executes a notebook in a confined kernel, and lets a `Batch` in it go on after a crash.

    With ``confined=False`` its kernel has the user's rights. Use it as
    ``papermill --engine rootbound``, or as ``engine_name="rootbound"`` from Python.
    """

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, confined: bool = True, **kwargs: Any
    ) -> Any:
        """Execute the notebook; arguments as for papermill's own engine, and `confined`."""
        ensure_server()
        output = nb_man.nb.metadata.get("papermill", {}).get("output_path")
        if confined:
            kwargs["kernel_manager_class"] = rooted.manager_class(_key(output or os.devnull))
        with _environment(ledger_of(output) if output else None):
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


@contextmanager
def _environment(ledger: Path | None) -> Iterator[None]:
    """Give the kernel, which inherits our environment, its state folder and its batch's file."""
    wanted = {"ROOTBOUND_HOME": str(paths.state_dir())}
    if ledger is not None and LEDGER_VARIABLE not in os.environ:
        ledger.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
