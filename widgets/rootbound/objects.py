# Written by widgets/generate_sync.py from aio_objects.py; change that one.
"""The objects of the SDK: results that can also act."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from . import _cursor, models, stream
from . import _flows as flows
from . import _operations as ops
from .access import AccessRequest
from .audit import AuditQuery
from .diff_models import Diff
from .review import AttemptReview, TaskReview
from .tables import Events, Listing

if TYPE_CHECKING:
    from .client import Client


@dataclass(frozen=True, kw_only=True)
class Attempt(AttemptReview, models.BaseAttempt):
    """One run of one agent on one task, on its own branch."""

    @property
    def client(self) -> Client:
        """The client this attempt was read with."""
        return self._client  # type: ignore[no-any-return]

    def refresh(self) -> Attempt:
        """Return the attempt as it is now (this object does not change)."""
        return self.client._call(ops.read(Attempt, self.client, "attempts", self.id))

    def events(
        self,
        after: int = 0,
        follow: bool = False,
        *,
        through_review: bool = False,
        timeout: float | None = None,
    ) -> Events:
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
        Events
            Iterable, once; ``.df()`` gives a DataFrame.

        Raises
        ------
        WaitTimeoutError
            While iterating, if it has not ended after `timeout`; it goes on.
        RootboundError
            If the attempt is gone, or the server stays away for more than a minute.
        """
        if not follow:
            return Events(self._stored(after))
        cursor = _cursor.StreamCursor(after, through_review=through_review, timeout=timeout)
        return Events(self._followed_events(cursor))

    def _followed_events(self, cursor: _cursor.StreamCursor) -> Iterator[models.Event]:
        with flows.detaching(self._detached):
            yield from stream.follow_events(self.client, self.id, cursor)

    def _stored(self, after: int) -> Iterator[models.Event]:
        while stored := self.client._call(ops.events(self.id, after=after, limit=_cursor.PAGE)):
            yield from stored
            after = stored[-1].seq

    def wait(
        self,
        timeout: float | None = None,
        *,
        progress: bool = True,
    ) -> Attempt:
        """Wait until the attempt has ended or waits for a review.

        Parameters
        ----------
        timeout : float or None, default None
            Seconds to wait at most; None waits for ever.
        progress : bool, default True
            Show a tqdm progress bar.

        Returns
        -------
        Attempt
            The attempt in REVIEW, SUCCESS or FAILED.

        Raises
        ------
        WaitTimeoutError
            If it is still at work after `timeout`; it goes on.
        DetachedInterrupt
            On Ctrl-C; it goes on.
        """
        with flows.detaching(self._detached), flows.attempt_progress(progress) as report:
            return self.client._run(flows.wait_attempt(self.client.endpoint, self, timeout, report))

    @property
    def _detached(self) -> str:
        return (
            f"Stopped watching attempt {self.number}; it goes on by itself. "
            "attempt.cancel() would stop it."
        )

    def diff(self) -> Diff:
        """Return the change the attempt proposes."""
        return self.client._call(ops.read(Diff, None, "attempts", self.id, "diff"))

    def gates(self) -> models.Gates:
        """Return the gates that ran, with their evidence."""
        return self.client._call(ops.gates(self.id))

    def approve(self, *, version: int | None = None) -> Attempt:
        """Merge the attempt into the project's branch.

        Parameters
        ----------
        version : int or None, default None
            The task's `version` that you saw, to be refused when somebody changed the task since;
            None decides on whatever is there. So with `reject` and `cancel`.

        Returns
        -------
        Attempt
            The attempt afterwards.

        Raises
        ------
        ConflictError
            If it does not wait for a review, the branch cannot be merged, or the task has another
            version; the code says which.
        """
        return self._post("approve", version=version)

    def reject(self, reason: str = "", *, version: int | None = None) -> Attempt:
        """End the attempt without merging it; `reason` is kept with it."""
        return self._post("reject", reason=reason, version=version)

    def cancel(self, *, version: int | None = None) -> Attempt:
        """Stop the attempt; its branch and its events stay."""
        return self._post("cancel", version=version)

    def retry(
        self,
        feedback: str | None = None,
        *,
        version: int | None = None,
        status: str | None = None,
    ) -> Attempt:
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
        Attempt
            The new attempt.

        Raises
        ------
        ConflictError
            With code ``attempt-superseded`` when there is a newer attempt (the sentence names it
            and its state), ``version-conflict`` or ``attempt-moved`` when it is not as you saw
            it, and as for `Task.start`.
        """
        return self._post("retry", feedback=feedback, version=version, status=status)

    def audit(self, **filters: Any) -> AuditQuery:
        """Return this attempt's audit entries; `filters` as for `Client.audit`."""
        return self.client.audit(attempt=self.id, **filters)

    def audit_summary(self) -> models.AuditSummary:
        """Return the counts of this attempt's audit entries."""
        return self.client.audit_summary(attempt=self.id)

    def access_requests(self, *, status: str | None = None) -> Listing[AccessRequest]:
        """Return what the attempt was denied and could be granted, newest first.

        Parameters
        ----------
        status : str or None, default None
            ``PENDING``, ``GRANTED``, ``REFUSED`` or ``EXPIRED``; None returns all.
        """
        return self.client.access_requests(attempt=self.id, status=status)

    def _post(self, verb: str, **body: Any) -> Attempt:
        body = ops.without_none(**body)
        return self.client._call(
            ops.write(Attempt, self.client, "POST", "attempts", self.id, verb, body=body)
        )


@dataclass(frozen=True, kw_only=True)
class Task(TaskReview, models.BaseTask):
    """A unit of work with a role, a priority and dependencies."""

    @property
    def client(self) -> Client:
        """The client this task was read with."""
        return self._client  # type: ignore[no-any-return]

    @property
    def latest_attempt(self) -> Attempt | None:
        """The newest attempt as of when the task was read; None when there is none."""
        raw = self.raw.get("latest_attempt")
        return None if raw is None else Attempt.from_json(raw, self.client)

    def refresh(self) -> Task:
        """Return the task as it is now (this object does not change)."""
        return self.client._call(ops.read(Task, self.client, "tasks", self.id))

    def start(
        self,
        reference_paths: Sequence[str | PathLike[str]] | None = None,
        *,
        agent_id: str | None = None,
        version: int | None = None,
    ) -> Attempt:
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
        Attempt
            The queued attempt.

        Raises
        ------
        ConflictError
            With code ``dependencies-open``, ``attempt-live`` or ``version-conflict``.
        """
        body = ops.start_body(reference_paths, agent_id, version)
        return self.client._call(
            ops.write(Attempt, self.client, "POST", "tasks", self.id, "attempts", body=body)
        )

    def attempts(self) -> Listing[Attempt]:
        """Return all attempts of the task."""
        return self.client._all(Attempt, "tasks", self.id, "attempts")

    def update(self, **changes: Any) -> Task:
        """Change fields such as ``title``, ``priority`` or ``dependencies``; return the result."""
        return self.client._call(
            ops.write(Task, self.client, "PATCH", "tasks", self.id, body=changes)
        )

    def delete(self) -> None:
        """Delete the task."""
        self.client._call(ops.delete("tasks", self.id))


@dataclass(frozen=True, kw_only=True)
class Decomposition(models.BaseDecomposition):
    """The PM agent's plan for a prompt."""

    @property
    def client(self) -> Client:
        """The client this plan was read with."""
        return self._client  # type: ignore[no-any-return]

    def refresh(self) -> Decomposition:
        """Return the plan as it is now (this object does not change)."""
        return self.client._call(ops.read(Decomposition, self.client, "decompositions", self.id))

    def approve(self, tasks: Sequence[dict[str, Any]] | None = None) -> Decomposition:
        """Make the planned tasks.

        Parameters
        ----------
        tasks : sequence of dict or None, default None
            The planned tasks after your edits; None takes the plan as it is.

        Returns
        -------
        Decomposition
            The approved plan, with `tasks_created`.
        """
        body = {} if tasks is None else {"tasks": list(tasks)}
        return self.client._call(
            ops.write(
                Decomposition,
                self.client,
                "POST",
                "decompositions",
                self.id,
                "approve",
                body=body,
            )
        )

    def tasks(self) -> Listing[Task]:
        """Return the tasks made from the plan; empty before it is approved."""
        made = [self.client.task(task_id) for task_id in self.tasks_created]
        return Listing(Task, made)


@dataclass(frozen=True, kw_only=True)
class Project(models.BaseProject):
    """A git repository with its commands and its policy."""

    @property
    def client(self) -> Client:
        """The client this project was read with."""
        return self._client  # type: ignore[no-any-return]

    def refresh(self) -> Project:
        """Return the project as it is now (this object does not change)."""
        return self.client.projects.get(self.id)

    def tasks(self) -> Listing[Task]:
        """Return all tasks of the project."""
        return self.client._all(Task, "projects", self.id, "tasks")

    def create_task(
        self,
        title: str,
        *,
        description: str = "",
        role: str = "BACKEND",
        priority: int = 0,
        dependencies: Sequence[Task | str] = (),
        auto_start: bool | None = None,
    ) -> Task:
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
        dependencies : sequence of Task or str, default ()
            Tasks of the same project that must be DONE before.
        auto_start : bool or None, default None
            Start by itself when the dependencies are DONE; None takes the project's rule.

        Returns
        -------
        Task
            The new task.

        Raises
        ------
        InvalidRequestError
            If a field is wrong, or the dependencies would form a circle.
        """
        body = ops.task_body(title, description, role, priority, dependencies, auto_start)
        return self.client._call(
            ops.write(Task, self.client, "POST", "projects", self.id, "tasks", body=body)
        )

    def plan(
        self,
        prompt: str,
        auto_approve: bool = False,
        wait: bool = True,
        *,
        timeout: float | None = None,
        agent_id: str | None = None,
    ) -> Decomposition:
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
        Decomposition
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
            return self.client._run(
                flows.make_plan(
                    self.client.endpoint,
                    Decomposition,
                    self.client,
                    self.id,
                    body,
                    wait=wait,
                    timeout=timeout,
                )
            )

    def update(self, **changes: Any) -> Project:
        """Change fields such as ``name`` or ``config``; return the result."""
        return self.client._call(
            ops.write(Project, self.client, "PATCH", "projects", self.id, body=changes)
        )

    def delete(self) -> None:
        """Delete the project in Rootbound; the repository itself is not touched."""
        self.client.projects.delete(self.id)

    def access_requests(self, *, status: str | None = None) -> Listing[AccessRequest]:
        """Return what the project's attempts were denied; `status` as for an attempt's."""
        return self.client.access_requests(project=self.id, status=status)

    def audit(self, **filters: Any) -> AuditQuery:
        """Return this project's audit entries; `filters` as for `Client.audit`."""
        return self.client.audit(project=self.id, **filters)

    def audit_summary(self) -> models.AuditSummary:
        """Return the counts of this project's audit entries."""
        return self.client.audit_summary(project=self.id)
