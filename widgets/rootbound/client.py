# Written by widgets/generate_sync.py from aio.py; change that one.
"""The client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from .access import AccessRequest
from .audit import AuditQuery
from .discovery import Endpoint, find_endpoint
from .machines import Machines
from .objects import Attempt, Decomposition, Project, Task
from .review import ClientCare
from .schedules import Schedules
from .tables import Listing
from .transport import SyncTransport

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)


def connect(
    url: str | None = None,
    token: str | None = None,
    *,
    timeout: float = 30.0,
    home: str | Path | None = None,
) -> Client:
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
    Client
        A client whose server has answered.

    Raises
    ------
    DiscoveryError
        If no server is found or several fit; the message says what was tried and what to do.
    AuthenticationError
        If the named server refuses the token.
    """
    endpoint = find_endpoint(url, token, home=home)
    return Client(endpoint, timeout=timeout)


class Client(ClientCare):
    """A connection to one Rootbound server. Usually made by `rootbound.connect`.

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
    projects : Projects
    roots : Roots
    agents : Agents
    schedules : Schedules
    machines : Machines
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 30.0) -> None:
        self.endpoint = endpoint
        self._transport = SyncTransport(endpoint, timeout)
        self.projects = Projects(self)
        self.roots = Roots(self)
        self.agents = Agents(self)
        self.schedules = Schedules(self)
        self.machines = Machines(self)

    def __repr__(self) -> str:
        return f"<Client of {self.endpoint.url} ({self.endpoint.source})>"

    def _repr_html_(self) -> str:
        facts = {"server": self.endpoint.url, "found by": self.endpoint.source}
        return html.facts("Rootbound client", facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; running work is not affected."""
        self._transport.close()

    def _run(self, flow: Flow[T]) -> T:
        return self._transport.run(flow)

    def _call(self, operation: ops.Operation[T]) -> T:
        return self._run(call(self.endpoint, operation))

    def _all(self, cls: type[M], *parts: object, **params: Any) -> Listing[M]:
        return self._run(flows.all_pages(self.endpoint, cls, self, *parts, **params))

    def _each(self, cls: type[M], *parts: object) -> Iterator[M]:
        pages = flows.Pages(cls, self, *parts)
        while pages.more:
            yield from pages.take(self._call(pages.next()))

    def me(self) -> models.Me:
        """Return the user the server takes you for."""
        return self._call(ops.read(models.Me, None, "me"))

    def health(self) -> models.Health:
        """Return the server's health, service by service."""
        return self._call(ops.read(models.Health, None, "health"))

    def status(self) -> models.Status:
        """Return what the Local Desktop Agent enforces on this machine, and the roots."""
        return self._call(ops.read(models.Status, None, "local-access", "status"))

    def task(self, task_id: str) -> Task:
        """Return a task by its id."""
        return self._call(ops.read(Task, self, "tasks", task_id))

    def attempt(self, attempt_id: str) -> Attempt:
        """Return an attempt by its id."""
        return self._call(ops.read(Attempt, self, "attempts", attempt_id))

    def decomposition(self, decomposition_id: str) -> Decomposition:
        """Return a plan by its id."""
        return self._call(ops.read(Decomposition, self, "decompositions", decomposition_id))

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
    ) -> AuditQuery:
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
        AuditQuery
            Iterable; ``.df()`` gives a DataFrame.
        """
        wanted = {name: value for name, value in locals().items() if name != "self"}
        return AuditQuery(self, **wanted)

    def access_requests(
        self,
        *,
        attempt: str | None = None,
        project: str | None = None,
        status: str | None = None,
    ) -> Listing[AccessRequest]:
        """Return what agents were denied and could be granted, newest first.

        Parameters
        ----------
        attempt, project : str or None, default None
            Ids to filter by.
        status : str or None, default None
            ``PENDING``, ``GRANTED``, ``REFUSED`` or ``EXPIRED``; None returns all.
        """
        return self._all(
            AccessRequest, "access-requests", attempt=attempt, project=project, status=status
        )

    def audit_summary(
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
        return self._call(
            ops.read(
                models.AuditSummary, None, "audit", "summary", attempt=attempt, project=project
            )
        )

    def costs(
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
        return self._call(costs.operation(project, since, until))


class Projects:
    """The projects of the user: ``client.projects``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __iter__(self) -> Iterator[Project]:
        return self._client._each(Project, "projects")

    def _repr_html_(self) -> str:
        return html.listing("Projects", self.list(), ("name", "repo_path", "task_counts", "id"))

    def get(self, project_id: str) -> Project:
        """Return a project by its id."""
        return self._client._call(ops.read(Project, self._client, "projects", project_id))

    def find(self, wanted: str | None = None) -> Project:
        """Return a project by its id or its name.

        Parameters
        ----------
        wanted : str or None, default None
            Id or name; None takes the project made last.

        Returns
        -------
        Project
            The project.

        Raises
        ------
        NotFoundError
            If there is none, or several have the name; the message lists the names.
        """
        client = self._client
        return client._run(flows.find_project(client.endpoint, Project, client, wanted))

    def create(
        self,
        name: str,
        repo_path: str | PathLike[str],
        *,
        install_cmd: str | None = None,
        test_cmd: str | None = None,
        lint_cmd: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Project:
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
        Project
            The new project.

        Raises
        ------
        InvalidRequestError
            If the repository cannot be used; the code says why, for example ``repo-not-git``.
        """
        commands = {"install_cmd": install_cmd, "test_cmd": test_cmd, "lint_cmd": lint_cmd}
        body = ops.project_body(name, repo_path, config, commands)
        return self._client._call(ops.write(Project, self._client, "POST", "projects", body=body))

    def delete(self, project_id: str) -> None:
        """Delete a project in Rootbound; the repository itself is not touched."""
        self._client._call(ops.delete("projects", project_id))

    # Last, because in the class body it hides the built-in type.
    def list(self) -> Listing[Project]:
        """Return all projects."""
        return self._client._all(Project, "projects")


class Roots:
    """The folders agents may write in: ``client.roots``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __iter__(self) -> Iterator[models.Root]:
        return self._client._each(models.Root, "local-access", "roots")

    def _repr_html_(self) -> str:
        columns = ("canonical_path", "is_enabled", "id")
        return html.listing("Writable roots", self.list(), columns)

    def add(self, path: str | PathLike[str]) -> models.Root:
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
        return self._client._call(
            ops.write(models.Root, None, "POST", "local-access", "roots", body=body)
        )

    def remove(self, root_id: str) -> None:
        """Withdraw a root."""
        self._client._call(ops.delete("local-access", "roots", root_id))

    def enable(self, root_id: str, enabled: bool = True) -> models.Root:
        """Switch a root on (or off, with ``enabled=False``); return it."""
        body = {"is_enabled": enabled}
        return self._client._call(
            ops.write(models.Root, None, "PATCH", "local-access", "roots", root_id, body=body)
        )

    def list(self) -> Listing[models.Root]:
        """Return all roots, enabled or not."""
        return self._client._all(models.Root, "local-access", "roots")


class Agents:
    """The agent profiles: ``client.agents``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __iter__(self) -> Iterator[models.Agent]:
        return self._client._each(models.Agent, "agents")

    def _repr_html_(self) -> str:
        columns = ("name", "provider", "model", "role", "id")
        return html.listing("Agents", self.list(), columns)

    def get(self, agent_id: str) -> models.Agent:
        """Return a profile by its id."""
        return self._client._call(ops.read(models.Agent, None, "agents", agent_id))

    def create(
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
        return self._client._call(ops.write(models.Agent, None, "POST", "agents", body=body))

    def update(self, agent_id: str, **changes: Any) -> models.Agent:
        """Change fields of a profile; return the result."""
        return self._client._call(
            ops.write(models.Agent, None, "PATCH", "agents", agent_id, body=changes)
        )

    def delete(self, agent_id: str) -> None:
        """Delete a profile."""
        self._client._call(ops.delete("agents", agent_id))

    def list(self) -> Listing[models.Agent]:
        """Return all profiles."""
        return self._client._all(models.Agent, "agents")
