"""The client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from . import _flows as flows
from . import _html as html
from . import _operations as ops
from . import costs, models
from ._transport import Flow, call
from .aio_access import AsyncAccessRequest
from .aio_audit import AsyncAuditQuery
from .aio_machines import AsyncMachines
from .aio_objects import AsyncAttempt, AsyncDecomposition, AsyncProject, AsyncTask
from .aio_review import AsyncClientCare
from .aio_schedules import AsyncSchedules
from .aio_transport import AsyncTransport
from .discovery import Endpoint, find_endpoint
from .tables import Listing

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)


async def connect_async(
    url: str | None = None,
    token: str | None = None,
    *,
    timeout: float = 30.0,  # noqa: ASYNC109 (a setting of the client, no deadline of this call)
    home: str | Path | None = None,
) -> AsyncClient:
    """Find the running Rootbound and connect to it.

    Looked for in this order: the arguments; ``ROOTBOUND_URL`` and ``ROOTBOUND_TOKEN``; the
    JupyterHub variables; running Jupyter servers (the one this kernel belongs to, else the one
    whose folder holds the current folder); the headless stack of ``rootbound up``.

    Parameters
    ----------
    url : str or None, default None
        Address of a Jupyter server or of a headless stack.
    token : str or None, default None
        The token for `url`.
    timeout : float, default 30.0
        Seconds to wait for an answer of the server.
    home : str, Path or None, default None
        State folder of the headless stack to use, and no other server.

    Returns
    -------
    AsyncClient
        A client whose server has answered.

    Raises
    ------
    DiscoveryError
        If no server is found or several fit; the message says what was tried and what to do.
    AuthenticationError
        If the named server refuses the token.
    """
    endpoint = await asyncio.to_thread(find_endpoint, url, token, home=home)
    return AsyncClient(endpoint, timeout=timeout)


class AsyncClient(AsyncClientCare):
    """A connection to one Rootbound server. Usually made by `rootbound.connect_async`.

    It may be shared by tasks (the synchronous one: by threads), and is a context manager that
    closes it.

    Parameters
    ----------
    endpoint : Endpoint
        The server and the token.
    timeout : float, default 30.0
        Seconds to wait for an answer.

    Attributes
    ----------
    projects : AsyncProjects
    roots : AsyncRoots
    agents : AsyncAgents
    schedules : AsyncSchedules
    machines : AsyncMachines
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

    def _repr_html_(self) -> str:
        facts = {"server": self.endpoint.url, "found by": self.endpoint.source}
        return html.facts("Rootbound client", facts)

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
        """Return what the Local Desktop Agent enforces on this machine, and the roots."""
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
        """Return the audit entries that match; nothing is read before you iterate.

        Parameters
        ----------
        attempt, run, task, project : str or None, default None
            Ids to filter by; a run is an attempt or a decomposition.
        user : str or None, default None
            Whose entries, by name; others' only for staff.
        operation : str or None, default None
            ``READ``, ``WRITE`` or ``DELETE``.
        result : str or None, default None
            ``ALLOWED`` or ``DENIED``.
        source : str or None, default None
            ``tool``, ``kernel`` or ``provisioner``.
        program : str or None, default None
            The program that did it, as recorded.
        path_prefix : str or None, default None
            The beginning of the path.
        glob : str or None, default None
            Such as ``/srv/**/*.py``: ``*`` and ``?`` within a folder, ``**`` across folders.
        since, until : datetime, str or None, default None
            Times, the end exclusive; texts are RFC 3339.
        limit : int or None, default None
            Entries in all, at most; None means all.
        page_size : int, default 200
            Entries asked for at a time.

        Returns
        -------
        AsyncAuditQuery
            Iterable; ``.df()`` gives a DataFrame.
        """
        wanted = {name: value for name, value in locals().items() if name != "self"}
        return AsyncAuditQuery(self, **wanted)

    async def access_requests(
        self,
        *,
        attempt: str | None = None,
        project: str | None = None,
        status: str | None = None,
    ) -> Listing[AsyncAccessRequest]:
        """Return what agents were denied and could be granted, newest first.

        Parameters
        ----------
        attempt, project : str or None, default None
            Ids to filter by.
        status : str or None, default None
            ``PENDING``, ``GRANTED``, ``REFUSED`` or ``EXPIRED``; None returns all.
        """
        return await self._all(
            AsyncAccessRequest, "access-requests", attempt=attempt, project=project, status=status
        )

    async def audit_summary(
        self, *, attempt: str | None = None, project: str | None = None
    ) -> models.AuditSummary:
        """Return the counts of audit entries by operation and result.

        Parameters
        ----------
        attempt, project : str or None, default None
            Ids to filter by.

        Returns
        -------
        AuditSummary
            The counts.
        """
        return await self._call(
            ops.read(
                models.AuditSummary, None, "audit", "summary", attempt=attempt, project=project
            )
        )

    async def costs(
        self,
        *,
        project: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
    ) -> costs.Costs:
        """Return tokens and money by day, project and role.

        Parameters
        ----------
        project : str or None, default None
            Id of one project; None for all of yours.
        since, until : datetime.date or str or None, default None
            First and last day, as ``YYYY-MM-DD``; None is 29 days back, and today.

        Returns
        -------
        Costs
            The rows, and `df` for a table.
        """
        return await self._call(costs.operation(project, since, until))


class AsyncProjects:
    """The projects of the user: ``client.projects``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[AsyncProject]:
        return self._client._each(AsyncProject, "projects")

    # | def _repr_html_(self) -> str:
    # |     return html.listing(
    # |         "Projects", self.list(), ("name", "repo_path", "task_counts", "id")
    # |     )

    async def get(self, project_id: str) -> AsyncProject:
        """Return a project by its id."""
        return await self._client._call(
            ops.read(AsyncProject, self._client, "projects", project_id)
        )

    async def find(self, wanted: str | None = None) -> AsyncProject:
        """Return a project by its id or its name.

        Parameters
        ----------
        wanted : str or None, default None
            Id or name; None takes the project made last.

        Returns
        -------
        AsyncProject
            The project.

        Raises
        ------
        NotFoundError
            If there is none, or several have the name; the message lists the names.
        """
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
        """Make a project.

        Parameters
        ----------
        name : str
            Up to 255 characters.
        repo_path : path
            A git work tree beneath an enabled root; a relative path starts at the current folder.
        install_cmd, test_cmd, lint_cmd : str or None, default None
            The gates' commands.
        config : Mapping or None, default None
            Further settings, such as ``max_parallel``; commands given by name win.

        Returns
        -------
        AsyncProject
            The new project.

        Raises
        ------
        InvalidRequestError
            If the repository cannot be used; the code says why, for example ``repo-not-git``.
        """
        commands = {"install_cmd": install_cmd, "test_cmd": test_cmd, "lint_cmd": lint_cmd}
        body = ops.project_body(name, repo_path, config, commands)
        return await self._client._call(
            ops.write(AsyncProject, self._client, "POST", "projects", body=body)
        )

    async def delete(self, project_id: str) -> None:
        """Delete a project in Rootbound; the repository itself is not touched."""
        await self._client._call(ops.delete("projects", project_id))

    # Last, because in the class body it hides the built-in type.
    async def list(self) -> Listing[AsyncProject]:
        """Return all projects."""
        return await self._client._all(AsyncProject, "projects")


class AsyncRoots:
    """The folders agents may write in: ``client.roots``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[models.Root]:
        return self._client._each(models.Root, "local-access", "roots")

    # | def _repr_html_(self) -> str:
    # |     columns = ("canonical_path", "is_enabled", "id")
    # |     return html.listing("Writable roots", self.list(), columns)

    async def add(self, path: str | PathLike[str]) -> models.Root:
        """Grant a folder for writing.

        Parameters
        ----------
        path : path
            The folder; a relative path starts at the current folder.

        Returns
        -------
        Root
            The root, with its canonical path.

        Raises
        ------
        InvalidRequestError
            If the folder cannot be a root; the code says why, for example ``root-is-home``.
        """
        body = {"path": ops.absolute(path)}
        return await self._client._call(
            ops.write(models.Root, None, "POST", "local-access", "roots", body=body)
        )

    async def remove(self, root_id: str) -> None:
        """Withdraw a root."""
        await self._client._call(ops.delete("local-access", "roots", root_id))

    async def enable(self, root_id: str, enabled: bool = True) -> models.Root:
        """Switch a root on (or off, with ``enabled=False``); return it."""
        body = {"is_enabled": enabled}
        return await self._client._call(
            ops.write(models.Root, None, "PATCH", "local-access", "roots", root_id, body=body)
        )

    async def list(self) -> Listing[models.Root]:
        """Return all roots, enabled or not."""
        return await self._client._all(models.Root, "local-access", "roots")


class AsyncAgents:
    """The agent profiles: ``client.agents``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __aiter__(self) -> AsyncIterator[models.Agent]:
        return self._client._each(models.Agent, "agents")

    # | def _repr_html_(self) -> str:
    # |     columns = ("name", "provider", "model", "role", "id")
    # |     return html.listing("Agents", self.list(), columns)

    async def get(self, agent_id: str) -> models.Agent:
        """Return a profile by its id."""
        return await self._client._call(ops.read(models.Agent, None, "agents", agent_id))

    async def create(
        self, name: str, *, provider: str, model: str, role: str, **fields: Any
    ) -> models.Agent:
        """Make a profile.

        Parameters
        ----------
        name : str
            For people.
        provider : str
            ``GLM`` or ``GEMINI``; its key comes from the environment or the OS keyring.
        model : str
            For example ``glm-7`` or ``gemini-2.5-flash``.
        role : str
            ``PM``, ``FRONTEND``, ``BACKEND``, ``QA`` or ``DEVOPS``.
        **fields
            ``system_prompt``, ``base_url``, ``settings``, ``limits``.

        Returns
        -------
        Agent
            The new profile.
        """
        body = {"name": name, "provider": provider, "model": model, "role": role, **fields}
        return await self._client._call(ops.write(models.Agent, None, "POST", "agents", body=body))

    async def update(self, agent_id: str, **changes: Any) -> models.Agent:
        """Change fields of a profile; return the result."""
        return await self._client._call(
            ops.write(models.Agent, None, "PATCH", "agents", agent_id, body=changes)
        )

    async def delete(self, agent_id: str) -> None:
        """Delete a profile."""
        await self._client._call(ops.delete("agents", agent_id))

    async def list(self) -> Listing[models.Agent]:
        """Return all profiles."""
        return await self._client._all(models.Agent, "agents")
