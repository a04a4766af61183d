"""Reviewing and looking after attempts: what `Attempt`, `Task` and `Client` get from here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from . import _operations as ops
from . import models
from .tables import Listing

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .aio_objects import AsyncAttempt
    from .client import Client
    from .objects import Attempt

__all__ = [
    "AgentTest",
    "Comment",
    "Comparison",
    "Key",
    "MergePreview",
    "Removed",
    "Worktree",
]


@dataclass(frozen=True, kw_only=True)
class Comment(models.Model):
    """What a reviewer says about a line, a file (no line) or the attempt (no path)."""

    id: str
    attempt: str = ""
    author: str = ""
    path: str = ""
    side: str = "new"
    line: int | None = None
    commit: str | None = None
    text: str = ""
    created_at: datetime | None = field(default=None, metadata={"parse": models.parse_time})


@dataclass(frozen=True, kw_only=True)
class MergePreview(models.Model):
    """What merging would do now; `files` are in conflict, `behind` counts missing commits."""

    base_branch: str = ""
    base: str = ""
    head: str = ""
    behind: int = 0
    clean: bool = False
    merged: bool = False
    files: tuple[str, ...] = field(default=(), metadata={"parse": tuple})
    checkout: str | None = None
    checkout_dirty: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison(models.Model):
    """One attempt beside the others of its task."""

    id: str
    number: int = 0
    status: str = ""
    failure: str | None = None
    agent: str = ""
    model: str = ""
    continues: str | None = None
    diff_stats: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)
    cost_usd: float | None = None
    steps: int = 0
    tokens: int = 0
    seconds: float | None = None
    denied_count: int = 0
    comments: int = 0
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Worktree(models.Model):
    """The worktree of an attempt; `reason` says why it may go, "" when it has to stay."""

    attempt_id: str
    path: str = ""
    repo_path: str = ""
    title: str = ""
    state: str = ""
    live: bool = False
    bytes: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Removed(models.Model):
    """Attempts whose worktree was removed."""

    removed: tuple[str, ...] = field(default=(), metadata={"parse": tuple})


@dataclass(frozen=True, kw_only=True)
class AgentTest(models.Model):
    """What came of trying an agent profile."""

    ok: bool = False
    failure: str | None = None
    message: str = ""
    seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    price_known: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Key(models.Model):
    """A key's name and where it comes from: ``environment``, ``keyring`` or ``none``."""

    name: str
    source: str = "none"


def _comment_body(text: str, path: str, line: int | None, side: str) -> dict[str, Any]:
    body = {"text": text, "path": path, "line": line}
    return ops.without_none(**body, side=side if line else None)


class AttemptReview:
    """The verbs of a review; part of `Attempt`."""

    id: str

    @property
    def _api(self) -> Client:
        return cast("Client", cast("Any", self).client)

    def tell(self, text: str) -> Attempt:
        """Tell the agent something while it works; its next request to the model carries it.

        Raises
        ------
        ConflictError
            With code ``not-running`` or ``run-over``.
        """
        return self._followed("messages", {"text": text})

    def comments(self) -> Listing[Comment]:
        """Return the comments on the diff, oldest first."""
        return self._api._all(Comment, "attempts", self.id, "comments")

    def comment(
        self, text: str, path: str = "", line: int | None = None, *, side: str = "new"
    ) -> Comment:
        """Comment on a line of the diff, a file, or the attempt as a whole.

        Parameters
        ----------
        text : str
            What there is to say.
        path : str, default ""
            File in the repository.
        line : int or None, default None
            Line of that file, from 1.
        side : str, default "new"
            ``new`` or ``old``: which side of the diff the line is on.
        """
        body = _comment_body(text, path, line, side)
        return self._api._call(
            ops.write(Comment, self._api, "POST", "attempts", self.id, "comments", body=body)
        )

    def request_changes(self, feedback: str = "") -> Attempt:
        """Start an attempt that goes on with this work, told of feedback and comments.

        Raises
        ------
        ConflictError
            With code ``feedback-missing`` when there is neither.
        """
        return self._followed("request-changes", {"feedback": feedback})

    def bring_up_to_date(self, *, resolve: bool = False) -> Attempt:
        """Start an attempt that puts this work on the base branch as it is now.

        Parameters
        ----------
        resolve : bool, default False
            Have the agent settle conflicts; otherwise the work is rebased and judged anew.
        """
        return self._followed("update", {"resolve": resolve})

    def merge_preview(self) -> MergePreview:
        """Return what approving would do now; nothing is changed."""
        return self._api._call(ops.read(MergePreview, None, "attempts", self.id, "merge-preview"))

    def _followed(self, verb: str, body: dict[str, Any]) -> Attempt:
        cls = cast("type[Attempt]", type(self))
        return self._api._call(
            ops.write(cls, self._api, "POST", "attempts", self.id, verb, body=body)
        )


class AsyncAttemptReview:
    """As `AttemptReview`, awaited; part of `AsyncAttempt`."""

    id: str

    @property
    def _api(self) -> AsyncClient:
        return cast("AsyncClient", cast("Any", self).client)

    async def tell(self, text: str) -> AsyncAttempt:
        """As `Attempt.tell`."""
        return await self._followed("messages", {"text": text})

    async def comments(self) -> Listing[Comment]:
        """As `Attempt.comments`."""
        return await self._api._all(Comment, "attempts", self.id, "comments")

    async def comment(
        self, text: str, path: str = "", line: int | None = None, *, side: str = "new"
    ) -> Comment:
        """As `Attempt.comment`."""
        body = _comment_body(text, path, line, side)
        return await self._api._call(
            ops.write(Comment, self._api, "POST", "attempts", self.id, "comments", body=body)
        )

    async def request_changes(self, feedback: str = "") -> AsyncAttempt:
        """As `Attempt.request_changes`."""
        return await self._followed("request-changes", {"feedback": feedback})

    async def bring_up_to_date(self, *, resolve: bool = False) -> AsyncAttempt:
        """As `Attempt.bring_up_to_date`."""
        return await self._followed("update", {"resolve": resolve})

    async def merge_preview(self) -> MergePreview:
        """As `Attempt.merge_preview`."""
        return await self._api._call(
            ops.read(MergePreview, None, "attempts", self.id, "merge-preview")
        )

    async def _followed(self, verb: str, body: dict[str, Any]) -> AsyncAttempt:
        cls = cast("type[AsyncAttempt]", type(self))
        return await self._api._call(
            ops.write(cls, self._api, "POST", "attempts", self.id, verb, body=body)
        )


class TaskReview:
    """Comparing; part of `Task`."""

    id: str

    def compare(self) -> Listing[Comparison]:
        """Return the attempts side by side: size, gates, cost, time and denied operations."""
        return cast("Client", cast("Any", self).client).compare(self.id)


class AsyncTaskReview:
    """As `TaskReview`, awaited; part of `AsyncTask`."""

    id: str

    async def compare(self) -> Listing[Comparison]:
        """As `Task.compare`."""
        return await cast("AsyncClient", cast("Any", self).client).compare(self.id)


class ClientCare:
    """Worktrees, keys and the trial of agents; part of `Client`."""

    @property
    def _api(self) -> Client:
        return cast("Client", self)

    def compare(self, task_id: str) -> Listing[Comparison]:
        """Return the attempts of a task side by side, newest first."""
        return self._api._all(Comparison, "tasks", task_id, "compare")

    def worktrees(self) -> Listing[Worktree]:
        """Return the worktrees of your attempts with their sizes, the largest first."""
        return self._api._all(Worktree, "worktrees")

    def tend_worktrees(self) -> Removed:
        """Remove the worktrees that are merged, discarded or empty; commits are kept."""
        return self._api._call(ops.write(Removed, None, "POST", "worktrees"))

    def test_agent(self, agent_id: str) -> AgentTest:
        """Ask an agent profile's model one small question."""
        return self._api._call(ops.write(AgentTest, None, "POST", "agents", agent_id, "test"))

    def keys(self) -> Listing[Key]:
        """Return the names of the keys that your agents need, and where each comes from."""
        return self._api._all(Key, "keys")


class AsyncClientCare:
    """As `ClientCare`, awaited; part of `AsyncClient`."""

    @property
    def _api(self) -> AsyncClient:
        return cast("AsyncClient", self)

    async def compare(self, task_id: str) -> Listing[Comparison]:
        """As `Client.compare`."""
        return await self._api._all(Comparison, "tasks", task_id, "compare")

    async def worktrees(self) -> Listing[Worktree]:
        """As `Client.worktrees`."""
        return await self._api._all(Worktree, "worktrees")

    async def tend_worktrees(self) -> Removed:
        """As `Client.tend_worktrees`."""
        return await self._api._call(ops.write(Removed, None, "POST", "worktrees"))

    async def test_agent(self, agent_id: str) -> AgentTest:
        """As `Client.test_agent`."""
        return await self._api._call(ops.write(AgentTest, None, "POST", "agents", agent_id, "test"))

    async def keys(self) -> Listing[Key]:
        """As `Client.keys`."""
        return await self._api._all(Key, "keys")
