"""The names under which Jupyter's authorizer is asked."""

from __future__ import annotations

from urllib.parse import unquote

from jupyter_server.auth.utils import HTTP_METHOD_TO_AUTH_ACTION

__all__ = ["DEFAULT_RESOURCE", "action_of", "has_dot_segment", "resource_of"]

DEFAULT_RESOURCE = "rootbound:api"

_COLLECTIONS = frozenset({"projects", "tasks", "attempts", "audit", "agents", "local-access"})


def resource_of(path: str) -> str:
    """Return the authorizer's resource name for a backend path.

    The innermost collection counts, so that ``/api/tasks/7/attempts/`` (which starts an attempt) is
    ``rootbound:attempts``. The path is decoded first, because the backend decodes it too.

    Parameters
    ----------
    path
        Path below the prefix, percent-encoded, starting with ``/api`` or ``/ws``.

    Returns
    -------
    str
        ``rootbound:projects``, ``:tasks``, ``:attempts``, ``:audit``, ``:agents``,
        ``:local-access``, or ``rootbound:api`` for everything else.
    """
    for segment in reversed(unquote(path).split("/")):
        if segment in _COLLECTIONS:
            return f"rootbound:{segment}"
    return DEFAULT_RESOURCE


def action_of(method: str) -> str:
    """Return ``read``, ``write`` or ``execute`` for an HTTP method or ``WEBSOCKET``.

    Unknown methods count as ``execute``, the most guarded of the three.
    """
    return HTTP_METHOD_TO_AUTH_ACTION.get(method.upper(), "execute")


def has_dot_segment(path: str) -> bool:
    """Tell whether a path holds ``.`` or ``..`` segments, also percent-encoded."""
    return any(segment in {".", ".."} for segment in unquote(path).split("/"))
