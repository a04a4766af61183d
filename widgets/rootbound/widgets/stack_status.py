"""The state of the services and of enforcement on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from .. import _html as html
from ..client import Client, connect
from .base import BaseWidget, text_param
from .feed import Source

_POLL_S = 5.0


class StackStatus(BaseWidget):
    """A live view of the services, the enforcement tier and the roots.

    Parameters
    ----------
    client : Client or None, default None
        The connection to use; None calls `rootbound.connect`.
    **kwargs
        Traits, such as ``theme``.
    """

    _bundle_name = "stack_status"

    def __init__(self, client: Client | None = None, **kwargs: Any) -> None:
        self._client = client or connect()
        super().__init__(**kwargs)
        self._handlers["withdraw_root"] = self._withdraw

    def _withdraw(self, params: dict[str, Any]) -> dict[str, Any]:
        self._client.roots.remove(text_param(params, "root_id"))
        self._state = self._load()
        return self._state

    def _load(self) -> dict[str, Any]:
        return {"status": read_status(self._client)}

    def _source(self) -> Source:
        # Bound to a name, so that the thread does not keep the widget alive.
        client = self._client

        def follow(stop: threading.Event) -> Iterator[dict[str, Any]]:
            while not stop.wait(_POLL_S):
                yield read_status(client)

        return follow

    def _take(self, items: list[Any]) -> None:
        status = items[-1]
        if status != self._state.get("status"):
            self._state = {"status": status}
            self._push("status", status)

    def to_html(self) -> str:
        """Return the state as static HTML, read from the server now."""
        status = read_status(self._client)
        services = html.services(status["stack"]["services"], "Services (snapshot)")
        return services + html.status(status["local_access"])


def read_status(client: Client) -> dict[str, Any]:
    """Return what the view shows: the services' health, and the LDA's with the roots.

    Parameters
    ----------
    client : Client
        The connection to use.

    Returns
    -------
    dict
        ``{"stack": {"url", "services"}, "local_access": {"lda", "roots"}}``.
    """
    health = client.health()
    services = {
        name: {**service, "message": service.get("detail")}
        for name, service in health.services.items()
        if isinstance(service, dict)
    }
    stack = {**health.raw, "url": client.endpoint.url, "services": services}
    return {"stack": stack, "local_access": client.status().raw}
