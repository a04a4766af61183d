"""Decompositions: the PM looks at the project and its plan goes to the backend."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from .audit import AuditUnavailable
from .files import FileAccess
from .git import GitError, discover
from .keys import REPLAY_KEY, KeyMissing
from .outbox import Owner
from .policy import PolicyError, build_policy
from .reports import RunAudit, post_plan
from .runs import RunRefused
from .services import Services
from .wire import Failure, PlanPayload, PlanReport
from .worktrees import RepoRefused, open_repository

log = logging.getLogger(__name__)


LOST: Final = "The LDA ended before the plan was made; ask for it again."


@dataclass(frozen=True, slots=True)
class _Plan:
    """A decomposition and the hand-over it belongs to."""

    generation: int
    task: asyncio.Task[None]


class PlanManager:
    """Runs decompositions, each once.

    Parameters
    ----------
    services
        What runs share.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._plans: dict[str, _Plan] = {}

    async def start(self) -> None:
        """Report what an earlier process did not finish as lost."""
        outbox = self._services.outbox
        for owner in await asyncio.to_thread(outbox.owners):
            if owner.subject == "decomposition" and owner.live:
                post_plan(outbox, owner.owner, _failed("LDA_LOST", LOST))
                outbox.set_live(owner.owner, live=False)

    async def submit(self, payload: PlanPayload) -> dict[str, Any]:
        """Start a decomposition, once for each generation.

        Raises
        ------
        RunRefused
            409 ``fenced`` for an older generation.
        """
        key, generation = payload.decomposition_id, payload.lease_generation
        known = self._plans.get(key)
        if known is not None and generation < known.generation:
            raise RunRefused(409, "fenced", "This request for a plan is out of date.")
        if known is None or generation > known.generation:
            task = asyncio.create_task(self._replace(payload, known), name=f"plan {key}")
            self._plans[key] = known = _Plan(generation, task)
        return {"decomposition_id": key, "state": "DONE" if known.task.done() else "RUNNING"}

    async def _replace(self, payload: PlanPayload, before: _Plan | None) -> None:
        """Carry out a decomposition once the one before it is gone."""
        if before is not None and not before.task.done():
            before.task.cancel()
            await asyncio.wait([before.task], timeout=15)
        ingest, outbox = payload.ingest, self._services.outbox
        key, generation = payload.decomposition_id, payload.lease_generation
        owner = Owner(key, "decomposition", generation, ingest.base_url, ingest.token, live=True)
        await asyncio.wrap_future(outbox.open_owner(owner))
        await self._carry_out(payload)

    async def stop(self) -> None:
        """Stop what still runs; each reports that it was lost."""
        live = [plan.task for plan in self._plans.values() if not plan.task.done()]
        for task in live:
            task.cancel()
        if live:
            await asyncio.wait(live, timeout=5)

    async def _carry_out(self, payload: PlanPayload) -> None:
        try:
            report = await self._plan(payload)
        except asyncio.CancelledError:
            report = _failed("LDA_LOST", LOST)
            mine = self._plans.get(payload.decomposition_id)
            if mine is None or mine.generation != payload.lease_generation:
                return  # another one has taken its place
        except Exception as error:
            report = _understand(error)
        post_plan(self._services.outbox, payload.decomposition_id, report)
        self._services.outbox.set_live(payload.decomposition_id, live=False)

    async def _plan(self, payload: PlanPayload) -> PlanReport:
        config, agent = self._services.config, payload.agent_config
        key = (
            REPLAY_KEY
            if agent.is_replay
            else self._services.keys.resolve(agent.provider, agent.key_name)
        )
        repo = await open_repository(payload.repo_path)
        git = await discover(repo.path)
        if git is None or git.work_tree is None:
            raise RepoRefused("repo-not-git", f"{repo.path} is not a git work tree.")
        private = config.runs / payload.decomposition_id
        policy = await asyncio.to_thread(
            build_policy,
            run_id=payload.decomposition_id,
            worktree=repo.path,
            repo_path=repo.path,
            git_common_dir=repo.git.common_dir,
            private_dir=private,
            state_dir=config.home,
            writable_roots=payload.writable_roots,
            readable_paths=payload.readable_paths,
            network={"agent": False, "install": False},
            limits={},
        )
        planner = await self._services.module("planner")
        models = await self._services.module("models")
        tools = await self._services.module("tools")
        prices = await self._services.module("prices")
        audit = RunAudit(self._services.outbox, payload.decomposition_id, payload.decomposition_id)
        with FileAccess(policy, audit) as files:
            # Without a runner and read-only: the PM works in the user's own checkout.
            toolbox = tools.Toolbox(
                policy=policy, files=files, git=git, runner=None, reporter=None, artifacts=None,
                read_only=True,
            )  # fmt: skip
            async with models.open_model(agent, key, config.model_urls) as codec:
                meter = prices.Meter(prices.price_of(agent.provider, agent.model, agent.settings))
                async with asyncio.timeout(payload.limits.max_seconds):
                    planned = await planner.make_plan(
                        agent, codec, toolbox, payload.prompt, payload.limits, meter
                    )
        return PlanReport(plan=planned.plan, response=planned.response, usage=planned.usage)


def _failed(failure: Failure, message: str) -> PlanReport:
    return PlanReport(failure=failure, message=message)


def _understand(error: Exception) -> PlanReport:
    """Give an exception its typed reason and sentence."""
    failure = getattr(error, "failure", None)
    if failure is not None:
        return _failed(failure, str(error))
    if isinstance(error, KeyMissing):
        return _failed("PROVIDER_AUTH", str(error))
    if isinstance(error, RepoRefused | PolicyError):
        return _failed("REPO_INVALID", str(error))
    if isinstance(error, TimeoutError):
        return _failed("AGENT_LIMIT_TIME", "The PM reached its time limit without a plan.")
    if isinstance(error, AuditUnavailable | GitError):
        return _failed("INTERNAL", str(error))
    log.error("A decomposition failed", exc_info=error)
    return _failed("INTERNAL", f"The LDA met an error of its own ({error}); see its log.")
