"""The LDA's HTTP interface: loopback only, for the backend only."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .auth import AuthError, Verifier
from .config import version
from .git import GitError
from .merging import MergeRefused
from .outbox import OutboxUnavailable
from .plans import PlanManager
from .policy import RootRefused, canonical_root, present_roots
from .runs import RunManager, RunRefused
from .services import Services
from .wire import MergeRequest, PlanPayload, RepoRequest, RootRequest, RunPayload
from .worktrees import RepoRefused, open_repository

MAX_BODY_BYTES: Final = 2 * 1024 * 1024
BODY_TIMEOUT_S: Final = 15.0
_PROBLEMS: Final = "https://rootbound.dev/problems/"
_TITLES: Final = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Not acceptable",
    500: "Internal error",
    503: "Not available",
}
T = TypeVar("T")


def problem(status: int, code: str, detail: str, **extras: Any) -> Response:
    """Return an error as RFC 9457 ``application/problem+json``."""
    body = {
        "type": f"{_PROBLEMS}{code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        **extras,
    }
    return JSONResponse(body, status, media_type="application/problem+json")


class Door:
    """Lets in only what the backend sends, and only with a token for this very request.

    Parameters
    ----------
    app
        What is behind it.
    verifier
        Checks tokens.
    hosts
        Values of ``Host`` that mean this process.
    """

    def __init__(self, app: ASGIApp, verifier: Verifier, hosts: frozenset[str]) -> None:
        self._app = app
        self._verifier = verifier
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, read its body, and pass both on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"The LDA does not speak {scope['type']}.")
        request = Request(scope, receive)
        refusal = self._refusal(request)
        if refusal is None:
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    body = await _read(request)
                self._check(request, body)
            except AuthError as error:
                refusal = problem(401, error.code, str(error))
                refusal.headers["WWW-Authenticate"] = "Bearer"
            except _TooLargeError:
                refusal = problem(413, "body-too-large", "The body is too large.")
            except TimeoutError:
                refusal = problem(408, "body-timeout", "The body did not arrive in time.")
        if refusal is not None:
            refusal.headers["Connection"] = "close"
            await refusal(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _refusal(self, request: Request) -> Response | None:
        """Refuse what a browser, or a name that was rebound, would send."""
        headers = request.headers
        if headers.getlist("host") not in ([host] for host in self._hosts):
            return problem(421, "host-foreign", "This host is not served here.")
        if "origin" in headers:
            return problem(403, "origin-refused", "Requests from web pages are not served.")
        if "cookie" in headers:
            return problem(403, "cookie-refused", "Requests with cookies are not served.")
        if headers.get("sec-fetch-site") not in (None, "none"):
            return problem(403, "origin-refused", "Requests from web pages are not served.")
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if (has_body or kind) and kind != "application/json":
            return problem(415, "not-json", "Send application/json.")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return problem(413, "body-too-large", "The body is too large.")
        return None

    def _check(self, request: Request, body: bytes) -> None:
        raw = request.scope.get("raw_path") or request.url.path.encode()
        query = request.scope.get("query_string", b"")
        target = raw.split(b"?", 1)[0] + (b"?" + query if query else b"")
        tokens = request.headers.getlist("authorization")
        header = tokens[0] if len(tokens) == 1 else None
        self._verifier.verify(header, request.method, target.decode("latin-1"), body)


class _TooLargeError(Exception):
    """The body is larger than allowed."""


async def _read(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _TooLargeError
        parts.append(part)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body, which was read to check it, to the app once more."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


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


class Api:
    """The endpoints.

    Parameters
    ----------
    services, runs, plans
        What they speak for.
    """

    def __init__(self, services: Services, runs: RunManager, plans: PlanManager) -> None:
        self._services = services
        self._runs = runs
        self._plans = plans

    def routes(self) -> list[Route]:
        """Return the routes."""
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST", "/run", self.run),
            ("GET", "/runs", self.list_runs),
            ("GET", "/runs/{id}", self.get_run),
            ("POST", "/runs/{id}/cancel", self.cancel),
            ("GET", "/runs/{id}/diff", self.diff),
            ("POST", "/runs/{id}/merge", self.merge),
            ("POST", "/runs/{id}/discard", self.discard),
            ("POST", "/plans", self.plan),
            ("POST", "/roots/validate", self.validate_root),
            ("POST", "/repos/validate", self.validate_repo),
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

    async def diff(self, request: Request) -> Response:
        """Return a run's diff."""
        return JSONResponse(await self._runs.diff(request.path_params["id"]))

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

    async def plan(self, request: Request) -> Response:
        """Start a decomposition."""
        return JSONResponse(await self._plans.submit(await _body(request, PlanPayload)), 202)

    async def validate_root(self, request: Request) -> Response:
        """Check a folder that is to be granted."""
        wanted = await _body(request, RootRequest)
        canonical = await asyncio.to_thread(
            canonical_root, wanted.path, state_dir=self._services.config.home
        )
        return JSONResponse({"path": wanted.path, "canonical_path": str(canonical)})

    async def validate_repo(self, request: Request) -> Response:
        """Check a repository that is to become a project."""
        wanted = await _body(request, RepoRequest)
        repo = await open_repository(wanted.path)
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
                "default_branch": repo.default_branch,
                "head_commit": repo.head_commit,
                "root": str(holding),
            }
        )

    async def health(self, _: Request) -> Response:
        """Say what this process is and can."""
        config, facts = self._services.config, self._services.facts
        depth = await asyncio.to_thread(self._services.outbox.depth)
        return JSONResponse(
            {
                "status": "ok",
                "version": version(),
                "id": config.lda_id,
                "boot_id": config.boot_id,
                "sandbox": {"tier": facts.tier, "facts": facts.facts, "missing": facts.missing},
                "roots": [],
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
    if isinstance(error, RepoRefused | RootRefused):
        return problem(422, error.code, str(error))
    if isinstance(error, GitError):
        return problem(409, "git-failed", str(error))
    if isinstance(error, OutboxUnavailable):
        return problem(503, "outbox-unavailable", str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return problem(503, "disk-full", "There is no disk space left; free some and try again.")
    return problem(500, "internal", "The LDA met an error of its own; see its log.")


def build_app(
    services: Services, *, public_key: bytes, port: int, announce: Callable[[], None]
) -> ASGIApp:
    """Build the whole application.

    Parameters
    ----------
    services
        What it works with; started and stopped with the application.
    public_key
        The backend's public key, PEM.
    port
        Where it listens, for the ``Host`` check.
    announce
        Called once runs are recovered and requests can be answered.
    """
    runs, plans = RunManager(services), PlanManager(services)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
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
            await plans.stop()
            await runs.stop()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await services.stop()
            services.outbox.close()

    handled: list[type[Exception]] = [
        HTTPException, RunRefused, MergeRefused, RepoRefused, RootRefused, GitError,
        OutboxUnavailable, OSError, Exception,
    ]  # fmt: skip
    app = Starlette(
        routes=Api(services, runs, plans).routes(),
        lifespan=lifespan,
        exception_handlers=dict.fromkeys(handled, _on_error),
    )
    hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
    return Door(app, Verifier(public_key, services.config.audience), hosts)


async def _warm(services: Services) -> None:
    """Load the model libraries before the first run needs them."""
    await services.module("worker")


def as_json(value: Any) -> bytes:
    """Encode a small document for a file."""
    return (json.dumps(value, indent=2) + "\n").encode()
