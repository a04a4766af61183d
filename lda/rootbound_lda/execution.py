"""One run from its worktree to REVIEW or a typed failure."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from .audit import AuditUnavailable
from .files import FileAccess
from .gates import GateKeeper, GateOutcome, gates_of
from .git import GitError
from .keys import REPLAY_KEY, KeyMissing
from .outbox import OutboxUnavailable
from .policy import Policy, PolicyError, build_policy
from .reports import Reporter, RunAudit
from .sandbox import CommandRunner, SandboxUnavailable
from .services import Services
from .wire import CommitMade, DiffSize, Enforcement, Failure, RunPayload, Status
from .worktrees import (
    RepoRefused,
    Repository,
    Worktree,
    add_worktree,
    clean,
    commit_all,
    diff_size,
    exclude_untracked,
    open_repository,
    resolve_base,
)

if TYPE_CHECKING:
    from .agent.loop import AgentLoop

log = logging.getLogger(__name__)

NEEDED_TIER: Final = "B"
"""The weakest tier that enforces everything; a project may accept a lower one by name."""


PRESS_S: Final = 3.0


class RunFailed(Exception):  # noqa: N818 - a run that fails is no error of the program
    """The run ends in FAILED.

    Attributes
    ----------
    failure
        Reason from the closed vocabulary.
    exit_code
        Of the gate that failed, if one did.
    """

    def __init__(self, failure: Failure, sentence: str, exit_code: int | None = None) -> None:
        super().__init__(sentence)
        self.failure: Failure = failure
        self.exit_code = exit_code


class RunRecord(msgspec.Struct):
    """What the LDA remembers of a run, in ``run.json``.

    Attributes
    ----------
    state
        ``RUNNING``, ``GATES``, ``REVIEW`` or ``FAILED``.
    """

    attempt_id: str
    run_id: str
    lease_generation: int
    repo_path: str
    base_ref: str
    boot_id: str
    started_at: str
    title: str = ""
    task_id: str | None = None
    state: str = "RUNNING"
    failure: str | None = None
    base_branch: str | None = None
    base_commit: str | None = None
    head_commit: str | None = None
    discarded: bool = False

    @property
    def live(self) -> bool:
        """Whether the run goes on."""
        return self.state in ("RUNNING", "GATES")


@dataclass(slots=True)
class Execution:
    """Carries out one run payload.

    Attributes
    ----------
    save
        Writes the record to the disk.
    """

    services: Services
    payload: RunPayload
    record: RunRecord
    reporter: Reporter
    audit: RunAudit
    save: Callable[[], None]
    runner: CommandRunner | None = None
    _stop_reason: tuple[Failure, str] | None = None
    _task: asyncio.Task[Status] | None = None
    _files: FileAccess | None = field(default=None)

    async def run(self) -> None:
        """Do it all; how it ended is reported, whatever happens."""
        self._task = asyncio.create_task(self._flow())
        if self._stop_reason is not None:
            self._press()
        await asyncio.wait([self._task])
        await self._tidy()
        if self._task.cancelled():
            failure, sentence = self._stop_reason or ("LDA_LOST", "The run was stopped.")
            status = Status("FAILED", failure, sentence, self.record.head_commit)
        else:
            error = self._task.exception()
            status = self._task.result() if error is None else self._failed(error)
        self._end(status)

    def stop(self, failure: Failure, sentence: str) -> None:
        """End the run with this reason; its processes end at once."""
        self._stop_reason = (failure, sentence)
        self._press()

    def _press(self) -> None:
        """Cancel again until it is over: a library on the way may swallow a cancellation."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            asyncio.get_running_loop().call_later(PRESS_S, self._press)

    def _failed(self, error: BaseException) -> Status:
        """Give an exception its typed reason and sentence."""
        head = self.record.head_commit
        if isinstance(error, RunFailed):
            return Status("FAILED", error.failure, str(error), head, error.exit_code)
        failure = getattr(error, "failure", None)
        if failure is not None:  # the agent's own end, from a module that is imported late
            return Status("FAILED", failure, str(error), head)
        if isinstance(error, RepoRefused | PolicyError):
            return Status("FAILED", "REPO_INVALID", str(error), head)
        if isinstance(error, KeyMissing):
            return Status("FAILED", "PROVIDER_AUTH", str(error), head)
        if isinstance(error, SandboxUnavailable):
            return Status("FAILED", "POLICY_UNENFORCEABLE", str(error), head)
        if isinstance(error, AuditUnavailable | OutboxUnavailable | GitError):
            return Status("FAILED", "INTERNAL", str(error), head)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            folder = self.services.config.home
            text = f"There is no disk space left; free some under {folder} and start again."
            return Status("FAILED", "INTERNAL", text, head)
        log.error("Run %s failed", self.record.attempt_id, exc_info=error)
        text = f"The LDA met an error of its own ({type(error).__name__}: {error}); see its log."
        return Status("FAILED", "INTERNAL", text, head)

    def _end(self, status: Status) -> None:
        self.record.state, self.record.failure = status.status, status.failure
        try:
            self.save()
        except OSError:
            log.exception("The record of run %s could not be written", self.record.attempt_id)
        self.reporter.end(status)

    async def _tidy(self) -> None:
        """End every process of the run and let go of its folders."""
        if self.runner is not None:
            await self.runner.kill_all()
        if self._files is not None:
            self._files.close()

    # The steps

    async def _flow(self) -> Status:
        await self.services.ready.wait()
        payload = self.payload
        self._check_tier()
        repo = await open_repository(payload.repo_path)
        worktree, policy = await self._prepare(repo)
        facts = self.services.facts
        self.reporter(
            Enforcement(
                facts.tier, list(facts.missing), [str(p) for p in policy.writable], payload.network
            )
        )
        key = self._key()
        keeper = GateKeeper(
            policy, self._runner(policy), self.reporter, self._artifacts, payload.limits
        )
        await self._install(keeper, worktree)
        module = await self.services.module("worker")
        self._files = FileAccess(policy, self.audit)
        async with module.open_worker(
            payload, key, self.services.config, worktree, policy,
            files=self._files, runner=keeper.runner, reporter=self.reporter,
            artifacts=self._artifacts, private=self._private,
        ) as worker:  # fmt: skip
            return await self._work(worker, keeper, worktree)

    def _check_tier(self) -> None:
        """Refuse a run that cannot be confined as the user expects."""
        facts = self.services.facts
        accepted = max(NEEDED_TIER, self.payload.accept_tier or NEEDED_TIER)
        if facts.tier <= accepted and facts.tier != "F":
            return
        network = self.payload.network
        self.reporter(Enforcement(facts.tier, list(facts.missing), [], network))
        missing = " ".join(facts.missing) or "It is not known what is missing."
        way_out = (
            "Without a sandbox no command and no gate can run."
            if facts.tier == "F"
            else f"Accept tier {facts.tier} in the project's settings, or use a newer kernel."
        )
        raise RunFailed(
            "POLICY_UNENFORCEABLE",
            f"This machine enforces tier {facts.tier} only. {missing} {way_out}",
        )

    def _key(self) -> str:
        config = self.payload.agent_config
        if config.is_replay:
            return REPLAY_KEY
        return self.services.keys.resolve(config.provider, config.key_name)

    @property
    def _private(self) -> Path:
        return self.services.config.runs / self.record.attempt_id

    @property
    def _artifacts(self) -> Path:
        return self.services.config.artifacts / self.record.attempt_id

    async def _prepare(self, repo: Repository) -> tuple[Worktree, Policy]:
        """Make the worktree, and the policy that confines the run to it."""
        payload, config = self.payload, self.services.config
        self._artifacts.mkdir(mode=0o700, parents=True, exist_ok=True)
        base = await resolve_base(repo, payload.base_ref, payload.base_commit)
        self.record.base_branch, self.record.base_commit = base
        async with self.services.locks(repo.git.common_dir):
            worktree = await add_worktree(
                repo,
                config.worktrees / self.record.attempt_id,
                attempt_id=self.record.attempt_id,
                base=base,
                excludes=self._private / "exclude",
            )
        self.save()
        policy = await asyncio.to_thread(
            build_policy,
            run_id=self.record.run_id,
            worktree=worktree.path,
            repo_path=repo.path,
            git_common_dir=repo.git.common_dir,
            private_dir=self._private,
            state_dir=config.home,
            writable_roots=payload.writable_roots,
            readable_paths=payload.readable_paths,
            network=msgspec.to_builtins(payload.network),
            limits=msgspec.to_builtins(payload.limits),
        )
        return worktree, policy

    def _runner(self, policy: Policy) -> CommandRunner:
        self.runner = self.services.sandbox.runner(policy, self.audit)
        return self.runner

    async def _install(self, keeper: GateKeeper, worktree: Worktree) -> None:
        """Give the worktree its own environment, so that tests import the attempt's code."""
        for name, command in gates_of(self.payload.commands):
            if name == "install":
                outcome = await keeper.run(name, command, worktree.base_commit)
                if outcome.failure is not None:
                    raise RunFailed(outcome.failure, outcome.sentence, outcome.exit_code)
                await exclude_untracked(worktree)

    async def _work(self, worker: AgentLoop, keeper: GateKeeper, worktree: Worktree) -> Status:
        """Let the agent work until the gates are green, a bounded number of times."""
        prompts = await self.services.module("prompts")
        prompt = prompts.worker_task(self.payload.task, self.payload.reference_paths)
        left = self.payload.limits.gate_retries
        while True:
            await self._agent(worker, worktree, prompt)
            failed = await self._gates(keeper, worktree)
            if failed is None:
                head = self.record.head_commit
                return Status("REVIEW", head_commit=head, exit_code=0)
            if not left or not failed.agent_can_fix:
                reason = failed.failure or "INTERNAL"
                raise RunFailed(reason, failed.sentence, failed.exit_code)
            left -= 1
            command = dict(gates_of(self.payload.commands))[failed.name]
            self.reporter.notice(f"The {failed.name} gate failed; its output goes to the agent.")
            prompt = prompts.gate_failed(failed.name, command, failed.report)

    async def _agent(self, worker: AgentLoop, worktree: Worktree, prompt: str) -> None:
        """One go of the agent; what it changed is committed even when it was stopped."""
        try:
            finish = await worker.run(prompt)
        except Exception as error:
            if getattr(error, "failure", None) is not None:
                await self._commit(worktree, "Unfinished work")
            raise
        changed = await self._commit(worktree, finish.summary)
        if finish.status == "blocked":
            raise RunFailed(
                "AGENT_BLOCKED",
                f"The agent could not go on: {finish.summary.strip()[:1000] or 'no reason given.'}",
            )
        if not changed and self.record.head_commit is None:
            raise RunFailed(
                "NO_CHANGES",
                "The agent finished without changing any file; reword the task or give feedback.",
            )

    async def _commit(self, worktree: Worktree, summary: str) -> bool:
        """Commit what the agent changed, as the user, with the agent as co-author."""
        if self.runner is not None:
            await self.runner.kill_all()
        task, config = self.payload.task, self.payload.agent_config
        author = f"{_one_line(config.name or 'Agent')} ({_one_line(config.model)})"
        trailers = [
            *([f"Rootbound-Task: {task.id}"] if task.id else []),
            f"Rootbound-Attempt: {self.record.attempt_id}",
            f"Co-authored-by: {author} <agent@rootbound.invalid>",
        ]
        message = "\n\n".join(
            part
            for part in (_one_line(task.title)[:72], summary.strip(), "\n".join(trailers))
            if part
        )
        async with self.services.locks(worktree.git.common_dir):
            commit = await commit_all(worktree, f"{message}\n")
        if commit is None:
            return False
        self.record.head_commit = commit
        self.save()
        self.reporter(CommitMade(commit, worktree.base_commit, message))
        size = await diff_size(worktree.git, worktree.base_commit, commit)
        self.reporter(DiffSize(*size))
        return True

    async def _gates(self, keeper: GateKeeper, worktree: Worktree) -> GateOutcome | None:
        """Run every gate on exactly the committed tree; return the one that failed."""
        head = self.record.head_commit
        if head is None:
            raise RunFailed("INTERNAL", "There is no commit to run gates on.")
        if self.record.state != "GATES":
            self.record.state = "GATES"
            self.save()
            await self.reporter.status(Status("GATES", head_commit=head))
        await clean(worktree)
        for name, command in gates_of(self.payload.commands):
            outcome = await keeper.run(name, command, head)
            if outcome.failure is not None:
                return outcome
        return None


def _one_line(text: str) -> str:
    return " ".join(text.split())
