"""The objects of the SDK: results that can also act."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from . import _cursor, aio_stream, models
from . import _flows as flows
from . import _operations as ops
from .aio_access import AsyncAccessRequest
from .aio_audit import AsyncAuditQuery
from .aio_review import AsyncAttemptReview, AsyncTaskReview
from .diff_models import Diff
from .tables import AsyncEvents, Listing

if TYPE_CHECKING:
    from .aio import AsyncClient


@dataclass(frozen=True, kw_only=True)
class AsyncAttempt(AsyncAttemptReview, models.BaseAttempt):
    """One run of one agent on one task, on its own branch."""

    @property
    def client(self) -> AsyncClient:
        """The client this attempt was read with."""
        return self._client  # type: ignore[no-any-return]

    async def refresh(self) -> AsyncAttempt:
        """Return the attempt as it is now (this object does not change)."""
        return await self.client._call(ops.read(AsyncAttempt, self.client, "attempts", self.id))

    def events(
        self,
        after: int = 0,
        follow: bool = False,
        *,
        through_review: bool = False,
        timeout: float | None = None,
    ) -> AsyncEvents:
        """Iterate over the attempt's events, in order, each once.

        Parameters
        ----------
        after : int, default 0
            The last `seq` already seen; 0 begins at the start.
        follow : bool, default False
            Go on with new events as they come, over lost connections and restarts, until the
            attempt has ended or waits for a review. Ctrl-C stops following, not the attempt.
        through_review : bool, default False
            With `follow`: go on through a review, until it is approved or rejected.
        timeout : float or None, default None
            With `follow`: seconds to follow at most; None is for ever.

        Returns
        -------
        AsyncEvents
            Iterable, once; ``.df()`` gives a DataFrame.

        Raises
        ------
        WaitTimeoutError
            While iterating, if it has not ended after `timeout`; it goes on.
        RootboundError
            If the attempt is gone, or the server stays away for more than a minute.
        """
        if not follow:
            return AsyncEvents(self._stored(after))
        cursor = _cursor.StreamCursor(after, through_review=through_review, timeout=timeout)
        return AsyncEvents(self._followed_events(cursor))

    async def _followed_events(self, cursor: _cursor.StreamCursor) -> AsyncIterator[models.Event]:
        with flows.detaching(self._detached):
            async for event in aio_stream.follow_events(self.client, self.id, cursor):
                yield event

    async def _stored(self, after: int) -> AsyncIterator[models.Event]:
        while stored := await self.client._call(
            ops.events(self.id, after=after, limit=_cursor.PAGE)
        ):
            for event in stored:
                yield event
            after = stored[-1].seq

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 (the synchronous surface has it too)
        *,
        progress: bool = True,
    ) -> AsyncAttempt:
        """Wait until the attempt has ended or waits for a review.

        Parameters
        ----------
        timeout : float or None, default None
            Seconds to wait at most; None waits for ever.
        progress : bool, default True
            Show a tqdm progress bar.

        Returns
        -------
        AsyncAttempt
            The attempt in REVIEW, SUCCESS or FAILED.

        Raises
        ------
        WaitTimeoutError
            If it is still at work after `timeout`; it goes on.
        DetachedInterrupt
            On Ctrl-C; it goes on.
        """
        with flows.detaching(self._detached), flows.attempt_progress(progress) as report:
            return await self.client._run(
                flows.wait_attempt(self.client.endpoint, self, timeout, report)
            )

    @property
    def _detached(self) -> str:
        return (
            f"Stopped watching attempt {self.number}; it goes on by itself. "
            "attempt.cancel() would stop it."
        )

    async def diff(self) -> Diff:
        """Return the change the attempt proposes."""
        return await self.client._call(ops.read(Diff, None, "attempts", self.id, "diff"))

    async def gates(self) -> models.Gates:
        """Return the gates that ran, with their evidence."""
        return await self.client._call(ops.gates(self.id))

    async def approve(self, *, version: int | None = None) -> AsyncAttempt:
        """Merge the attempt into the project's branch.

        Parameters
        ----------
        version : int or None, default None
            The task's `version` that you saw, to be refused when somebody changed the task since;
            None decides on whatever is there. So with `reject` and `cancel`.

        Returns
        -------
        AsyncAttempt
            The attempt afterwards.

        Raises
        ------
        ConflictError
            If it does not wait for a review, the branch cannot be merged, or the task has another
            version; the code says which.
        """
        return await self._post("approve", version=version)

    async def reject(self, reason: str = "", *, version: int | None = None) -> AsyncAttempt:
        """End the attempt without merging it; `reason` is kept with it."""
        return await self._post("reject", reason=reason, version=version)

    async def cancel(self, *, version: int | None = None) -> AsyncAttempt:
        """Stop the attempt; its branch and its events stay."""
        return await self._post("cancel", version=version)

    async def retry(
        self,
        feedback: str | None = None,
        *,
        version: int | None = None,
        status: str | None = None,
    ) -> AsyncAttempt:
        """Start a new attempt of the same task; only its newest attempt can be retried.

        Parameters
        ----------
        feedback : str or None, default None
            What the agent should do differently.
        version : int or None, default None
            The task's `version` that you saw, to be refused when somebody changed the task since.
        status : str or None, default None
            The attempt's `status` that you saw, to be refused when somebody decided on it since.

        Returns
        -------
        AsyncAttempt
            The new attempt.

        Raises
        ------
        ConflictError
            With code ``attempt-superseded`` when there is a newer attempt (the sentence names it
            and its state), ``version-conflict`` or ``attempt-moved`` when it is not as you saw
            it, and as for `AsyncTask.start`.
        """
        return await self._post("retry", feedback=feedback, version=version, status=status)

    def audit(self, **filters: Any) -> AsyncAuditQuery:
        """Return this attempt's audit entries; `filters` as for `AsyncClient.audit`."""
        return self.client.audit(attempt=self.id, **filters)

    async def audit_summary(self) -> models.AuditSummary:
        """Return the counts of this attempt's audit entries."""
        return await self.client.audit_summary(attempt=self.id)

    async def access_requests(self, *, status: str | None = None) -> Listing[AsyncAccessRequest]:
        """Return what the attempt was denied and could be granted, newest first.

        Parameters
        ----------
        status : str or None, default None
            ``PENDING``, ``GRANTED``, ``REFUSED`` or ``EXPIRED``; None returns all.
        """
        return await self.client.access_requests(attempt=self.id, status=status)

    async def _post(self, verb: str, **body: Any) -> AsyncAttempt:
        body = ops.without_none(**body)
        return await self.client._call(
            ops.write(AsyncAttempt, self.client, "POST", "attempts", self.id, verb, body=body)
        )


@dataclass(frozen=True, kw_only=True)
class AsyncTask(AsyncTaskReview, models.BaseTask):
    """A unit of work with a role, a priority and dependencies."""

    @property
    def client(self) -> AsyncClient:
        """The client this task was read with."""
        return self._client  # type: ignore[no-any-return]

    @property
    def latest_attempt(self) -> AsyncAttempt | None:
        """The newest attempt as of when the task was read; None when there is none."""
        raw = self.raw.get("latest_attempt")
        return None if raw is None else AsyncAttempt.from_json(raw, self.client)

    async def refresh(self) -> AsyncTask:
        """Return the task as it is now (this object does not change)."""
        return await self.client._call(ops.read(AsyncTask, self.client, "tasks", self.id))

    async def start(
        self,
        reference_paths: Sequence[str | PathLike[str]] | None = None,
        *,
        agent_id: str | None = None,
        version: int | None = None,
    ) -> AsyncAttempt:
        """Start an attempt.

        Parameters
        ----------
        reference_paths : sequence of path or None, default None
            Folders and files outside the project that the agent may read.
        agent_id : str or None, default None
            The agent profile; None takes the task's own or the one for its role.
        version : int or None, default None
            The task's `version` that you saw, to be refused when somebody changed it since; None
            starts whatever is there.

        Returns
        -------
        AsyncAttempt
            The queued attempt.

        Raises
        ------
        ConflictError
            With code ``dependencies-open``, ``attempt-live`` or ``version-conflict``.
        """
        body = ops.start_body(reference_paths, agent_id, version)
        return await self.client._call(
            ops.write(AsyncAttempt, self.client, "POST", "tasks", self.id, "attempts", body=body)
        )

    async def attempts(self) -> Listing[AsyncAttempt]:
        """Return all attempts of the task."""
        return await self.client._all(AsyncAttempt, "tasks", self.id, "attempts")

    async def update(self, **changes: Any) -> AsyncTask:
        """Change fields such as ``title``, ``priority`` or ``dependencies``; return the result."""
        return await self.client._call(
            ops.write(AsyncTask, self.client, "PATCH", "tasks", self.id, body=changes)
        )

    async def delete(self) -> None:
        """Delete the task."""
        await self.client._call(ops.delete("tasks", self.id))


@dataclass(frozen=True, kw_only=True)
class AsyncDecomposition(models.BaseDecomposition):
    """The PM agent's plan for a prompt."""

    @property
    def client(self) -> AsyncClient:
        """The client this plan was read with."""
        return self._client  # type: ignore[no-any-return]

    async def refresh(self) -> AsyncDecomposition:
        """Return the plan as it is now (this object does not change)."""
        return await self.client._call(
            ops.read(AsyncDecomposition, self.client, "decompositions", self.id)
        )

    async def approve(self, tasks: Sequence[dict[str, Any]] | None = None) -> AsyncDecomposition:
        """Make the planned tasks.

        Parameters
        ----------
        tasks : sequence of dict or None, default None
            The planned tasks after your edits; None takes the plan as it is.

        Returns
        -------
        AsyncDecomposition
            The approved plan, with `tasks_created`.
        """
        body = {} if tasks is None else {"tasks": list(tasks)}
        return await self.client._call(
            ops.write(
                AsyncDecomposition,
                self.client,
                "POST",
                "decompositions",
                self.id,
                "approve",
                body=body,
            )
        )

    async def tasks(self) -> Listing[AsyncTask]:
        """Return the tasks made from the plan; empty before it is approved."""
        made = [await self.client.task(task_id) for task_id in self.tasks_created]
        return Listing(AsyncTask, made)


@dataclass(frozen=True, kw_only=True)
class AsyncProject(models.BaseProject):
    """A git repository with its commands and its policy."""

    @property
    def client(self) -> AsyncClient:
        """The client this project was read with."""
        return self._client  # type: ignore[no-any-return]

    async def refresh(self) -> AsyncProject:
        """Return the project as it is now (this object does not change)."""
        return await self.client.projects.get(self.id)

    async def tasks(self) -> Listing[AsyncTask]:
        """Return all tasks of the project."""
        return await self.client._all(AsyncTask, "projects", self.id, "tasks")

    async def create_task(
        self,
        title: str,
        *,
        description: str = "",
        role: str = "BACKEND",
        priority: int = 0,
        dependencies: Sequence[AsyncTask | str] = (),
        auto_start: bool | None = None,
    ) -> AsyncTask:
        """Make a task.

        Parameters
        ----------
        title : str
            Up to 255 characters.
        description : str, default ""
            What the agent is told beside the title.
        role : str, default "BACKEND"
            ``PM``, ``FRONTEND``, ``BACKEND``, ``QA`` or ``DEVOPS``.
        priority : int, default 0
            Higher goes first.
        dependencies : sequence of AsyncTask or str, default ()
            Tasks of the same project that must be DONE before.
        auto_start : bool or None, default None
            Start by itself when the dependencies are DONE; None takes the project's rule.

        Returns
        -------
        AsyncTask
            The new task.

        Raises
        ------
        InvalidRequestError
            If a field is wrong, or the dependencies would form a circle.
        """
        body = ops.task_body(title, description, role, priority, dependencies, auto_start)
        return await self.client._call(
            ops.write(AsyncTask, self.client, "POST", "projects", self.id, "tasks", body=body)
        )

    async def plan(
        self,
        prompt: str,
        auto_approve: bool = False,
        wait: bool = True,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
        agent_id: str | None = None,
    ) -> AsyncDecomposition:
        """Ask the PM agent to break a wish down into tasks.

        Parameters
        ----------
        prompt : str
            What is wanted.
        auto_approve : bool, default False
            Make the tasks without asking back.
        wait : bool, default True
            Wait for the plan; otherwise return at once with status ``PENDING``.
        timeout : float or None, default None
            Seconds to wait at most; None waits for ever.
        agent_id : str or None, default None
            The agent profile; None takes the one with the role PM.

        Returns
        -------
        AsyncDecomposition
            The plan; `approve` makes its tasks.

        Raises
        ------
        DecompositionFailedError
            If the agent produced no usable plan.
        WaitTimeoutError
            If there is no plan yet after `timeout`; the agent goes on.
        """
        body = ops.without_none(prompt=prompt, auto_approve=auto_approve, agent_id=agent_id)
        with flows.detaching("Stopped waiting for the plan; the PM agent goes on by itself."):
            return await self.client._run(
                flows.make_plan(
                    self.client.endpoint,
                    AsyncDecomposition,
                    self.client,
                    self.id,
                    body,
                    wait=wait,
                    timeout=timeout,
                )
            )

    async def update(self, **changes: Any) -> AsyncProject:
        """Change fields such as ``name`` or ``config``; return the result."""
        return await self.client._call(
            ops.write(AsyncProject, self.client, "PATCH", "projects", self.id, body=changes)
        )

    async def delete(self) -> None:
        """Delete the project in Rootbound; the repository itself is not touched."""
        await self.client.projects.delete(self.id)

    async def access_requests(self, *, status: str | None = None) -> Listing[AsyncAccessRequest]:
        """Return what the project's attempts were denied; `status` as for an attempt's."""
        return await self.client.access_requests(project=self.id, status=status)

    def audit(self, **filters: Any) -> AsyncAuditQuery:
        """Return this project's audit entries; `filters` as for `AsyncClient.audit`."""
        return self.client.audit(project=self.id, **filters)

    async def audit_summary(self) -> models.AuditSummary:
        """Return the counts of this project's audit entries."""
        return await self.client.audit_summary(project=self.id)
