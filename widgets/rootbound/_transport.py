"""What to do for an operation: send, wait, send again.

Written as generators that perform no I/O themselves (`Flow`); a transport carries the steps out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from ._operations import Operation
from .discovery import Endpoint
from .errors import ConnectionFailedError, ServerError, error_from_problem

T = TypeVar("T")

_TRIES = 4
_MAX_PAUSE_S = 5.0


@dataclass(frozen=True)
class Send:
    """Step: send one HTTP request; the flow is resumed with the response."""

    method: str
    url: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Pause:
    """Step: wait `seconds`."""

    seconds: float


Step = Send | Pause
Flow = Generator[Step, Any, T]


def call(endpoint: Endpoint, operation: Operation[T]) -> Flow[T]:
    """Execute one operation, trying again where that is safe and can help.

    Parameters
    ----------
    endpoint : Endpoint
        Address and token; refreshed when the token is refused or the address is dead.
    operation : Operation
        What to ask.

    Returns
    -------
    T
        The parsed answer.

    Raises
    ------
    RootboundError
        The subclass that fits the problem.
    """
    may_refresh = True
    for attempt in range(_TRIES):
        is_last = attempt == _TRIES - 1
        try:
            response: httpx.Response = yield _send(endpoint, operation)
        except httpx.HTTPError as error:
            # A connection that never opened carried nothing: any request may be sent again.
            is_safe = operation.is_repeatable or isinstance(error, httpx.ConnectError)
            if may_refresh and is_safe and endpoint.refresh():
                may_refresh = False
                continue
            if is_last or not operation.is_repeatable or not _is_cut(error):
                raise _connection_error(endpoint, error) from error
            yield Pause(0.1 * 2**attempt)
            continue
        if response.status_code == 401 and may_refresh and endpoint.refresh():
            may_refresh = False
            continue
        if response.status_code == 503 and "Retry-After" in response.headers and not is_last:
            yield Pause(_retry_after(response))
            continue
        return operation.parse(_decode(response, operation))
    raise ServerError(f"The server at {endpoint.url} is not ready; try again in a moment.")


def _send(endpoint: Endpoint, operation: Operation[Any]) -> Send:
    headers = {"Accept": "application/json", **endpoint.headers}
    if operation.key:
        headers["Idempotency-Key"] = operation.key
    return Send(
        operation.method,
        endpoint.url + operation.path,
        operation.query,
        headers,
        operation.body,
    )


def _is_cut(error: httpx.HTTPError) -> bool:
    """Return whether the connection was lost midway, which a restart of the server explains."""
    return isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError))


def _connection_error(endpoint: Endpoint, error: httpx.HTTPError) -> ConnectionFailedError:
    where = f"The server at {endpoint.url} ({endpoint.source})"
    if isinstance(error, httpx.TimeoutException):
        return ConnectionFailedError(f"{where} did not answer in time; it may be busy.")
    if isinstance(error, httpx.ConnectError):
        return ConnectionFailedError(f"{where} is not running; start it with `rootbound up`.")
    return ConnectionFailedError(f"The connection to {endpoint.url} broke: {error}.")


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds a 503 asks to wait, at most 5 (an HTTP date counts as 1)."""
    try:
        return min(max(float(response.headers["Retry-After"]), 0.05), _MAX_PAUSE_S)
    except ValueError:
        return 1.0


def _decode(response: httpx.Response, operation: Operation[Any]) -> Any:
    """Return the decoded body of a good answer; raise for any other."""
    what = f"{operation.method} {operation.path}"
    if response.status_code >= 300:
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        raise error_from_problem(
            response.status_code, problem if isinstance(problem, dict) else {}, what=what
        )
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise ServerError(
            f"The server answered {what} with something else than JSON; is it Rootbound?",
            status=response.status_code,
        ) from error
