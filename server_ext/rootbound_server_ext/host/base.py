"""What every handler of the host does first: identity, authorizer, origin."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import ensure_async
from tornado import web

from .identity import Identity, IdentitySigner, identity_of, local_owner
from .problems import PROBLEM_TYPE, HostProblem, problem_body
from .resources import DEFAULT_RESOURCE, action_of, has_dot_segment, resource_of

if TYPE_CHECKING:
    from .connection import BackendConnection
    from .http import ApiHandler
    from .watch import StackWatch
    from .websocket import SocketHandler

__all__ = ["Host", "HostHandler"]


@dataclass(frozen=True)
class Host:
    """What the handlers share.

    Attributes
    ----------
    watch : StackWatch
        Gives the connection to the backend.
    signer : IdentitySigner
        Makes the identity header.
    prefix : str
        Path before the backend's paths, percent-encoded, without a trailing slash, for example
        ``/user/a%20b/rootbound``.
    max_message_bytes : int
        Largest WebSocket message in either direction.
    live : set
        The handlers that carry something at this moment.
    """

    watch: StackWatch
    signer: IdentitySigner
    prefix: str
    max_message_bytes: int
    live: set[ApiHandler | SocketHandler]


class HostHandler(APIHandler):
    """Base of the host's handlers: checks who asks, and answers errors as problems.

    ``ServerApp.allow_unauthenticated_access`` is true by default, so Jupyter's own ``prepare`` lets
    everybody in; and plain Jupyter handlers redirect to the login page. Neither suits an API.
    """

    host: Host

    def initialize(self, host: Host) -> None:
        """Receive the shared parts from the route."""
        self.host = host

    @property
    def inner_path(self) -> str:
        """The path below the prefix, percent-encoded as the client sent it."""
        return self.request.path[len(self.host.prefix) :]

    @property
    def auth_action(self) -> str:
        """The action that the authorizer is asked for."""
        return action_of(self.request.method or "")

    @property
    def auth_resource(self) -> str:
        """The resource that the authorizer is asked for."""
        path = self.inner_path
        return resource_of(path) if path.startswith(("/api", "/ws")) else DEFAULT_RESOURCE

    @property
    def identity(self) -> Identity:
        """The authenticated user, as the backend knows it."""
        return identity_of(self.current_user, self.identity_provider)

    def proof(self, connection: BackendConnection, method: str) -> Mapping[str, str]:
        """Return the headers that tell the backend whom this request is for.

        Raises
        ------
        HostProblem
            503 when the key for it cannot be read; 403 for somebody else than the one whom this
            server speaks for at a backend on another machine.
        """
        identity = self.identity
        if not connection.is_remote:
            return self.host.signer.header(identity, method, unquote(self.inner_path))
        owner = os.environ.get("JUPYTERHUB_USER")
        if owner and identity.username not in (owner, local_owner()):
            raise HostProblem(
                403,
                "not-the-owner",
                f"The panels of this server act for {owner} at {connection.address}; use a server "
                "of your own.",
            )
        return connection.proof

    async def admit(self) -> None:
        """Let the request in, or refuse it.

        Raises
        ------
        tornado.web.HTTPError
            403 for a foreign ``Host``, a missing identity, a missing XSRF token, a foreign origin,
            or when the authorizer says no; 400 for a path with dot segments.
        """
        await cast("Awaitable[None]", JupyterHandler.prepare(self, _redirect_to_login=False))
        if self.request.method == "OPTIONS":
            return  # a CORS preflight carries no credentials; `options` tells nothing
        user = self.current_user
        if user is None:
            raise self._stranger()
        action, resource = self.auth_action, self.auth_resource
        if not await ensure_async(self.authorizer.is_authorized(self, user, action, resource)):
            raise HostProblem(
                403, "forbidden", f"This server does not allow you to {action} {resource}."
            )
        if not self.check_origin():
            raise HostProblem(
                403,
                "foreign-origin",
                "The request comes from another site; allow it with ServerApp.allow_origin.",
            )
        if has_dot_segment(self.inner_path):
            raise HostProblem(400, "bad-path", "The path must not contain '.' or '..' segments.")

    def _stranger(self) -> HostProblem:
        if not self.check_host():
            return HostProblem(
                403,
                "foreign-host",
                "This server does not answer under that host name; see "
                "ServerApp.allow_remote_access and ServerApp.local_hostnames.",
            )
        return HostProblem(
            403, "unauthenticated", "Log in to this Jupyter server, or send its token."
        )

    async def prepare(self, *, _redirect_to_login: bool = False) -> None:
        """Admit the request; subclasses go on from there."""
        await self.admit()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error as ``application/problem+json``."""
        error = kwargs.get("exc_info", (None, None))[1]
        if status_code == 403 and getattr(self, "_jupyter_current_user", error) is None:
            # Jupyter's own reasons for refusing a stranger, such as a missing XSRF token, would
            # send people the wrong way.
            error = self._stranger()
        if isinstance(error, HostProblem):
            body = problem_body(status_code, code=error.code, detail=error.detail, **error.extras)
            for name, value in error.headers.items():
                self.set_header(name, value)
        elif isinstance(error, web.HTTPError):
            body = problem_body(status_code, detail=error.get_message() or "")
        else:
            body = problem_body(status_code)
        self.set_header("Content-Type", PROBLEM_TYPE)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(body))

    def _log(self) -> None:
        # Jupyter logs every 5xx as an error with its headers; a stack that starts is none.
        if self.get_status() == 503:
            self.log.info("Rootbound is not ready for %s %s", self.request.method, self.inner_path)
        else:
            super()._log()

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        """End the answer with the content type it has (Jupyter's would set its own)."""
        self.update_api_activity()
        kwargs.pop("set_content_type", None)
        return web.RequestHandler.finish(self, *args, **kwargs)
