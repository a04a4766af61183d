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
from .errors import RootboundError

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

    With ``confined=False`` its kernel has the user's rights; with ``network=True`` a confined one
    may reach the network. Use it as ``papermill --engine rootbound``, or as
    ``engine_name="rootbound"`` from Python.
    """

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        confined: bool = True,
        network: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Execute the notebook; as papermill's own engine, with `confined` and `network`.

        Raises
        ------
        RootboundError
            If the kernel cannot be started or ends; the message says why.
        """
        ensure_server()
        output = nb_man.nb.metadata.get("papermill", {}).get("output_path")
        if confined:
            kwargs["kernel_manager_class"] = rooted.manager_class(
                _key(output or os.devnull), network=network
            )
        with _environment(ledger_of(output) if output else None), _one_sentence(kernel_name):
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


@contextmanager
def _one_sentence(kernel_name: str) -> Iterator[None]:
    """Turn what keeps a kernel from working into an error of ours."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from tornado.web import HTTPError

    try:
        yield
    except NoSuchKernel as error:
        raise RootboundError(
            f"There is no kernel {kernel_name!r}; `jupyter kernelspec list` shows those there are."
        ) from error
    except HTTPError as error:
        # The provisioner's, in whose word Jupyter's own server shows a refusal.
        raise RootboundError(str(error)) from error
    except DeadKernelError as error:
        raise RootboundError(
            f"The kernel {kernel_name!r} ended before the notebook did; the report shows how far "
            "it came."
        ) from error


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
