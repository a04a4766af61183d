"""Having the stack up, for whoever works without a JupyterLab that does."""

from __future__ import annotations

import os

from .errors import RootboundError

__all__ = ["ensure_server"]


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
