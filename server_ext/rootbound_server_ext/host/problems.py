"""Errors of the host as RFC 9457 problems."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import responses
from typing import Any

from tornado import web

__all__ = ["PROBLEM_TYPE", "HostProblem", "not_ready", "problem_body"]

PROBLEM_TYPE = "application/problem+json"

_CODES = {
    400: "bad-request",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    500: "host-error",
}


class HostProblem(web.HTTPError):
    """An error answer of the host itself.

    Parameters
    ----------
    status
        HTTP status, 400 or more.
    code
        Stable code, for example ``"stack-starting"``.
    detail
        One sentence with the way out.
    headers
        Extra response headers; default none.
    extras
        Extra members of the problem; default none.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extras = dict(extras or {})


def not_ready(code: str, detail: str, *, retry_after_s: int = 1) -> HostProblem:
    """Return the 503 problem for a backend that cannot be asked yet.

    Parameters
    ----------
    code
        ``stack-starting``, ``stack-stopped``, ``stack-failed`` or ``backend-unreachable``.
    detail
        One sentence with the way out.
    retry_after_s
        Seconds after which asking again makes sense; default 1.
    """
    return HostProblem(503, code, detail, headers={"Retry-After": str(max(1, retry_after_s))})


def problem_body(
    status: int, *, code: str | None = None, detail: str = "", **extras: Any
) -> dict[str, Any]:
    """Return a problem object.

    Parameters
    ----------
    status
        HTTP status.
    code
        Stable code; default derived from the status.
    detail
        One sentence; default the status' standard phrase.
    **extras
        Further members.
    """
    title = responses.get(status, "Error")
    name = code or _CODES.get(status, f"http-{status}")
    return {
        "type": f"https://rootbound.dev/problems/{name}",
        "title": title,
        "status": status,
        "detail": detail or f"{title}.",
        "code": name,
        **extras,
    }
