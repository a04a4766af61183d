"""Reviewing and looking after attempts: what an attempt, a task and the client get from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from . import _operations as ops
from .review_models import AgentTest, Comment, Comparison, Key, MergePreview, Removed, Worktree
from .tables import Listing

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .aio_objects import AsyncAttempt


def _comment_body(text: str, path: str, line: int | None, side: str) -> dict[str, Any]:
    body = {"text": text, "path": path, "line": line}
    return ops.without_none(**body, side=side if line else None)


class AsyncAttemptReview:
    """The verbs of a review; part of `AsyncAttempt`."""

    id: str

    @property
    def _api(self) -> AsyncClient:
        return cast("AsyncClient", cast("Any", self).client)

    async def tell(self, text: str) -> AsyncAttempt:
        """Tell the agent something while it works; its next request to the model carries it.

        Raises
        ------
        ConflictError
            With code ``not-running`` or ``run-over``.
        """
        return await self._followed("messages", {"text": text})

    async def comments(self) -> Listing[Comment]:
        """Return the comments on the diff, oldest first."""
        return await self._api._all(Comment, "attempts", self.id, "comments")

    async def comment(
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
        return await self._api._call(
            ops.write(Comment, self._api, "POST", "attempts", self.id, "comments", body=body)
        )

    async def request_changes(
        self, feedback: str = "", *, version: int | None = None, status: str | None = None
    ) -> AsyncAttempt:
        """Start an attempt that goes on with this work, told of feedback and comments.

        An older attempt will do as well: that is how to go back to work that was better.

        Parameters
        ----------
        feedback : str, default ""
            What is to be different, besides what the comments say.
        version : int or None, default None
            The task's `version` that you saw, to be refused when somebody changed the task since.
        status : str or None, default None
            The attempt's `status` that you saw, to be refused when somebody decided on it since.

        Raises
        ------
        ConflictError
            With code ``feedback-missing`` when there is neither; ``version-conflict`` or
            ``attempt-moved`` when it is not as you saw it.
        """
        body = ops.without_none(feedback=feedback, version=version, status=status)
        return await self._followed("request-changes", body)

    async def bring_up_to_date(
        self, *, resolve: bool = False, version: int | None = None, status: str | None = None
    ) -> AsyncAttempt:
        """Start an attempt that puts this work on the base branch as it is now.

        Parameters
        ----------
        resolve : bool, default False
            Have the agent settle conflicts; otherwise the work is rebased and judged anew.
        version, status
            As for `request_changes`.
        """
        body = ops.without_none(resolve=resolve, version=version, status=status)
        return await self._followed("update", body)

    async def merge_preview(self) -> MergePreview:
        """Return what approving would do now; nothing is changed."""
        return await self._api._call(
            ops.read(MergePreview, None, "attempts", self.id, "merge-preview")
        )

    async def _followed(self, verb: str, body: dict[str, Any]) -> AsyncAttempt:
        cls = cast("type[AsyncAttempt]", type(self))
        return await self._api._call(
            ops.write(cls, self._api, "POST", "attempts", self.id, verb, body=body)
        )


class AsyncTaskReview:
    """Comparing; part of `AsyncTask`."""

    id: str

    async def compare(self) -> Listing[Comparison]:
        """Return the attempts side by side: size, gates, cost, time and denied operations."""
        return await cast("AsyncClient", cast("Any", self).client).compare(self.id)


class AsyncClientCare:
    """Worktrees, keys and the trial of agents; part of `AsyncClient`."""

    @property
    def _api(self) -> AsyncClient:
        return cast("AsyncClient", self)

    async def compare(self, task_id: str) -> Listing[Comparison]:
        """Return the attempts of a task side by side, newest first."""
        return await self._api._all(Comparison, "tasks", task_id, "compare")

    async def worktrees(self) -> Listing[Worktree]:
        """Return the worktrees of your attempts with their sizes, the largest first."""
        return await self._api._all(Worktree, "worktrees")

    async def tend_worktrees(self) -> Removed:
        """Remove the worktrees that are merged, discarded or empty; commits are kept."""
        return await self._api._call(ops.write(Removed, None, "POST", "worktrees"))

    async def test_agent(self, agent_id: str) -> AgentTest:
        """Ask an agent profile's model one small question."""
        return await self._api._call(ops.write(AgentTest, None, "POST", "agents", agent_id, "test"))

    async def keys(self) -> Listing[Key]:
        """Return the names of the keys that your agents need, and where each comes from."""
        return await self._api._all(Key, "keys")
