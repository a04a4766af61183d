"""The LDA's HTTP interface: loopback only, for the backend only."""

from __future__ import annotations

import asyncio
import errno
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .advice import canonical_readable
from .auth import Verifier, VerifyKeys
from .batches import BatchManager, BatchRequest
from .bodies import (
    KernelRootsRequest,
    KeyTestRequest,
    MergeRequest,
    MessageRequest,
    RepoRequest,
    RootRequest,
    UnsavedRequest,
)
from .config import version
from .door import Door
from .git import GitError
from .grants import PolicyUpdate
from .kernels import KernelHost, KernelRequest
from .keys import REPLAY_KEY, KeyMissing
from .leavings import list_files, read_part
from .merging import MergeRefused
from .outbox import OutboxUnavailable
from .pins import GRANTED
from .places import present_secrets
from .plans import PlanManager
from .policy import PolicyError, canonical_root, present_roots
from .problems import problem
from .runs import RunManager, RunRefused
from .sandbox.tiers import kept
from .services import Services
from .wire import PlanPayload, RunPayload
from .worktrees import RepoRefused, branches_of, check_base, open_repository

T = TypeVar("T")

MAX_BRANCHES = 200
"""Branches that are offered for a project; any other can be named."""


async def _body(request: Request, kind: type[T]) -> T:
    """Decode a request's body.

    Raises
    ------
    HTTPException
        422 with one sentence when it does not fit the schema.
    """
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.MsgspecError as error:
        raise HTTPException(422, f"The body does not fit the schema: {error}.") from error


def _run_id(request: Request) -> str:
    """Return the run that a path names; the id becomes the name of a folder.

    Raises
    ------
    HTTPException
        404 when it is none.
    """
    try:
        return str(uuid.UUID(request.path_params["id"]))
    except ValueError as error:
        raise HTTPException(404, "There is no such run.") from error


class Api:
    """The endpoints.

    Parameters
    ----------
    services, runs, plans, batches, kernels
        What they speak for.
    """

    def __init__(
        self,
        services: Services,
        runs: RunManager,
        plans: PlanManager,
        batches: BatchManager,
        kernels: KernelHost,
    ) -> None:
        self._kernels = kernels
        self._services = services
        self._runs = runs
        self._plans = plans
        self._batches = batches

    def routes(self) -> list[Route]:
        """Return the routes."""
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST", "/run", self.run),
            ("GET", "/runs", self.list_runs),
            ("GET", "/runs/{id}", self.get_run),
            ("POST", "/runs/{id}/cancel", self.cancel),
            ("POST", "/runs/{id}/messages", self.message),
            ("POST", "/runs/{id}/policy", self.policy),
            ("GET", "/runs/{id}/diff", self.diff),
            ("GET", "/runs/{id}/merge-preview", self.merge_preview),
            ("POST", "/runs/{id}/merge", self.merge),
            ("POST", "/runs/{id}/discard", self.discard),
            ("POST", "/runs/{id}/forget", self.forget),
            ("GET", "/runs/{id}/files", self.files),
            ("GET", "/runs/{id}/files/{name}", self.file),
            ("GET", "/worktrees", self.worktrees),
            ("POST", "/worktrees/tend", self.tend_worktrees),
            ("POST", "/agents/test", self.test_agent),
            ("GET", "/keys", self.keys),
            ("POST", "/plans", self.plan),
            ("POST", "/batches", self.batch),
            ("GET", "/batches/{id}", self.get_batch),
            ("POST", "/batches/{id}/cancel", self.cancel_batch),
            ("GET", "/batches/{id}/report", self.batch_report),
            ("POST", "/kernels", self.kernel),
            ("GET", "/kernels", self.list_kernels),
            ("POST", "/kernels/{id}/roots", self.kernel_roots),
            ("POST", "/unsaved", self.unsaved),
            ("POST", "/roots/validate", self.validate_root),
            ("POST", "/repos/validate", self.validate_repo),
            ("POST", "/repos/branches", self.list_branches),
            ("GET", "/health", self.health),
        ]
        return [Route(path, endpoint, methods=[method]) for method, path, endpoint in table]

    async def run(self, request: Request) -> Response:
        """Start a run."""
        return JSONResponse(await self._runs.submit(await _body(request, RunPayload)), 202)

    async def list_runs(self, _: Request) -> Response:
        """List the runs."""
        return JSONResponse({"runs": self._runs.describe_all()})

    async def get_run(self, request: Request) -> Response:
        """Describe one run."""
        return JSONResponse(self._runs.describe(request.path_params["id"]))

    async def cancel(self, request: Request) -> Response:
        """Cancel a run."""
        return JSONResponse(self._runs.cancel(request.path_params["id"]), 202)

    async def message(self, request: Request) -> Response:
        """Tell the agent of a run something while it works."""
        wanted = await _body(request, MessageRequest)
        return JSONResponse(self._runs.message(request.path_params["id"], wanted.text), 202)

    async def policy(self, request: Request) -> Response:
        """Change what a run may do while it goes on."""
        update = await _body(request, PolicyUpdate)
        return JSONResponse(await self._runs.change_policy(request.path_params["id"], update))

    async def diff(self, request: Request) -> Response:
        """Return a run's diff."""
        return JSONResponse(await self._runs.diff(request.path_params["id"]))

    async def merge_preview(self, request: Request) -> Response:
        """Say what merging a run's branch would do."""
        found = await self._runs.merge_preview(request.path_params["id"])
        return JSONResponse(asdict(found))

    async def merge(self, request: Request) -> Response:
        """Merge a run's branch."""
        wanted = await _body(request, MergeRequest)
        merged = await self._runs.merge(
            request.path_params["id"], wanted.head_commit, wanted.message
        )
        return JSONResponse(
            {
                "merge_commit": merged.merge_commit,
                "base_before": merged.base_before,
                "fast_forward": merged.fast_forward,
            }
        )

    async def discard(self, request: Request) -> Response:
        """Discard a run's worktree and branch."""
        await self._runs.discard(request.path_params["id"])
        return JSONResponse({"discarded": True})

    async def forget(self, request: Request) -> Response:
        """Remove the files of an ended run."""
        await self._runs.forget(_run_id(request))
        return JSONResponse({"forgotten": True})

    async def files(self, request: Request) -> Response:
        """List the files that a run left."""
        folder = self._services.config.artifacts / _run_id(request)
        return JSONResponse({"files": await asyncio.to_thread(list_files, folder)})

    async def file(self, request: Request) -> Response:
        """Return a part of a file that a run left."""
        folder = self._services.config.artifacts / _run_id(request)
        try:
            start, length = (int(request.query_params[key]) for key in ("start", "length"))
        except (KeyError, ValueError) as error:
            raise HTTPException(422, "Give start and length as numbers.") from error
        if start < 0 or length < 0:
            raise HTTPException(422, "Give start and length as numbers that are not negative.")
        name = request.path_params["name"]
        return JSONResponse(await asyncio.to_thread(read_part, folder, name, start, length))

    async def worktrees(self, _: Request) -> Response:
        """List the worktrees with their sizes."""
        return JSONResponse(await self._runs.tender.inventory())

    async def tend_worktrees(self, _: Request) -> Response:
        """Remove the worktrees that nobody can miss."""
        return JSONResponse({"removed": await self._runs.tender.tend()})

    async def test_agent(self, request: Request) -> Response:
        """Ask a profile's model one question."""
        wanted = await _body(request, KeyTestRequest)
        module = await self._services.module("trial")
        config, keys = wanted.agent_config, self._services.keys
        try:
            key = REPLAY_KEY if config.is_replay else keys.resolve(config.provider, config.key_name)
        except KeyMissing as error:
            return JSONResponse({"ok": False, "failure": "PROVIDER_AUTH", "message": str(error)})
        urls = self._services.config.model_urls
        return JSONResponse(await module.try_profile(config, key, urls))

    async def keys(self, request: Request) -> Response:
        """Say where the keys of these names come from; never a key."""
        names = [name for name in request.query_params.get("names", "").split(",") if name][:50]
        found = await asyncio.to_thread(
            lambda: [{"name": name, "source": self._services.keys.source(name)} for name in names]
        )
        return JSONResponse({"keys": found})

    async def plan(self, request: Request) -> Response:
        """Start a decomposition."""
        return JSONResponse(await self._plans.submit(await _body(request, PlanPayload)), 202)

    async def batch(self, request: Request) -> Response:
        """Start a batch."""
        return JSONResponse(await self._batches.submit(await _body(request, BatchRequest)), 202)

    async def get_batch(self, request: Request) -> Response:
        """Say how far a batch is."""
        return JSONResponse(await self._batches.describe(request.path_params["id"]))

    async def cancel_batch(self, request: Request) -> Response:
        """End a batch."""
        return JSONResponse(await self._batches.cancel(request.path_params["id"]), 202)

    async def batch_report(self, request: Request) -> Response:
        """Return the notebook that a batch executed."""
        data = await self._batches.report(request.path_params["id"])
        return Response(data, media_type="application/json")

    async def kernel(self, request: Request) -> Response:
        """Make a confined kernel ready to be started."""
        return JSONResponse(await self._kernels.submit(await _body(request, KernelRequest)), 201)

    async def list_kernels(self, _: Request) -> Response:
        """List the confined kernels that live."""
        return JSONResponse({"kernels": self._kernels.describe_all()})

    async def kernel_roots(self, request: Request) -> Response:
        """End a kernel that may write where nothing is granted any more."""
        wanted = await _body(request, KernelRootsRequest)
        ended = await self._kernels.withdraw(request.path_params["id"], wanted.writable_roots)
        return JSONResponse({"ended": ended})

    async def unsaved(self, request: Request) -> Response:
        """Take what an editor has open with unsaved changes."""
        said = await _body(request, UnsavedRequest)
        report = self._services.unsaved.report
        left = await asyncio.to_thread(report, said.user_id, said.editor, said.paths)
        return JSONResponse({"expires_in_s": left})

    async def validate_root(self, request: Request) -> Response:
        """Check a folder that is to be granted."""
        wanted = await _body(request, RootRequest)
        check = canonical_root if wanted.access == "WRITE" else canonical_readable
        canonical = await asyncio.to_thread(
            check, wanted.path, state_dir=self._services.config.home
        )
        if wanted.access == "WRITE":
            # From now on the folder counts, not its name.
            await asyncio.to_thread(GRANTED.grant, canonical)
        return JSONResponse({"path": wanted.path, "canonical_path": str(canonical)})

    async def validate_repo(self, request: Request) -> Response:
        """Check a repository that is to become a project."""
        wanted = await _body(request, RepoRequest)
        repo = await open_repository(wanted.path)
        branch = await check_base(repo, wanted.branch)
        roots = present_roots(wanted.writable_roots, state_dir=self._services.config.home)
        holding = await asyncio.to_thread(
            lambda: next((root for root in roots if repo.path.is_relative_to(root)), None)
        )
        if holding is None:
            raise RepoRefused(
                "repo-outside-roots",
                f"{wanted.path} is in none of the granted folders; grant it, or a folder above it.",
            )
        return JSONResponse(
            {
                "canonical_path": str(repo.path),
                "default_branch": branch,
                "head_commit": repo.head_commit,
                "root": str(holding),
            }
        )

    async def list_branches(self, request: Request) -> Response:
        """Say which branches a repository in a folder has that is granted, or could be."""
        wanted = await _body(request, RepoRequest)
        home = self._services.config.home
        await asyncio.to_thread(canonical_root, wanted.path, state_dir=home)
        repo = await open_repository(wanted.path)
        branches = (await branches_of(repo))[:MAX_BRANCHES]
        return JSONResponse({"checked_out": repo.default_branch, "branches": branches})

    async def health(self, _: Request) -> Response:
        """Say what this process is and can."""
        config, facts = self._services.config, self._services.facts
        depth = await asyncio.to_thread(self._services.outbox.depth)
        protected = await asyncio.to_thread(present_secrets, config.home)
        return JSONResponse(
            {
                "status": "ok",
                "version": version(),
                "id": config.lda_id,
                "boot_id": config.boot_id,
                "sandbox": {
                    "tier": facts.tier,
                    "facts": facts.facts,
                    "missing": facts.missing,
                    "guarantees": kept(facts.tier),
                },
                "protected": protected,
                "roots": self._runs.roots(),
                "outbox_depth": depth,
                "live_runs": self._runs.live_count,
            }
        )


async def _on_error(_: Request, error: Exception) -> Response:
    """Turn what the parts raise into a problem."""
    if isinstance(error, HTTPException):
        code = "invalid" if error.status_code == 422 else f"http-{error.status_code}"
        return problem(error.status_code, code, str(error.detail))
    if isinstance(error, RunRefused):
        return problem(error.status, error.code, str(error))
    if isinstance(error, MergeRefused):
        return problem(409, error.code, str(error), **error.extras)
    if isinstance(error, RepoRefused | PolicyError):
        return problem(422, error.code, str(error))
    if isinstance(error, GitError):
        return problem(409, "git-failed", str(error))
    if isinstance(error, OutboxUnavailable):
        return problem(503, "outbox-unavailable", str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return problem(503, "disk-full", "There is no disk space left; free some and try again.")
    return problem(500, "internal", "The LDA met an error of its own; see its log.")


def build_app(
    services: Services, *, keys: VerifyKeys, hosts: frozenset[str], announce: Callable[[], None]
) -> Door:
    """Build the whole application.

    Parameters
    ----------
    services
        What it works with; started and stopped with the application.
    keys
        The backend's public keys.
    hosts
        Values of ``Host`` that mean this process.
    announce
        Called once runs are recovered and requests can be answered.
    """
    runs, plans = RunManager(services), PlanManager(services)
    batches, kernels = BatchManager(services.config), KernelHost(services)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await batches.start()
        await kernels.start()
        await plans.start()
        await runs.start()
        # Neither the probe nor the import of the model libraries delays the port.
        background = [
            asyncio.create_task(services.start()),
            asyncio.create_task(_warm(services)),
        ]
        announce()
        try:
            yield
        finally:
            await batches.stop()
            await kernels.stop()
            await plans.stop()
            await runs.stop()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await services.stop()
            services.outbox.close()

    handled: list[type[Exception]] = [
        HTTPException, RunRefused, MergeRefused, RepoRefused, PolicyError, GitError,
        OutboxUnavailable, OSError, Exception,
    ]  # fmt: skip
    app = Starlette(
        routes=Api(services, runs, plans, batches, kernels).routes(),
        lifespan=lifespan,
        exception_handlers=dict.fromkeys(handled, _on_error),
    )
    return Door(app, Verifier(keys, services.config.audience), hosts)


async def _warm(services: Services) -> None:
    """Load the model libraries before the first run needs them."""
    await services.module("worker")


def as_json(value: Any) -> bytes:
    """Encode a small document for a file."""
    return (json.dumps(value, indent=2) + "\n").encode()
