"""Every address that the backend serves, as its URL configuration says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

__all__ = ["filled", "routes"]


def routes(found: Any = None, prefix: str = "/") -> Iterator[tuple[str, str]]:
    """Yield path and name of every route."""
    for one in (found or get_resolver()).url_patterns:
        path = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from routes(one, path)
        elif isinstance(one, URLPattern):
            yield path, one.name or ""


def filled(path: str, value: Callable[[str, str], object]) -> str:
    """Put a value, by its kind and its name, in each place of a path."""
    while "<" in path:
        place = path[path.index("<") + 1 : path.index(">")]
        kind, _, name = place.partition(":")
        path = path.replace(f"<{place}>", str(value(kind, name)))
    return path
