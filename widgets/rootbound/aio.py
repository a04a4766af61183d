"""The asynchronous client: the surface of `rootbound.client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from . import _flows as flows
from . import _operations as ops
from . import costs, models
from ._transport import AsyncTransport, Flow, call
from .access import AsyncClientAsking
from .aio_machines import AsyncMachines
from .aio_objects import AsyncAttempt, AsyncDecomposition, AsyncProject, AsyncTask
from .audit import AsyncAuditQuery
from .discovery import Endpoint, find_endpoint
from .review import AsyncClientCare
from .schedules import AsyncSchedules
from .tables import Listing

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)


async def connect_async(
    url: str | None = None,
    token: str | None = None,
    *,
    timeout: float = 30.0,  # noqa: ASYNC109 (a setting of the client, not a deadline of this call)
    home: str | Path | None = None,
) -> AsyncClient:
    """Find the running Rootbound; parameters and errors as for `rootbound.connect`.

    Returns
    -------
    AsyncClient
        A client whose server has answered.
    """
    endpoint = await asyncio.to_thread(find_endpoint, url, token, home=home)
    return AsyncClient(endpoint, timeout=timeout)


class AsyncClient(AsyncClientCare, AsyncClientAsking):
    """A connection to one Rootbound server, for asyncio; see `Client`.

    Parameters
    ----------
    endpoint : Endpoint
        The server and the token.
    timeout : float, default 30.0
        Seconds to wait for an answer.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 30.0) -> None:
        self.endpoint = endpoint
        self._transport = AsyncTransport(endpoint, timeout)
        self.projects = AsyncProjects(self)
        self.roots = AsyncRoots(self)
        self.agents = AsyncAgents(self)
        self.schedules = AsyncSchedules(self)
        self.machines = AsyncMachines(self)

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.endpoint.url} ({self.endpoint.source})>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; running work is not affected."""
        await self._transport.close()

    async def _run(self, flow: Flow[T]) -> T:
        return await self._transport.run(flow)

    async def _call(self, operation: ops.Operation[T]) -> T:
        return await self._run(call(self.endpoint, operation))

    async def _all(self, cls: type[M], *parts: object, **params: Any) -> Listing[M]:
        return await self._run(flows.all_pages(self.endpoint, cls, self, *parts, **params))

    async def _each(self, cls: type[M], *parts: object) -> AsyncIterator[M]:
        pages = flows.Pages(cls, self, *parts)
        while pages.more:
            for item in pages.take(await self._call(pages.next())):
                yield item

    async def me(self) -> models.Me:
        """Return the user the server takes you for."""
        return await self._call(ops.read(models.Me, None, "me"))

    async def health(self) -> models.Health:
        """Return the server's health, service by service."""
        return await self._call(ops.read(models.Health, None, "health"))

    async def status(self) -> models.Status:
        """As `Client.status`."""
        return await self._call(ops.read(models.Status, None, "local-access", "status"))

    async def task(self, task_id: str) -> AsyncTask:
        """Return a task by its id."""
        return await self._call(ops.read(AsyncTask, self, "tasks", task_id))

    async def attempt(self, attempt_id: str) -> AsyncAttempt:
        """Return an attempt by its id."""
        return await self._call(ops.read(AsyncAttempt, self, "attempts", attempt_id))

    async def decomposition(self, decomposition_id: str) -> AsyncDecomposition:
        """Return a plan by its id."""
        return await self._call(
            ops.read(AsyncDecomposition, self, "decompositions", decomposition_id)
        )

    def audit(
        self,
        *,
        attempt: str | None = None,
        run: str | None = None,
        task: str | None = None,
        project: str | None = None,
        user: str | None = None,
        operation: str | None = None,
        result: str | None = None,
        source: str | None = None,
        program: str | None = None,
        path_prefix: str | None = None,
        glob: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        limit: int | None = None,
        page_size: int = 200,
    ) -> AsyncAuditQuery:
        """As `Client.audit`; use ``async for``."""
        wanted = {name: value for name, value in locals().items() if name != "self"}
        return AsyncAuditQuery(self, **wanted)

    async def audit_summary(
        self, *, attempt: str | None = None, project: str | None = None
    ) -> models.AuditSummary:
        """As `Client.audit_summary`."""
        operation = ops.read(
            models.AuditSummary, None, "audit", "summary", attempt=attempt, project=project
        )
        return await self._call(operation)

    async def costs(
        self,
        *,
        project: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
    ) -> costs.Costs:
        """As `Client.costs`."""
        return await self._call(costs.operation(project, since, until))


class AsyncProjects:
    """As `Projects`, awaited."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, project_id: str) -> AsyncProject:
        """As `Projects.get`."""
        return await self._client._call(
            ops.read(AsyncProject, self._client, "projects", project_id)
        )

    async def find(self, wanted: str | None = None) -> AsyncProject:
        """As `Projects.find`."""
        client = self._client
        return await client._run(flows.find_project(client.endpoint, AsyncProject, client, wanted))

    async def create(
        self,
        name: str,
        repo_path: str | PathLike[str],
        *,
        install_cmd: str | None = None,
        test_cmd: str | None = None,
        lint_cmd: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> AsyncProject:
        """As `Projects.create`."""
        commands = {"install_cmd": install_cmd, "test_cmd": test_cmd, "lint_cmd": lint_cmd}
        body = ops.project_body(name, repo_path, config, commands)
        return await self._client._call(
            ops.write(AsyncProject, self._client, "POST", "projects", body=body)
        )

    async def delete(self, project_id: str) -> None:
        """As `Projects.delete`."""
        await self._client._call(ops.delete("projects", project_id))

    def __aiter__(self) -> AsyncIterator[AsyncProject]:
        return self._client._each(AsyncProject, "projects")

    async def list(self) -> Listing[AsyncProject]:
        """As `Projects.list`."""
        return await self._client._all(AsyncProject, "projects")


class AsyncRoots:
    """As `Roots`, awaited."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def add(self, path: str | PathLike[str]) -> models.Root:
        """As `Roots.add`."""
        body = {"path": ops.absolute(path)}
        return await self._client._call(
            ops.write(models.Root, None, "POST", "local-access", "roots", body=body)
        )

    async def remove(self, root_id: str) -> None:
        """As `Roots.remove`."""
        await self._client._call(ops.delete("local-access", "roots", root_id))

    async def enable(self, root_id: str, enabled: bool = True) -> models.Root:
        """As `Roots.enable`."""
        body = {"is_enabled": enabled}
        return await self._client._call(
            ops.write(models.Root, None, "PATCH", "local-access", "roots", root_id, body=body)
        )

    def __aiter__(self) -> AsyncIterator[models.Root]:
        return self._client._each(models.Root, "local-access", "roots")

    async def list(self) -> Listing[models.Root]:
        """As `Roots.list`."""
        return await self._client._all(models.Root, "local-access", "roots")


class AsyncAgents:
    """As `Agents`, awaited."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, agent_id: str) -> models.Agent:
        """As `Agents.get`."""
        return await self._client._call(ops.read(models.Agent, None, "agents", agent_id))

    async def create(
        self, name: str, *, provider: str, model: str, role: str, **fields: Any
    ) -> models.Agent:
        """As `Agents.create`."""
        body = {"name": name, "provider": provider, "model": model, "role": role, **fields}
        return await self._client._call(ops.write(models.Agent, None, "POST", "agents", body=body))

    async def update(self, agent_id: str, **changes: Any) -> models.Agent:
        """As `Agents.update`."""
        return await self._client._call(
            ops.write(models.Agent, None, "PATCH", "agents", agent_id, body=changes)
        )

    async def delete(self, agent_id: str) -> None:
        """As `Agents.delete`."""
        await self._client._call(ops.delete("agents", agent_id))

    def __aiter__(self) -> AsyncIterator[models.Agent]:
        return self._client._each(models.Agent, "agents")

    async def list(self) -> Listing[models.Agent]:
        """As `Agents.list`."""
        return await self._client._all(models.Agent, "agents")
