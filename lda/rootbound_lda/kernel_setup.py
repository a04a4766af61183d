"""What a confined kernel is asked for with, and what it finds when it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from .audit import AuditRecord, AuditSink
from .config import write_atomic
from .kernel_pip import pip_environment
from .policy import Policy
from .sandbox import base_env
from .wire import Ingest
from .wire_types import AbsolutePath

__all__ = [
    "CONNECTION", "DOOR", "TOKEN", "KernelAudit", "KernelRequest", "environment_of",
    "write_startup",
]  # fmt: skip

CONNECTION: Final = "connection.json"
DOOR: Final = "backend"
TOKEN: Final = "token"  # noqa: S105 - a file's name
STARTUP: Final = "rootbound_kernel_startup"
_STARTUP_CODE: Final = f"import {STARTUP}\n{STARTUP}.install()\ndel {STARTUP}\n".encode()
_UUID: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_LEFT_OUT: Final = ("CI", "NO_COLOR")
_PIP_OWN: Final = ("PIP_PROGRESS_BAR", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_INPUT")


class KernelRequest(Struct, frozen=True):
    """The body of ``POST /kernels``.

    Attributes
    ----------
    session_id
        The kernel's run.
    kernel_id
        Jupyter's id, which stays when a kernel is restarted; its private folder goes by it.
    argv
        Program and arguments; ``{connection_file}`` stands for the kernel's connection file.
    cwd
        The notebook's folder.
    env
        Variables of the kernel specification and of Jupyter, without secrets.
    batch
        Names a folder that the batch keeps between its kernels, "" for none.
    api_token
        With which the kernel may speak to the backend, through a socket of its own.
    """

    session_id: Annotated[str, Meta(pattern=_UUID)]
    kernel_id: Annotated[str, Meta(pattern=_UUID)]
    argv: Annotated[list[str], Meta(min_length=1, max_length=256)]
    writable_roots: list[AbsolutePath]
    ingest: Ingest
    api_token: str
    cwd: str = ""
    env: dict[str, str] = {}
    network: bool = False
    accept_tier: str | None = None
    batch: Annotated[str, Meta(pattern=r"^[0-9a-f]{0,64}$")] = ""


class KernelAudit:
    """A sink that marks what it is given as seen by a kernel's provisioner."""

    def __init__(self, sink: AuditSink) -> None:
        self._sink = sink

    def record(self, record: AuditRecord) -> None:
        """Keep one record.

        Raises
        ------
        AuditUnavailable
            When it cannot be kept.
        """
        self._sink.record(replace(record, source="provisioner"))

    def settle(self) -> None:
        """Wait until every record so far would outlive this process."""
        self._sink.settle()


def environment_of(
    request: KernelRequest, policy: Policy, sockets: Path, withheld: Iterable[str] = ()
) -> dict[str, str]:
    """Return the kernel's environment: what it asked for, and its own folders.

    Parameters
    ----------
    request
        Of the provisioner.
    policy
        The kernel's.
    sockets
        Its folder with what it may only read.
    withheld
        Hosts whose passwords pip's file there lacks.
    """
    base = base_env(policy, network=request.network)
    # pip's settings are in a file of the kernel's own.
    own = {
        name: value
        for name, value in base.items()
        if name not in _LEFT_OUT and (name in _PIP_OWN or not name.startswith("PIP_"))
    }
    modules = [request.env.get("PYTHONPATH", ""), str(sockets)]
    roots = [path for path in policy.writable if path.name != request.batch or not request.batch]
    batch = [path for path in policy.writable if request.batch and path.name == request.batch]
    env = {**own, **pip_environment(sockets, withheld, network=request.network), **request.env}
    env |= {
        "HOME": own["HOME"],
        "TMPDIR": own["TMPDIR"],
        "IPYTHONDIR": str(policy.private_home / ".ipython"),
        # The environment is not the kernel's to change: what it installs is its own.
        "PIP_PREFIX": str(policy.private_home / "packages"),
        "PYTHONPATH": os.pathsep.join(filter(None, modules)),
        "PYTHONSTARTUP": str(sockets / "startup.py"),
        "PYTHONDONTWRITEBYTECODE": "1",
        # What ipykernel takes for "a parent looks after me".
        "JPY_PARENT_PID": "1",
        "ROOTBOUND_SOCKET": str(sockets / DOOR),
        "ROOTBOUND_ROOTS": os.pathsep.join(map(str, roots)),
    }
    if batch:
        env["ROOTBOUND_BATCH_LEDGER"] = str(batch[0] / "batch.json")
    return env


def write_startup(folder: Path) -> None:
    """Lay what an IPython kernel runs first where the kernel cannot write.

    In its home an earlier life of it could have laid a link.
    """
    source = Path(__file__).with_name("kernel_startup.py")
    shutil.copyfile(source, folder / f"{STARTUP}.py")
    write_atomic(folder / "startup.py", _STARTUP_CODE, durable=False)
