# Written by widgets/generate_sync.py from aio_transport.py; change that one.
"""Executes operations over httpx."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import httpx

from ._transport import Flow, Pause, Step
from .discovery import Endpoint, http_options

T = TypeVar("T")


class SyncTransport:
    """Carries out flows.

    Parameters
    ----------
    endpoint : Endpoint
        Where to.
    timeout : float
        Seconds for connecting, and between two bytes of an answer.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        transport = httpx.HTTPTransport(uds=endpoint.socket) if endpoint.socket else None
        self._http = httpx.Client(**http_options(endpoint.url, timeout), transport=transport)

    def run(self, flow: Flow[T]) -> T:
        """Carry out a flow and return its result."""
        reply: Any = None
        failure: Exception | None = None
        try:
            while True:
                step = flow.throw(failure) if failure else flow.send(reply)
                reply, failure = None, None
                try:
                    reply = self._perform(step)
                except httpx.HTTPError as error:
                    failure = error
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    def _perform(self, step: Step) -> httpx.Response | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        return self._http.request(
            step.method, step.url, params=step.params, headers=step.headers, json=step.body
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
