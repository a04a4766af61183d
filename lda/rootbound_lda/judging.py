"""Judging an attempt: its environment, its gates, and what a failure means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from . import caches, downloads
from .baseline import Baselines, Comparison, Verdict, compare, failures_in
from .gates import GateKeeper, GateOutcome, gates_of
from .records import RunFailed
from .services import Services
from .wire import Baseline, RunPayload
from .worktrees import Worktree, clean, exclude_untracked, restore_tracked


@dataclass(slots=True)
class Judge:
    """Installs and judges what is in one run's worktree.

    Attributes
    ----------
    keeper
        Runs the gates.
    worktree
        Whose tree is judged.
    """

    services: Services
    payload: RunPayload
    keeper: GateKeeper
    worktree: Worktree

    async def install(self) -> None:
        """Give the worktree its own environment, so that tests import the attempt's code."""
        await self._renew_home()
        for name, command in gates_of(self.payload.commands):
            if name == "install":
                at = await self.worktree.git.commit_of("HEAD") or self.worktree.base_commit
                outcome = await self.keeper.run(name, command, at)
                if outcome.failure is not None:
                    sentence = f"{outcome.sentence} {_withheld()}".strip()
                    raise RunFailed(outcome.failure, sentence, outcome.exit_code)
                await exclude_untracked(self.worktree)
                await self._put_back()
                if self.payload.start_commit is None:
                    # Nothing but the user's own branch has run so far.
                    async with self._cache_lock:
                        await asyncio.to_thread(
                            caches.harvest, self.keeper.policy.private_home, self._cache
                        )

    async def _put_back(self) -> None:
        """Undo what the install command did to files of the project: it is no work of the agent."""
        changed = await restore_tracked(self.worktree)
        if changed:
            shown = ", ".join(changed[:5]) + (" and more" if len(changed) > 5 else "")
            self.keeper.reporter.notice(
                f"The install command changed {shown}, which is put back as it was committed."
            )

    @property
    def _cache(self) -> Path:
        return self.services.config.caches / self.payload.project_id

    @property
    def _cache_lock(self) -> asyncio.Lock:
        return self.services.cache_locks.setdefault(self.payload.project_id, asyncio.Lock())

    async def _renew_home(self) -> None:
        """Let nothing that an agent left in its home take part in what comes."""
        policy = self.keeper.policy
        async with self._cache_lock:
            await asyncio.to_thread(
                caches.renew, policy.private_home, policy.private_tmp, self._cache
            )
        await asyncio.to_thread(downloads.lay_configuration, policy.private_home)

    async def gates(self, head: str) -> GateOutcome | None:
        """Run every gate on exactly the tree of ``head``; return the one that failed."""
        await asyncio.gather(clean(self.worktree), self._renew_home())
        for name, command in gates_of(self.payload.commands):
            outcome = await self.keeper.run(name, command, head)
            if outcome.failure is not None:
                return outcome
        return None

    async def explain(self, failed: GateOutcome) -> str:
        """Tell what of a failure was there before, and report it; ``""`` if that says nothing."""
        if not failed.is_about_code or failed.name == "install":
            return ""
        command = dict(gates_of(self.payload.commands))[failed.name]
        found = await self._against_base(failed, command)
        base = self.worktree.base_commit
        self.keeper.reporter(
            Baseline(
                failed.name, base, command, found.base_exit_code, found.cached, found.before,
                found.new,
            )
        )  # fmt: skip
        self.keeper.reporter.notice(found.text)
        return found.text

    async def _against_base(self, failed: GateOutcome, command: str) -> Comparison:
        """Compare a failure with the same gate on the base commit, which runs there once."""
        worktree, keeper = self.worktree, self.keeper
        install = (self.payload.commands.install_cmd or "").strip()
        known = self.services.baselines
        key = Baselines.key(
            worktree.git.common_dir, worktree.base_commit, install, f"{failed.name} {command}"
        )
        async with known.lock(key):
            verdict = known.get(key)
            if verdict is not None:
                return compare(verdict, failed.output, cached=True)
            keeper.reporter.notice(f"The {failed.name} gate runs once on the base commit as well.")
            git = worktree.git
            await git.run("checkout", "--quiet", "--force", "--detach", worktree.base_commit)
            try:
                await clean(worktree)
                if install:
                    await keeper.run_quietly("install", install)
                outcome = await keeper.run_quietly(failed.name, command)
            finally:
                await asyncio.shield(git.run("checkout", "--quiet", "--force", worktree.branch))
            verdict = Verdict(outcome.exit_code, failures_in(outcome.output))
            await asyncio.to_thread(known.put, key, verdict)
        if install:
            # The agent goes on with the environment of its own commit.
            await keeper.run_quietly("install", install)
        return compare(verdict, failed.output, cached=False)


def _withheld() -> str:
    """Say which credentials the install command has not had, if there are any."""
    tools = downloads.withheld()
    if not tools:
        return ""
    return f"Credentials in your configuration of {tools} are not given to runs."
