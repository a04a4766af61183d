"""Executes operations over httpx."""

from __future__ import annotations

import asyncio

# | import time
from typing import Any, TypeVar

import httpx

from ._transport import Flow, Pause, Step
from .discovery import Endpoint, http_options

T = TypeVar("T")


class AsyncTransport:
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
        transport = httpx.AsyncHTTPTransport(uds=endpoint.socket) if endpoint.socket else None
        self._http = httpx.AsyncClient(**http_options(endpoint.url, timeout), transport=transport)

    async def run(self, flow: Flow[T]) -> T:
        """Carry out a flow and return its result."""
        reply: Any = None
        failure: Exception | None = None
        try:
            while True:
                step = flow.throw(failure) if failure else flow.send(reply)
                reply, failure = None, None
                try:
                    reply = await self._perform(step)
                except httpx.HTTPError as error:
                    failure = error
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    async def _perform(self, step: Step) -> httpx.Response | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        return await self._http.request(
            step.method, step.url, params=step.params, headers=step.headers, json=step.body
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()
