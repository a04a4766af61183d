"""The objects of the asynchronous SDK: those of `rootbound.objects`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from . import _flows as flows
from . import _operations as ops
from . import models, stream
from .access import AsyncAsking
from .audit import AsyncAuditQuery
from .review import AsyncAttemptReview, AsyncTaskReview
from .tables import AsyncEvents, Listing

if TYPE_CHECKING:
    from .aio import AsyncClient


@dataclass(frozen=True, kw_only=True)
class AsyncAttempt(AsyncAttemptReview, AsyncAsking, models.BaseAttempt, kind="attempt"):
    """As `Attempt`, awaited."""

    @property
    def client(self) -> AsyncClient:
        """The client this attempt was read with."""
        return self._client  # type: ignore[no-any-return]

    async def refresh(self) -> AsyncAttempt:
        """As `Attempt.refresh`."""
        return await self.client.attempt(self.id)

    def events(
        self,
        after: int = 0,
        follow: bool = False,
        *,
        through_review: bool = False,
        timeout: float | None = None,
    ) -> AsyncEvents:
        """As `Attempt.events`; use ``async for``."""
        if not follow:
            return AsyncEvents(self._stored(after))
        cursor = stream.StreamCursor(after, through_review=through_review, timeout=timeout)
        return AsyncEvents(stream.follow_events_async(self.client, self.id, cursor))

    async def _stored(self, after: int) -> AsyncIterator[models.Event]:
        while stored := await self.client._call(
            ops.events(self.id, after=after, limit=stream.PAGE)
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
        """As `Attempt.wait`; cancelling the task that waits does not cancel the attempt."""
        with flows.attempt_progress(progress) as report:
            return await self.client._run(
                flows.wait_attempt(self.client.endpoint, self, timeout, report)
            )

    async def diff(self) -> models.Diff:
        """As `Attempt.diff`."""
        return await self.client._call(ops.read(models.Diff, None, "attempts", self.id, "diff"))

    async def gates(self) -> models.Gates:
        """As `Attempt.gates`."""
        return await self.client._call(ops.gates(self.id))

    async def approve(self, *, version: int | None = None) -> AsyncAttempt:
        """As `Attempt.approve`."""
        return await self._post("approve", version=version)

    async def reject(self, reason: str = "", *, version: int | None = None) -> AsyncAttempt:
        """As `Attempt.reject`."""
        return await self._post("reject", reason=reason, version=version)

    async def cancel(self, *, version: int | None = None) -> AsyncAttempt:
        """As `Attempt.cancel`."""
        return await self._post("cancel", version=version)

    async def retry(self, feedback: str | None = None) -> AsyncAttempt:
        """As `Attempt.retry`."""
        return await self._post("retry", feedback=feedback)

    def audit(self, **filters: Any) -> AsyncAuditQuery:
        """As `Attempt.audit`."""
        return self.client.audit(attempt=self.id, **filters)

    async def audit_summary(self) -> models.AuditSummary:
        """As `Attempt.audit_summary`."""
        return await self.client.audit_summary(attempt=self.id)

    async def _post(self, verb: str, **body: Any) -> AsyncAttempt:
        body = ops.without_none(**body)
        return await self.client._call(
            ops.write(AsyncAttempt, self.client, "POST", "attempts", self.id, verb, body=body)
        )


@dataclass(frozen=True, kw_only=True)
class AsyncTask(AsyncTaskReview, models.BaseTask):
    """As `Task`, awaited."""

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
        """As `Task.refresh`."""
        return await self.client.task(self.id)

    async def start(
        self,
        reference_paths: Sequence[str | PathLike[str]] | None = None,
        *,
        agent_id: str | None = None,
        version: int | None = None,
    ) -> AsyncAttempt:
        """As `Task.start`."""
        return await self.client._call(
            ops.write(
                AsyncAttempt,
                self.client,
                "POST",
                "tasks",
                self.id,
                "attempts",
                body=ops.start_body(reference_paths, agent_id, version),
            )
        )

    async def attempts(self) -> Listing[AsyncAttempt]:
        """As `Task.attempts`."""
        return await self.client._all(AsyncAttempt, "tasks", self.id, "attempts")

    async def update(self, **changes: Any) -> AsyncTask:
        """As `Task.update`."""
        return await self.client._call(
            ops.write(AsyncTask, self.client, "PATCH", "tasks", self.id, body=changes)
        )

    async def delete(self) -> None:
        """As `Task.delete`."""
        await self.client._call(ops.delete("tasks", self.id))


@dataclass(frozen=True, kw_only=True)
class AsyncDecomposition(models.BaseDecomposition):
    """As `Decomposition`, awaited."""

    @property
    def client(self) -> AsyncClient:
        """The client this plan was read with."""
        return self._client  # type: ignore[no-any-return]

    async def refresh(self) -> AsyncDecomposition:
        """As `Decomposition.refresh`."""
        return await self.client.decomposition(self.id)

    async def approve(self, tasks: Sequence[dict[str, Any]] | None = None) -> AsyncDecomposition:
        """As `Decomposition.approve`."""
        return await self.client._call(
            ops.write(
                AsyncDecomposition,
                self.client,
                "POST",
                "decompositions",
                self.id,
                "approve",
                body={} if tasks is None else {"tasks": list(tasks)},
            )
        )

    async def tasks(self) -> Listing[AsyncTask]:
        """As `Decomposition.tasks`."""
        made = [await self.client.task(task_id) for task_id in self.tasks_created]
        return Listing(AsyncTask, made)


@dataclass(frozen=True, kw_only=True)
class AsyncProject(AsyncAsking, models.BaseProject, kind="project"):
    """As `Project`, awaited."""

    @property
    def client(self) -> AsyncClient:
        """The client this project was read with."""
        return self._client  # type: ignore[no-any-return]

    async def refresh(self) -> AsyncProject:
        """As `Project.refresh`."""
        return await self.client.projects.get(self.id)

    async def tasks(self) -> Listing[AsyncTask]:
        """As `Project.tasks`."""
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
        """As `Project.create_task`."""
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
        timeout: float | None = None,  # noqa: ASYNC109 (the synchronous surface has it too)
        agent_id: str | None = None,
    ) -> AsyncDecomposition:
        """As `Project.plan`."""
        body = ops.without_none(prompt=prompt, auto_approve=auto_approve, agent_id=agent_id)
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
        """As `Project.update`."""
        return await self.client._call(
            ops.write(AsyncProject, self.client, "PATCH", "projects", self.id, body=changes)
        )

    async def delete(self) -> None:
        """As `Project.delete`."""
        await self.client.projects.delete(self.id)

    def audit(self, **filters: Any) -> AsyncAuditQuery:
        """As `Project.audit`."""
        return self.client.audit(project=self.id, **filters)

    async def audit_summary(self) -> models.AuditSummary:
        """As `Project.audit_summary`."""
        return await self.client.audit_summary(project=self.id)
