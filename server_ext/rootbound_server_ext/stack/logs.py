"""What the services wrote."""

from __future__ import annotations

from pathlib import Path

from rootbound import paths
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.process import log_tail
from rootbound_server_ext.stack.state import SERVICE_NAMES

__all__ = ["LOG_NAMES", "service_log"]

LOG_NAMES = ("guard", "migrate", *SERVICE_NAMES)
"""Services, and what else has a log of its own."""


def service_log(home: Path, service: str, lines: int = 200) -> str:
    """Return the last lines of a service's log; empty when it has none yet.

    Parameters
    ----------
    home
        State folder.
    service
        One of `LOG_NAMES`.
    lines
        How many, within the last 64 KiB.

    Raises
    ------
    StackError
        When there is no such service.
    """
    if service not in LOG_NAMES:
        raise StackError(f"There is no service {service!r}; one of {', '.join(LOG_NAMES)}.")
    return log_tail(paths.logs_dir(home) / f"{service}.log", lines)
