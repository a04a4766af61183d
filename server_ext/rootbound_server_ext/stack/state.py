"""What is known about a stack: the content of ``run/stack.json``."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rootbound import paths
from rootbound_server_ext.stack.secrets import write_private

__all__ = ["SERVICE_NAMES", "ServiceInfo", "StackInfo", "read_stack", "stack_id", "write_stack"]

ServiceState = Literal["starting", "ready", "stopped", "failed"]

SERVICE_NAMES = ("postgres", "redis", "backend", "worker", "beat", "lda")
"""Services in starting order; they are stopped in the opposite order."""


@dataclass
class ServiceInfo:
    """One service.

    Attributes
    ----------
    state
        ``starting``, ``ready``, ``stopped`` or ``failed`` (given up after several quick ends).
    address
        Socket path or URL; None when it has none or it is not known yet. Never holds a password.
    pid
        Process id; None when it does not run or is not ours (an external database).
    """

    state: ServiceState = "stopped"
    address: str | None = None
    pid: int | None = None


@dataclass
class StackInfo:
    """A stack.

    Attributes
    ----------
    url
        The backend's loopback URL.
    backend_socket
        The backend's unix socket.
    guard_pid
        Process id of the guard; None when there is none.
    guard_socket
        The guard's unix socket.
    started_at
        When the guard started, RFC 3339, UTC.
    services
        By name.
    rootbound
        Version of the distribution that runs it.
    """

    url: str
    backend_socket: str
    guard_pid: int | None
    guard_socket: str
    started_at: str
    services: dict[str, ServiceInfo] = field(default_factory=dict)
    rootbound: str = ""
    version: int = 1

    @property
    def ready(self) -> bool:
        """Whether every service is ready."""
        return bool(self.services) and all(one.state == "ready" for one in self.services.values())

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form of ``stack.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StackInfo:
        """Build from the JSON form.

        Raises
        ------
        KeyError, TypeError, ValueError
            When the data are not those of a stack.
        """
        services = {name: ServiceInfo(**one) for name, one in data["services"].items()}
        return cls(
            url=data["url"],
            backend_socket=data["backend_socket"],
            guard_pid=data["guard_pid"],
            guard_socket=data["guard_socket"],
            started_at=data["started_at"],
            services=services,
            rootbound=data["rootbound"],
            version=data["version"],
        )


def read_stack(home: Path | str | None = None) -> StackInfo | None:
    """Return the last written state of the stack, or None when there is none or it is damaged."""
    try:
        data = json.loads(paths.stack_file(home).read_text(encoding="utf-8"))
        return StackInfo.from_json(data)
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def write_stack(home: Path | str | None, info: StackInfo) -> None:
    """Replace ``run/stack.json`` atomically (mode 0600).

    Raises
    ------
    OSError
        When it cannot be written.
    """
    data = json.dumps(info.to_json(), indent=1, sort_keys=True) + "\n"
    write_private(paths.stack_file(home), data.encode())


def stack_id(home: Path | str | None = None) -> str:
    """Return the persistent id of the state folder's stack; it marks its processes.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    path = paths.run_dir(home) / "stack.id"
    try:
        known = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        known = ""
    if known:
        return known
    fresh = str(uuid.uuid4())
    write_private(path, fresh.encode())
    return fresh
