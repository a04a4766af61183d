"""What crosses between Jupyter and the backend, and what does not."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_plus, urlsplit

__all__ = ["BACKEND_HOST", "backend_target", "request_headers", "response_headers"]

BACKEND_HOST = "localhost"
"""The ``Host`` that the backend sees; the browser's own is Jupyter's business."""

# Requests are filtered by what is allowed: proxies in front of Jupyter add credentials under names
# of their own, and Django reads ``X_Rootbound_Identity`` as ``X-Rootbound-Identity``.
_REQUEST_ALLOWED = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "idempotency-key",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "last-event-id",
        "prefer",
        "range",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-request-id",
    }
)

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# Answers are filtered by what is forbidden: whatever would change Jupyter's own origin.
_RESPONSE_DROPPED = _HOP_BY_HOP | {
    "alt-svc",
    "clear-site-data",
    "content-security-policy",
    "content-security-policy-report-only",
    "date",
    "server",
    "service-worker-allowed",
    "set-cookie",
    "strict-transport-security",
    "www-authenticate",
    "x-content-type-options",
}

_PATH_HEADERS = frozenset({"location", "content-location"})


def request_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the request headers that the backend may see.

    Parameters
    ----------
    headers
        Name and value pairs as the client sent them.

    Returns
    -------
    list of tuple
        The allowed ones, in order. Never among them: ``Authorization``, ``Cookie``,
        ``X-XSRFToken``, ``Referer``, ``X-Rootbound-*``, ``X-Forwarded-*`` and hop-by-hop headers.
    """
    # Tornado reads and writes header values as Latin-1, aiohttp as UTF-8.
    return [
        (name, value.encode("latin-1").decode("utf-8", "replace"))
        for name, value in headers
        if name.lower() in _REQUEST_ALLOWED
    ]


def response_headers(
    headers: Iterable[tuple[str, str]], *, prefix: str, host: str = BACKEND_HOST
) -> list[tuple[str, str]]:
    """Return the backend's response headers that the client may see.

    Parameters
    ----------
    headers
        Name and value pairs as the backend sent them.
    prefix
        Path that stands before the backend's paths in Jupyter, without a trailing slash;
        ``Location`` and ``Content-Location`` are rewritten with it.
    host
        The ``Host`` that the backend was asked under.
    """
    pairs = list(headers)
    named = {
        token.strip().lower()
        for name, value in pairs
        if name.lower() == "connection"
        for token in value.split(",")
    }
    kept: list[tuple[str, str]] = []
    for name, value in pairs:
        lower = name.lower()
        if lower in _RESPONSE_DROPPED or lower in named or lower.startswith("access-control-"):
            continue
        outer = _outer_location(value, prefix, host) if lower in _PATH_HEADERS else value
        kept.append((name, outer.encode("utf-8", "surrogateescape").decode("latin-1")))
    return kept


def _outer_location(value: str, prefix: str, host: str) -> str:
    parts = urlsplit(value)
    ours = not parts.netloc or parts.netloc == host
    if not ours or not parts.path.startswith("/"):
        return value
    return parts._replace(scheme="", netloc="", path=prefix + parts.path).geturl()


_OF_JUPYTER = frozenset({"token", "no_track_activity"})


def backend_target(path: str, query: str) -> str:
    """Return the request target for the backend, still percent-encoded.

    Parameters
    ----------
    path
        Path below the prefix, percent-encoded as the client sent it, for example ``/api/me/``.
    query
        The raw query string; Jupyter's own parameters (``token``, ``no_track_activity``) are
        dropped from it.
    """
    kept = [
        part
        for part in query.split("&")
        if part and unquote_plus(part.partition("=")[0]).strip().lower() not in _OF_JUPYTER
    ]
    return f"{path}?{'&'.join(kept)}" if kept else path
