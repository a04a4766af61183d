"""Errors as RFC 9457 ``application/problem+json``."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import JSONResponse, Response

MEDIA_TYPE: Final = "application/problem+json"
_TYPES: Final = "https://rootbound.dev/problems/"
_TITLES: Final = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Not acceptable",
    500: "Internal error",
    503: "Not available",
}


def document(status: int, code: str, detail: str, **extras: Any) -> dict[str, Any]:
    """Return the members of a problem."""
    return {
        "type": f"{_TYPES}{code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        **extras,
    }


def problem(status: int, code: str, detail: str, **extras: Any) -> Response:
    """Return an error as a response."""
    return JSONResponse(document(status, code, detail, **extras), status, media_type=MEDIA_TYPE)
