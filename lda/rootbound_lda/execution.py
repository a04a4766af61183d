"""One run from its worktree to REVIEW or a typed failure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import msgspec

from . import branches
from .advice import Advisor
from .audit import AuditSink
from .baseline import is_test_file
from .commit_messages import message_of
from .diffs import diff_size
from .endings import status_of
from .files import FileAccess
from .gates import GateKeeper, GateOutcome, gates_of
from .grants import LivePolicy
from .inspection import remarks
from .judging import Judge
from .keys import REPLAY_KEY
from .notebook_merge import settle_notebooks
from .policy import Policy, build_policy
from .records import RunFailed, RunRecord, Stage
from .reports import Reporter
from .sandbox import CommandRunner, tiers
from .services import Services
from .wire import (
    CommitMade,
    DiffSize,
    Enforcement,
    Failure,
    RunPayload,
    Status,
    UserMessage,
)
from .worktrees import (
    Repository,
    Worktree,
    add_worktree,
    commit_all,
    make_place,
    not_taken,
    open_repository,
    resolve_base,
)

if TYPE_CHECKING:
    from .agent.loop import AgentLoop

log = logging.getLogger(__name__)

NEEDED_TIER: Final = tiers.NEEDED


PRESS_S: Final = 3.0
FROM_USER: Final = "The user says: "


@dataclass(slots=True)
class Execution:
    """Carries out one run payload.

    Attributes
    ----------
    save
        Writes the record to the disk.
    listens
        Whether a message to the agent would still be read.
    """

    services: Services
    payload: RunPayload
    record: RunRecord
    reporter: Reporter
    audit: AuditSink
    save: Callable[[], None]
    live: LivePolicy = field(init=False)
    runner: CommandRunner | None = None
    listens: bool = True
    _stop_reason: tuple[Failure, str] | None = None
    _task: asyncio.Task[Status] | None = None
    _files: FileAccess | None = field(default=None)
    _worker: AgentLoop | None = None
    _resumed: bool = False
    _suspended: bool = False

    def __post_init__(self) -> None:
        """Make what holds the policy, so that it can be changed from the first moment on."""
        self.live = LivePolicy(
            self.payload,
            self.reporter,
            state_dir=self.services.config.home,
            memory=self._private / "policy.json",
            announce=self._announce,
            stop=self.stop,
        )

    async def run(self) -> None:
        """Do it all; how it ended is reported, whatever happens."""
        home = self.services.config.home
        self._task = asyncio.create_task(self._flow())
        if self._stop_reason is not None:
            self._press()
        await asyncio.wait([self._task])
        await self._tidy()
        if self._suspended and self._stop_reason is None and self._task.cancelled():
            self.reporter.flush()
            return
        if self._task.cancelled():
            failure, sentence = self._stop_reason or ("LDA_LOST", "The run was stopped.")
            status = Status("FAILED", failure, sentence, self.record.head_commit)
        else:
            error = self._task.exception()
            status = self._task.result() if error is None else status_of(error, self.record, home)
        self._end(status)

    def stop(self, failure: Failure, sentence: str) -> None:
        """End the run with this reason; its processes end at once."""
        self._stop_reason = (failure, sentence)
        self._press()

    def suspend(self) -> None:
        """End its processes and leave the run where it is; another process goes on with it."""
        self._suspended = True
        self._press()

    @property
    def suspended(self) -> bool:
        """Whether it was left to be gone on with."""
        return self._suspended and self.record.live

    def tell(self, text: str) -> None:
        """Pass a message of the user's to the agent; its next request carries it."""
        if self._worker is not None:
            self._worker.note(f"{FROM_USER}{text}")
        else:
            self.record.notes.append(f"{FROM_USER}{text}")
            self.save()
        self.reporter(UserMessage(text))

    def _press(self) -> None:
        """Cancel again until it is over: a library on the way may swallow a cancellation."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            asyncio.get_running_loop().call_later(PRESS_S, self._press)

    def _end(self, status: Status) -> None:
        self.record.state, self.record.failure = status.status, status.failure
        self.record.ended_at = time.time()
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

    async def leave(self) -> None:
        """Take down the wall, in which nothing of the run is left; no reader waits for it."""
        if self.runner is not None:
            await self.runner.close()

    # The steps

    async def _flow(self) -> Status:
        await self.services.ready.wait()
        payload, record = self.payload, self.record
        self._resumed = record.stage != "new"
        self._check_tier()
        repo = await open_repository(payload.repo_path)
        worktree, policy = await self._prepare(repo)
        self._announce(policy)
        # The wall goes up while the rest is looked at.
        runner = self._runner()
        walled = self.services.facts.wall is not None
        for remark in await asyncio.to_thread(remarks, policy, walled=walled):
            self.reporter.notice(remark)
        if self._resumed:
            self.reporter.notice("The LDA was restarted; the run goes on where it was.")
        key = self._key()
        keeper = GateKeeper(policy, runner, self.reporter, self._artifacts, payload.limits)
        judge = Judge(self.services, payload, keeper, worktree)
        if record.stage in ("new", "install"):
            if "install" in dict(gates_of(payload.commands)):
                self._advance("install")
            await judge.install()
        module = await self.services.module("worker")
        self._files = FileAccess(self.live.policy, self.audit)
        self.live.govern(files=self._files)
        async with module.open_worker(
            payload, key, self.services.config, worktree, policy,
            files=self._files, runner=keeper.runner, reporter=self.reporter,
            artifacts=self._artifacts, private=self._private,
            is_unsaved=partial(self.services.unsaved.holds, payload.user_id),
            resumed=record.stage in ("agent", "gates"),
        ) as worker:  # fmt: skip
            self._worker = worker
            for note in record.notes:
                worker.note(note)
            record.notes = []
            self.live.tell_to(partial(worker.note, asks=False))
            try:
                return await self._work(worker, judge, worktree)
            finally:
                # Its journal is closed next: nobody reads what is said from now on.
                self.listens = False
                self.live.tell_to(lambda _: None)

    def _advance(self, stage: Stage) -> None:
        """Note how far the run has come, before it goes on."""
        self.record.stage = stage
        self.save()

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

    def _announce(self, policy: Policy) -> None:
        """Report the enforcement in force: the first event of a run, and one for each change."""
        facts, network = self.services.facts, self.payload.network
        writable = [str(path) for path in policy.writable]
        self.reporter(Enforcement(facts.tier, list(facts.missing), writable, network))

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
        place = config.worktrees / self.record.attempt_id
        build = partial(
            build_policy,
            run_id=self.record.run_id,
            worktree=place,
            repo_path=repo.path,
            git_common_dir=repo.git.common_dir,
            private_dir=self._private,
            state_dir=config.home,
            network=msgspec.to_builtins(payload.network),
            limits=msgspec.to_builtins(payload.limits),
        )
        if self._resumed:
            worktree = await self._reopen(repo)
            await self.live.begin(build)
        else:
            async with self.services.locks(repo.git.common_dir):
                await make_place(repo, place)
            # The policy is about folders, not about what git puts into this one.
            begun = asyncio.ensure_future(self.live.begin(build))
            try:
                worktree = await self._add(repo, place)
            finally:
                await begun
        self.audit = Advisor(
            self.audit,
            repo_path=repo.path,
            state_dir=config.home,
            policy=lambda: self.live.policy,
        )
        return worktree, self.live.policy

    async def _add(self, repo: Repository, place: Path) -> Worktree:
        """Make a fresh worktree, on the work of another attempt if this one goes on with it."""
        payload, record = self.payload, self.record
        old = await resolve_base(repo, payload.base_ref, payload.base_commit)
        base = (await resolve_base(repo, payload.base_ref, None)) if payload.update else old
        record.base_branch, record.base_commit = base
        async with self.services.locks(repo.git.common_dir):
            worktree = await add_worktree(
                repo,
                place,
                attempt_id=record.attempt_id,
                base=base,
                excludes=self._private / "exclude",
                start=payload.start_commit,
                placed=True,
            )
            if payload.update:
                await self._update(worktree, old[1])
        self.save()
        return worktree

    async def _update(self, worktree: Worktree, old_base: str) -> None:
        """Bring the work onto the base branch as it is now."""
        branch, tip = worktree.base_branch, worktree.base_commit
        if self.payload.update == "rebase":
            files = await branches.rebase(worktree, old_base, tip)
            if files:
                raise RunFailed(
                    "MERGE_CONFLICT",
                    f"The work conflicts with {branch} in {', '.join(files[:5])}"
                    f"{' and more' if len(files) > 5 else ''}; have an agent resolve it, or "
                    "start a new attempt.",
                )
        else:
            files = await branches.merge_with_conflicts(worktree, tip)
            self.record.conflicts = await settle_notebooks(worktree.git, files)
            settled = [name for name in files if name not in self.record.conflicts]
            if settled:
                names = ", ".join(settled[:5]) + (" and more" if len(settled) > 5 else "")
                self.reporter.notice(f"Merged cell by cell, for no cell has two changes: {names}.")

    async def _reopen(self, repo: Repository) -> Worktree:
        """Take up the worktree of an earlier process, with what it may have just committed."""
        record = self.record
        worktree = None
        if record.base_commit is not None:
            worktree = await branches.reopen_worktree(
                repo,
                self.services.config.worktrees / record.attempt_id,
                attempt_id=record.attempt_id,
                base=(record.base_branch or "", record.base_commit),
                excludes=self._private / "exclude",
            )
        if worktree is None:
            raise RunFailed(
                "LDA_LOST",
                "The LDA ended during the run, whose worktree is gone since; its branch is kept. "
                "Retry the task.",
            )
        tip = await worktree.git.commit_of("HEAD")
        begun = self.payload.start_commit or record.base_commit
        if tip is not None and tip not in (record.head_commit, begun) and not self.payload.update:
            await self._committed(worktree, tip, "Committed just before the LDA ended.")
        return worktree

    def _runner(self) -> CommandRunner:
        self.runner = self.services.sandbox.runner(self.live.policy, self.audit)
        self.live.govern(runner=self.runner)
        self.runner.warm_up()
        return self.runner

    async def _work(self, worker: AgentLoop, judge: Judge, worktree: Worktree) -> Status:
        """Let the agent work until the gates are green, a bounded number of times."""
        prompts = await self.services.module("prompts")
        record, limits = self.record, self.payload.limits
        prompt = await self._first_prompt(prompts, begun=worker.last_round >= 0)
        at_gates = record.stage == "gates"
        if not at_gates and worker.last_round < record.rounds and record.head_commit:
            # What the gates said to the agent was lost with the process: they say it again.
            record.rounds, at_gates = max(0, worker.last_round), True
        if self.payload.update and record.head_commit is None and not record.conflicts:
            at_gates = await self._take_over(worktree)
        while True:
            if not at_gates:
                self._advance("agent")
                await self._agent(worker, worktree, prompt)
            at_gates = False
            failed = await self._gates(judge)
            if failed is None:
                if not worker.has_notes:
                    return Status("REVIEW", head_commit=record.head_commit, exit_code=0)
                prompt = prompts.GREEN
            else:
                remark = await judge.explain(failed)
                if record.rounds >= limits.gate_retries or not failed.agent_can_fix:
                    reason = failed.failure or "INTERNAL"
                    sentence = f"{failed.sentence} {remark}".strip()
                    raise RunFailed(reason, sentence, failed.exit_code)
                self.reporter.notice(f"The {failed.name} gate failed; it goes to the agent.")
                command = dict(gates_of(self.payload.commands))[failed.name]
                prompt = prompts.gate_failed(failed.name, command, failed.report, remark)
            record.rounds += 1

    async def _first_prompt(self, prompts: ModuleType, *, begun: bool) -> str:
        """Return what the agent is asked to do, with what it should know."""
        context = await self.services.module("context")
        found: str = ""
        if self._files is not None and not begun:
            top = self.payload.repo_path.rstrip("/") + "/"
            # What lies in the project is read as it is on the attempt's branch.
            paths = [path.removeprefix(top) for path in self.payload.reference_paths]
            found = await asyncio.to_thread(context.gather, self._files, paths)
        prompt: str = prompts.worker_task(self.payload.task, found)
        if self.record.conflicts:
            prompt = prompts.conflicts(self.record.conflicts, self.record.base_branch) + prompt
        return prompt

    async def _take_over(self, worktree: Worktree) -> bool:
        """Take up work that is only to be judged anew; false when there is something to do."""
        await self._commit(worktree, f"Bring up to date with {worktree.base_branch}")
        tip = await worktree.git.commit_of("HEAD")
        if tip is None or tip == worktree.base_commit:
            raise RunFailed("NO_CHANGES", "Everything of this work is in the base branch already.")
        if self.record.head_commit != tip:
            await self._committed(worktree, tip, f"On {worktree.base_branch} as it is now.")
        return True

    async def _agent(self, worker: AgentLoop, worktree: Worktree, prompt: str) -> None:
        """One go of the agent; what it changed is committed even when it was stopped."""
        try:
            finish = await worker.run(prompt, self.record.rounds)
        except Exception as error:
            if getattr(error, "failure", None) is not None:
                await self._commit(worktree, "Unfinished work")
            raise
        if self.record.conflicts and finish.status == "done":
            left = branches.with_markers(worktree.path, self.record.conflicts)
            if left:
                raise RunFailed(
                    "MERGE_CONFLICT",
                    f"The agent left conflict markers in {', '.join(left[:5])}; resolve them "
                    "yourself or start a new attempt.",
                )
        changed = await self._commit(worktree, finish.summary)
        if finish.status == "blocked":
            raise RunFailed(
                "AGENT_BLOCKED",
                f"The agent could not go on: {finish.summary.strip()[:1000] or 'no reason given.'}",
            )
        if not changed and self.record.head_commit is None:
            raise RunFailed(
                "NO_CHANGES",
                "The agent finished without changing any file; reword the task or give feedback."
                + await not_taken(worktree),
            )

    async def _commit(self, worktree: Worktree, summary: str) -> bool:
        """Commit what the agent changed, as the user, with the agent as co-author."""
        if self.runner is not None:
            await self.runner.kill_all()
        message = message_of(self.payload, self.record.attempt_id, summary)
        async with self.services.locks(worktree.git.common_dir):
            commit = await commit_all(worktree, f"{message}\n")
        if commit is None:
            return False
        await self._committed(worktree, commit, message)
        return True

    async def _committed(self, worktree: Worktree, commit: str, message: str) -> None:
        """Note and report the branch's new commit."""
        self.record.head_commit = commit
        self.save()
        self.reporter(CommitMade(commit, worktree.base_commit, message))
        size, paths = await diff_size(worktree.git, worktree.base_commit, commit)
        tests = [path for path in paths if is_test_file(path)]
        self.reporter(DiffSize(*size, tests))

    async def _gates(self, judge: Judge) -> GateOutcome | None:
        """Run every gate on exactly the committed tree; return the one that failed."""
        head = self.record.head_commit
        if head is None:
            raise RunFailed("INTERNAL", "There is no commit to run gates on.")
        first = self.record.state != "GATES"
        self.record.state = "GATES"
        self._advance("gates")
        if first:
            await self.reporter.status(Status("GATES", head_commit=head))
        return await judge.gates(head)
