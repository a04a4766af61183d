"""The runs of this LDA: starting, cancelling, recovering, and what is done with their results."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from . import worktrees
from .config import write_atomic
from .diffs import diff
from .execution import Execution
from .git import GitError
from .grants import PolicyUpdate
from .housekeeping import is_touched, quota_bytes
from .merging import Merged, MergePlan, MergeRefused, Preview, merge, preview
from .notebook_diff import by_cell
from .outbox import Owner, now
from .records import MAX_RESUMES, RunRecord, load_payload, save_payload
from .removal import empty_trash, remove_worktree
from .reports import Reporter, RunAudit
from .sandbox import recover
from .services import Services
from .shipper import Shipper
from .tending import Tender
from .wire import RunPayload, Status

log = logging.getLogger(__name__)

LOST: Final = (
    "The LDA ended while the run was live, and its processes with it. The branch is kept; retry "
    "the task."
)


class RunRefused(Exception):  # noqa: N818 - it reads as what it says
    """A request about a run cannot be done.

    Attributes
    ----------
    status
        HTTP status that fits.
    code
        Short, stable name of the reason.
    """

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


@dataclass(slots=True)
class _Live:
    """A run that goes on."""

    execution: Execution
    task: asyncio.Task[None]


class RunManager:
    """Holds every run by attempt id; one of each attempt at a time.

    Parameters
    ----------
    services
        What runs share.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._records: dict[str, RunRecord] = {}
        self._live: dict[str, _Live] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._closing = False
        self.shipper = Shipper(services.outbox, self.fenced, backends=services.backends)
        self.tender = Tender(
            services,
            self._records.values,
            self._live.__contains__,
            quota_bytes(os.environ.get("ROOTBOUND_WORKTREE_QUOTA_GB")),
        )

    # Life of the process

    async def start(self) -> None:
        """Go on with the runs that an earlier process left live, and begin to ship."""
        await asyncio.to_thread(self._load)
        await self.shipper.start()
        for record in list(self._records.values()):
            if record.live and (obstacle := await self._resume(record)):
                await self._bury(record, obstacle)
        self.tender.wake()

    async def _resume(self, record: RunRecord) -> str:
        """Go on with a run from its journal; return why not, if that is not possible."""
        folder = self._services.config.runs / record.attempt_id
        payload = await asyncio.to_thread(load_payload, folder)
        if payload is None or payload.lease_generation != record.lease_generation:
            return LOST
        if record.resumes >= MAX_RESUMES:
            return (
                f"The LDA ended {record.resumes + 1} times during the run, which is not begun "
                "again. The branch is kept; read the LDA's log, then retry the task."
            )
        record.resumes += 1
        record.boot_id = self._services.config.boot_id
        await asyncio.to_thread(self._save, record)
        await self._launch(payload, record)
        return ""

    def _load(self) -> None:
        decoder = msgspec.json.Decoder(RunRecord)
        for path in self._services.config.runs.glob("*/run.json"):
            try:
                record = decoder.decode(path.read_bytes())
            except (OSError, msgspec.DecodeError):
                log.exception("%s cannot be read; the run is not known any more", path)
                continue
            self._records[record.attempt_id] = record
        empty_trash(self._services.config.worktrees)

    async def _bury(self, record: RunRecord, why: str) -> None:
        record.state, record.failure = "FAILED", "LDA_LOST"
        # What its commands did last may not have been taken out of their rings yet.
        audit = RunAudit(self._services.outbox, record.attempt_id, record.run_id)
        private = self._services.config.runs / record.attempt_id
        await asyncio.to_thread(recover, str(private), audit)
        self._reporter(record).end(Status("FAILED", "LDA_LOST", why, record.head_commit))
        await asyncio.wrap_future(self._services.outbox.set_live(record.attempt_id, live=False))
        await asyncio.to_thread(self._save, record)

    async def stop(self) -> None:
        """Leave every live run to the next process, and give its reports a moment to leave."""
        self._closing = True
        live = list(self._live.values())
        for run in live:
            run.execution.suspend()
        if live:
            await asyncio.wait([run.task for run in live], timeout=15)
            await self.shipper.drain(timeout_s=2)
        await self.tender.stop()
        await self.shipper.stop()

    @property
    def live_count(self) -> int:
        """How many runs go on."""
        return len(self._live)

    def roots(self) -> list[str]:
        """Return the roots that live runs were granted, sorted."""
        return sorted({root for run in self._live.values() for root in run.execution.live.roots})

    # Requests

    async def submit(self, payload: RunPayload) -> dict[str, Any]:
        """Start a run, once for each attempt and generation.

        Raises
        ------
        RunRefused
            409 ``fenced`` for an older generation; 503 ``stopping`` while the LDA ends.
        """
        if self._closing:
            raise RunRefused(503, "stopping", "The LDA is stopping; try again in a moment.")
        async with self._lock(payload.attempt_id):
            known = self._records.get(payload.attempt_id)
            if known is not None:
                if payload.lease_generation < known.lease_generation:
                    raise RunRefused(
                        409,
                        "fenced",
                        f"The attempt is at generation {known.lease_generation} here; this request "
                        "is out of date.",
                    )
                if payload.lease_generation == known.lease_generation:
                    return {"run_id": known.run_id, "state": known.state, "reused": True}
                await self._silence(payload.attempt_id)
            record = await self._begin(payload)
            return {"run_id": record.run_id, "state": record.state, "reused": False}

    async def _begin(self, payload: RunPayload) -> RunRecord:
        attempt = payload.attempt_id
        record = RunRecord(
            attempt_id=attempt,
            run_id=payload.run_id or attempt,
            lease_generation=payload.lease_generation,
            repo_path=payload.repo_path,
            base_ref=payload.base_ref,
            boot_id=self._services.config.boot_id,
            started_at=now(),
            title=payload.task.title,
            task_id=payload.task.id,
            user_id=payload.user_id,
        )
        folder = self._services.config.runs / attempt
        await asyncio.to_thread(self._keep, folder, payload, record)
        await self._launch(payload, record)
        return record

    def _keep(self, folder: Path, payload: RunPayload, record: RunRecord) -> None:
        save_payload(folder, payload)
        self._save(record)

    async def _launch(self, payload: RunPayload, record: RunRecord) -> None:
        """Set a run going, at its beginning or where it was."""
        attempt, outbox, ingest = record.attempt_id, self._services.outbox, payload.ingest
        opened = outbox.open_owner(
            Owner(
                attempt,
                "attempt",
                payload.lease_generation,
                ingest.base_url,
                ingest.token,
                live=True,
            )
        )
        execution = Execution(
            services=self._services,
            payload=payload,
            record=record,
            reporter=self._reporter(record),
            audit=RunAudit(outbox, attempt, record.run_id),
            save=lambda: self._save(record),
        )
        async with asyncio.timeout(10):
            await asyncio.wrap_future(opened)
        self._records[attempt] = record
        task = asyncio.create_task(self._carry_out(execution), name=f"run {attempt}")
        self._live[attempt] = _Live(execution, task)
        self.shipper.wake(attempt)

    async def _carry_out(self, execution: Execution) -> None:
        attempt = execution.record.attempt_id
        try:
            await execution.run()
        finally:
            mine = self._live.get(attempt)
            if mine is not None and mine.execution is execution:
                del self._live[attempt]
                if not self._closing:
                    self.tender.wake()
                if not execution.suspended:
                    self._conclude(attempt)
            self.shipper.wake(attempt)
            await execution.leave()

    def _conclude(self, attempt: str) -> None:
        """Note that a run is over; once its end is on the disk, that leaves at once."""
        loop = asyncio.get_running_loop()

        def noted(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the next process sends it
                loop.call_soon_threadsafe(self.shipper.hasten, attempt)

        self._services.outbox.set_live(attempt, live=False).add_done_callback(noted)

    async def _silence(self, attempt: str) -> None:
        """Kill a run that another one takes the place of; it reports nothing more."""
        run = self._live.pop(attempt, None)
        if run is not None:
            run.execution.reporter.mute()
            run.execution.stop("LDA_LOST", "Another run has taken the place of this one.")
            await asyncio.wait([run.task], timeout=15)

    def fenced(self, attempt: str) -> None:
        """Kill a run that the backend does not want any more."""
        run = self._live.get(attempt)
        if run is not None:
            run.execution.reporter.mute()
            run.execution.stop("LDA_LOST", "The backend has given this run up.")

    def cancel(self, attempt: str) -> dict[str, Any]:
        """Stop a run; its processes end at once and its end is reported.

        Raises
        ------
        RunRefused
            404 when it is not known.
        """
        record = self._known(attempt)
        run = self._live.get(attempt)
        if run is not None:
            run.execution.stop("CANCELLED", "The run was cancelled; its branch is kept.")
        return {"state": record.state}

    def message(self, attempt: str, text: str) -> dict[str, Any]:
        """Tell the agent of a live run something; its next request carries it.

        Raises
        ------
        RunRefused
            404 when it is not known, 409 ``run-over`` when it has ended.
        """
        record = self._known(attempt)
        run = self._live.get(attempt)
        if run is None or not run.execution.listens:
            raise RunRefused(409, "run-over", "The run has ended; start a new attempt instead.")
        run.execution.tell(text)
        return {"state": record.state}

    async def change_policy(self, attempt: str, update: PolicyUpdate) -> dict[str, Any]:
        """Put other grants in force for a run that goes on.

        Raises
        ------
        RunRefused
            404 when it is not known, 409 ``run-over`` when it has ended, ``fenced`` when the
            update belongs to another hand-over.
        """
        record = self._known(attempt)
        run = self._live.get(attempt)
        if run is None:
            raise RunRefused(409, "run-over", "The run has ended; its policy does not change.")
        if update.lease_generation != record.lease_generation:
            raise RunRefused(409, "fenced", "This policy belongs to another hand-over.")
        return await run.execution.live.adopt(update)

    def describe(self, attempt: str) -> dict[str, Any]:
        """Return what is known of a run.

        Raises
        ------
        RunRefused
            404 when it is not known.
        """
        record = self._known(attempt)
        return {
            "attempt_id": record.attempt_id,
            "state": record.state,
            "live": attempt in self._live,
            "lease_generation": record.lease_generation,
            "started_at": record.started_at,
        }

    def describe_all(self) -> list[dict[str, Any]]:
        """Return every run, the latest first."""
        found = [self.describe(attempt) for attempt in self._records]
        return sorted(found, key=lambda run: str(run["started_at"]), reverse=True)

    # Results

    async def diff(self, attempt: str) -> dict[str, Any]:
        """Return what an attempt changed against its base.

        Raises
        ------
        RunRefused
            404 when it is not known, 409 ``no-commit`` when it has not committed anything,
            ``commit-gone`` when the repository does not have it any more.
        """
        record = self._known(attempt)
        git = await self._git(record)
        if record.base_commit is None or record.head_commit is None:
            raise RunRefused(409, "no-commit", "The attempt has not committed anything yet.")
        try:
            found = await diff(git.git, record.base_commit, record.head_commit)
        except GitError as error:
            if await git.git.commit_of(record.head_commit) is None:
                raise RunRefused(
                    409,
                    "commit-gone",
                    f"The repository {git.path} does not have the attempt's commit "
                    f"{record.head_commit[:12]} any more; reject the attempt and retry the task.",
                ) from error
            raise
        await by_cell(git.git, found)
        return found

    async def merge_preview(self, attempt: str) -> Preview:
        """Return what merging an attempt would do now.

        Raises
        ------
        RunRefused
            404 when it is not known, 409 ``no-commit`` when it has not committed anything.
        MergeRefused
            When its base branch is gone.
        """
        record = self._known(attempt)
        if record.head_commit is None:
            raise RunRefused(409, "no-commit", "The attempt has not committed anything yet.")
        repo = await self._git(record)
        return await preview(repo, self._plan(record, record.head_commit, ""))

    def _plan(self, record: RunRecord, head: str, message: str) -> MergePlan:
        return MergePlan(
            branch=f"attempt/{record.attempt_id}",
            head=head,
            base_branch=record.base_branch or "",
            message=message or record.title,
            attempt_id=record.attempt_id,
            task_id=record.task_id,
        )

    async def merge(self, attempt: str, head: str, message: str) -> Merged:
        """Merge an attempt; its worktree is taken away then, unless somebody has worked in it.

        Raises
        ------
        RunRefused
            404 when it is not known, 409 when it has not reached REVIEW.
        MergeRefused
            When nothing was merged.
        """
        async with self._lock(attempt):
            record = self._known(attempt)
            if record.state != "REVIEW":
                raise RunRefused(409, "not-in-review", "Only an attempt in REVIEW can be merged.")
            if record.head_commit != head:
                raise MergeRefused(
                    "head-moved", "The attempt is not at the reviewed commit; review it again."
                )
            repo = await self._git(record)
            plan = self._plan(record, head, message)
            async with self._services.locks(repo.git.common_dir):
                unsaved = self._services.unsaved.paths(record.user_id)
                merged, touched = await asyncio.gather(
                    merge(repo, plan, unsaved), is_touched(record, self._services.config)
                )
                record.merged = True
                saved = asyncio.to_thread(self._save, record)
                place = self._services.config.worktrees / attempt
                removed = [] if touched else [remove_worktree(repo.git, place)]
                await asyncio.gather(saved, *removed)
            return merged

    async def forget(self, attempt: str) -> None:
        """Remove the files and the record of an ended attempt; may be repeated.

        Raises
        ------
        RunRefused
            409 ``run-live`` while it runs.
        """
        async with self._lock(attempt):
            if attempt in self._live:
                raise RunRefused(409, "run-live", "The run is live; cancel it first.")
            for folder in (self._services.config.artifacts, self._services.config.runs):
                await asyncio.to_thread(shutil.rmtree, folder / attempt, ignore_errors=True)
            self._records.pop(attempt, None)

    async def discard(self, attempt: str) -> None:
        """Take an attempt's worktree away and put its branch aside; may be repeated.

        Raises
        ------
        RunRefused
            404 when it is not known, 409 ``run-live`` while it runs, ``worktree-touched`` when
            somebody has worked in its worktree since.
        """
        async with self._lock(attempt):
            record = self._known(attempt)
            if attempt in self._live:
                raise RunRefused(409, "run-live", "The run is live; cancel it first.")
            if await is_touched(record, self._services.config):
                raise RunRefused(409, "worktree-touched", "Its worktree was changed by hand.")
            repo = await self._git(record)
            async with self._services.locks(repo.git.common_dir):
                await worktrees.discard(
                    repo.git,
                    self._services.config.worktrees / attempt,
                    attempt_id=attempt,
                    branch=f"attempt/{attempt}",
                )
            record.discarded = True
            await asyncio.to_thread(self._save, record)

    # Parts

    def _known(self, attempt: str) -> RunRecord:
        record = self._records.get(attempt)
        if record is None:
            raise RunRefused(404, "run-unknown", "This LDA knows no run of that id.")
        return record

    def _lock(self, attempt: str) -> asyncio.Lock:
        return self._locks.setdefault(attempt, asyncio.Lock())

    def _reporter(self, record: RunRecord) -> Reporter:
        return Reporter(self._services.outbox, record.attempt_id)

    def _save(self, record: RunRecord) -> None:
        folder: Path = self._services.config.runs / record.attempt_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(folder / "run.json", msgspec.json.encode(record))

    async def _git(self, record: RunRecord) -> worktrees.Repository:
        try:
            return await worktrees.open_repository(record.repo_path)
        except worktrees.RepoRefused as error:
            raise RunRefused(409, error.code, str(error)) from error
