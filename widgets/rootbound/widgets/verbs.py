"""The messages that act on attempts, shared by the widgets that offer them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..objects import Attempt
from .base import Handler


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
        return attempt_of(params).reject(reason if isinstance(reason, str) else "").raw

    return {
        "approve": lambda params: attempt_of(params).approve().raw,
        "reject": reject,
        "cancel": lambda params: attempt_of(params).cancel().raw,
    }
