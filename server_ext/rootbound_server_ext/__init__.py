"""Rootbound's Jupyter server extension."""

from __future__ import annotations

from typing import Any

from rootbound._version import __version__

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .app import RootboundApp

    return [{"module": "rootbound_server_ext", "app": RootboundApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "@rootbound/lab"}]
