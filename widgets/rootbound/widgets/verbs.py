"""The messages that act on attempts, shared by the widgets that offer them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from .. import _operations as ops
from ..access import AccessRequest
from ..client import Client
from ..errors import InvalidRequestError
from ..objects import Attempt
from .base import Handler, text_param


def attempt_verbs(attempt_of: Callable[[dict[str, Any]], Attempt]) -> dict[str, Handler]:
    """Return the handlers for ``approve``, ``reject`` and ``cancel``.

    Parameters
    ----------
    attempt_of : callable
        Given a message's params, returns the `Attempt` to act on.

    Returns
    -------
    dict
        Handlers by method; each answers with the attempt's JSON.
    """

    def reject(params: dict[str, Any]) -> dict[str, Any]:
        reason = params.get("reason")
        text = reason if isinstance(reason, str) else ""
        return attempt_of(params).reject(text, version=version_param(params)).raw

    return {
        "approve": lambda params: attempt_of(params).approve(version=version_param(params)).raw,
        "reject": reject,
        "cancel": lambda params: attempt_of(params).cancel(version=version_param(params)).raw,
    }


def form_verbs(
    client: Client, ways: Sequence[str], is_shown: Callable[[str], bool] = lambda _place: True
) -> dict[str, Handler]:
    """Return the handlers for ``read`` and ``write``, by which a view's forms ask the API.

    Parameters
    ----------
    client : Client
        The connection to use.
    ways : sequence of str
        What may be asked, as regular expressions of ``"METHOD path"`` without a query; anything
        else is refused, so that a view stays with what it shows.
    is_shown : callable
        Given such a path, whether the view shows what it names; by default it does.

    Returns
    -------
    dict
        Handlers by method; each answers with the API's JSON.
    """
    allowed = re.compile("|".join(f"(?:{way})" for way in ways))

    def ask(method: str, params: dict[str, Any]) -> Any:
        place, _, query = text_param(params, "path").partition("?")
        if not allowed.fullmatch(f"{method} {place}") or not is_shown(place):
            raise InvalidRequestError(
                f"This view does not ask for {method} {place}.", code="invalid-params"
            )
        return client._call(
            ops.Operation(
                method, f"/{place}", lambda raw: raw, dict(parse_qsl(query)), params.get("body"),
                None if method == "GET" else uuid.uuid4().hex,
            )
        )  # fmt: skip

    return {
        "read": lambda params: ask("GET", params),
        "write": lambda params: ask(text_param(params, "method"), params),
    }


def version_param(params: dict[str, Any]) -> int | None:
    """Return the version of the task that the sender saw; None when it does not say."""
    version = params.get("version")
    return version if isinstance(version, int) else None


def access_verbs(requests_of: Callable[[], list[AccessRequest]]) -> dict[str, Handler]:
    """Return the handlers for ``access_requests``, ``grant_access`` and ``refuse_access``.

    Parameters
    ----------
    requests_of : callable
        Returns the requests that the widget shows; only these can be decided through it.

    Returns
    -------
    dict
        Handlers by method; each answers with JSON of requests.
    """

    def one(params: dict[str, Any]) -> AccessRequest:
        wanted = text_param(params, "request_id")
        found = next((request for request in requests_of() if request.id == wanted), None)
        if found is None:
            raise InvalidRequestError("This view shows no such request.", code="invalid-params")
        return found

    def grant(params: dict[str, Any]) -> dict[str, Any]:
        scope = params.get("scope")
        if scope not in ("task", "always"):
            raise InvalidRequestError("scope must be task or always.", code="invalid-params")
        return one(params).grant(scope).raw

    return {
        "access_requests": lambda _params: [request.raw for request in requests_of()],
        "grant_access": grant,
        "refuse_access": lambda params: one(params).refuse().raw,
    }
