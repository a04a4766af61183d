"""The errors that the SDK raises; all of them are `RootboundError`."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

_PACKAGE = str(Path(__file__).parent)


class RootboundError(Exception):
    """Base of every error that the SDK raises on purpose.

    Parameters
    ----------
    detail : str
        One sentence that says what happened and, where there is one, the way out.
    code : str or None, default None
        The problem's stable code, for example ``"dependencies-open"``.
    status : int or None, default None
        The HTTP status, when a server answered.
    problem : Mapping or None, default None
        The whole ``application/problem+json`` answer, with its extra members.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.problem: dict[str, Any] = dict(problem or {})

    def _render_traceback_(self) -> list[str]:
        """Show in IPython the line that was refused and why, without the SDK's own lines."""
        steps = traceback.extract_tb(self.__traceback__)
        theirs = list(takewhile(lambda step: not step.filename.startswith(_PACKAGE), steps))
        where = [f"Line {theirs[-1].lineno}: {theirs[-1].line}"] if theirs else []
        return [*where, f"{type(self).__name__}: {self}"]

    def as_problem(self) -> dict[str, Any]:
        """Return the error as a problem object, as widgets answer their front end.

        Returns
        -------
        dict
            The members ``title``, ``status``, ``detail`` and ``code``, and the server's extras.
        """
        return {
            "title": type(self).__name__,
            **self.problem,
            "status": self.status,
            "detail": self.detail,
            "code": self.code or "client-error",
        }


class DiscoveryError(RootboundError):
    """No server could be found, or several could and none is the obvious one."""


class ConnectionFailedError(RootboundError):
    """The server does not answer: refused, unreachable or too slow."""


class AuthenticationError(RootboundError):
    """The server refused the token (401), or there was none."""


class PermissionDeniedError(RootboundError):
    """The user is known but may not do this (403)."""


class NotFoundError(RootboundError):
    """The object does not exist, or belongs to somebody else (404)."""


class ConflictError(RootboundError):
    """The request is sound but not possible in the present state (409, 412)."""


class InvalidRequestError(RootboundError):
    """The request itself is wrong (400, 415, 422)."""


class ServerError(RootboundError):
    """The server failed, is not ready, or answered with something unreadable."""


class WaitTimeoutError(RootboundError):
    """Waiting took longer than asked for; what was waited for goes on."""


class DecompositionFailedError(RootboundError):
    """The PM agent produced no usable plan."""


class MissingDependencyError(RootboundError):
    """An optional package, or the built front end, is not installed."""


class DetachedInterrupt(KeyboardInterrupt):
    """Ctrl-C while watching: the SDK stopped watching, the work goes on.

    It is a `KeyboardInterrupt`, so that scripts and "run all cells" stop as usual.
    """

    def _render_traceback_(self) -> list[str]:
        """Show one line in IPython instead of a traceback."""
        return [str(self)]


_BY_STATUS: dict[int, type[RootboundError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    415: InvalidRequestError,
    422: InvalidRequestError,
}


def error_from_problem(status: int, problem: Mapping[str, Any], *, what: str) -> RootboundError:
    """Return the exception for an HTTP error answer.

    Parameters
    ----------
    status : int
        The HTTP status, 400 or more.
    problem : Mapping
        The decoded problem object; empty when the answer was not one.
    what : str
        The request, such as ``"GET /api/me/"``, named when the answer says nothing itself.

    Returns
    -------
    RootboundError
        An instance of the subclass that fits the status; it is not raised here.
    """
    default = ServerError if status >= 500 else RootboundError
    # Jupyter's own refusals carry "message" where problems carry "detail".
    detail = problem.get("detail") or problem.get("message") or problem.get("title")
    code = problem.get("code")
    return _BY_STATUS.get(status, default)(
        str(detail) if detail else f"The server answered {what} with HTTP status {status}.",
        code=str(code) if code else None,
        status=status,
        problem=problem,
    )
