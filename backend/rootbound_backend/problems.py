"""Errors as RFC 9457 problem documents: one clear sentence, with the way out."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

__all__ = [
    "CONTENT_TYPE",
    "InvalidInput",
    "Problem",
    "bad_request",
    "exception_handler",
    "not_found",
    "page_not_found",
    "problem_document",
    "server_error",
]

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "https://rootbound.dev/problems/"


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A refusal that the user can act upon.

    Parameters
    ----------
    status
        HTTP status, 400 to 599.
    code
        Short stable name, lower case with hyphens; also the end of the problem's type URI.
    detail
        One sentence that says what is wrong and what to do.
    title
        Short name of the kind of problem; default made from `code`.
    extras
        Further members of the document, for example ``expected_seq``.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        title: str | None = None,
        extras: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.title = title or code.replace("-", " ").capitalize()
        self.extras = extras or {}


class InvalidInput(Problem):
    """A field of the request that cannot be used: 400 with the field named.

    Parameters
    ----------
    field
        Name of the field, dotted for nested ones.
    detail
        One sentence.
    code
        Default ``invalid``.
    """

    def __init__(self, *, field: str, detail: str, code: str = "invalid") -> None:
        super().__init__(
            status=400,
            code=code,
            detail=detail,
            title="Invalid input",
            extras={"errors": {field: [detail]}},
        )


def not_found(what: str) -> Problem:
    """Return the 404 for an object that is absent or belongs to somebody else."""
    return Problem(
        status=404, code="not-found", title="Not found", detail=f"There is no such {what}."
    )


def problem_document(
    *, status: int, code: str, title: str, detail: str, extras: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the body of a problem response."""
    return {
        "type": f"{TYPE_BASE}{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **(extras or {}),
    }


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn what a view raised into a problem response; None for a fault of ours.

    Parameters
    ----------
    exc
        The exception.
    context
        DRF's context of the request; unused.
    """
    problem = _as_problem(exc)
    if problem is None:
        return None
    response = Response(
        problem_document(
            status=problem.status,
            code=problem.code,
            title=problem.title,
            detail=problem.detail,
            extras=problem.extras,
        ),
        status=problem.status,
        content_type=CONTENT_TYPE,
    )
    if isinstance(exc, exceptions.APIException):
        if header := getattr(exc, "auth_header", None):
            response["WWW-Authenticate"] = header
        if (wait := getattr(exc, "wait", None)) is not None:
            response["Retry-After"] = str(int(wait))
    elif problem.status == 503:
        response["Retry-After"] = "2"
    return response


def _as_problem(exc: Exception) -> Problem | None:
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, Http404):
        return not_found("object")
    if isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    if isinstance(exc, RequestDataTooBig):
        return Problem(
            status=413,
            code="too-large",
            detail="The request is larger than 32 MiB; send smaller batches.",
        )
    if isinstance(exc, (OperationalError, InterfaceError)):
        # It restarts, or two writers met; nothing was stored, and a moment later it works.
        logger.warning("The database could not be used: %s", exc)
        return Problem(
            status=503,
            code="database-unavailable",
            detail="The database does not answer at the moment; try again in a few seconds.",
        )
    if isinstance(exc, (BadRequest, SuspiciousOperation)):
        return Problem(status=400, code="bad-request", detail="The request cannot be understood.")
    if isinstance(exc, exceptions.ValidationError):
        return _invalid(exc.detail)
    if isinstance(exc, exceptions.APIException):
        return _api_exception(exc)
    return None


def _api_exception(exc: exceptions.APIException) -> Problem:
    codes = exc.get_codes()
    code = codes.replace("_", "-") if isinstance(codes, str) else "error"
    detail = str(exc.detail)
    if isinstance(exc, exceptions.NotAuthenticated):
        detail = (
            "This needs a bearer token: run `rootbound token` and send it as "
            "`Authorization: Bearer ...`."
        )
    return Problem(status=exc.status_code, code=code, detail=detail)


def _invalid(detail: Any) -> Problem:
    errors = detail if isinstance(detail, dict) else {"body": detail}
    field, sentence = _first_error(errors)
    prefix = "" if field in {"", "body", "non_field_errors"} else f"{field}: "
    return Problem(
        status=400,
        code="invalid",
        title="Invalid input",
        detail=f"{prefix}{sentence}",
        extras={"errors": errors},
    )


def _first_error(errors: Any, path: str = "") -> tuple[str, str]:
    """Return the dotted path and text of the first leaf of DRF's nested errors."""
    if isinstance(errors, dict):
        for key, value in errors.items():
            if value:
                name = path if key == "non_field_errors" else f"{path}.{key}".lstrip(".")
                return _first_error(value, name)
    if isinstance(errors, list):
        for index, value in enumerate(errors):
            if isinstance(value, (dict, list)) and value:
                return _first_error(value, f"{path}[{index}]")
            if value:
                return path, str(value)
    return path, str(errors)


def _plain(*, status: int, code: str, title: str, detail: str) -> JsonResponse:
    return JsonResponse(
        problem_document(status=status, code=code, title=title, detail=detail),
        status=status,
        content_type=CONTENT_TYPE,
    )


def page_not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Answer a path that no route matches."""
    return _plain(
        status=404,
        code="not-found",
        title="Not found",
        detail=f"There is no endpoint {request.path}; see /api/schema/.",
    )


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Answer a request that Django itself refuses."""
    return _plain(
        status=400,
        code="bad-request",
        title="Bad request",
        detail="The request cannot be understood.",
    )


def server_error(request: HttpRequest) -> JsonResponse:
    """Answer after a fault of ours, which is in the log."""
    return _plain(
        status=500,
        code="internal",
        title="Internal error",
        detail="Rootbound failed here; `rootbound logs backend` shows why.",
    )
