"""The server extension."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, CaselessStrEnum, Float, Int, TraitError, Unicode, default, validate

from rootbound import paths

from .host.base import Host
from .host.connection import BackendConnection, is_loopback
from .host.http import ApiHandler
from .host.identity import IdentitySigner
from .host.stack_handler import StackHandler, StackLogHandler
from .host.watch import StackWatch
from .host.websocket import SocketHandler

__all__ = ["RootboundApp"]

_STOP_TIMEOUT_S = 3.0


class RootboundApp(ExtensionApp):
    """Rootbound in Jupyter: hosts its HTTP and WebSocket routes below ``rootbound/``.

    The routes are served by a backend process beside Jupyter, which this extension starts or
    adopts. Nothing of it runs in Jupyter's process.
    """

    name = "rootbound"
    extension_url = "/lab"
    load_other_extensions = True

    home = Unicode(
        help="State folder. Default: $ROOTBOUND_HOME, else the platform's state folder."
    ).tag(config=True)

    autostart = CaselessStrEnum(
        ["lazy", "start", "off"],
        default_value="lazy",
        help="""When the stack is started: "lazy" by the first request, "start" together with this
        server, "off" only on demand (a running one is used in any case).""",
    ).tag(config=True)

    stop_with_jupyter = Bool(
        False,
        help="""Whether the stack ends with this server. By default it goes on, so that attempts
        survive a restart of Jupyter; `rootbound down` ends it.""",
    ).tag(config=True)

    start_timeout_s = Float(
        120.0, help="Seconds the stack may take to start before it counts as failed."
    ).tag(config=True)

    backend_socket = Unicode(
        help="""Unix socket of a backend that is run by other means. When set, no stack is started
        or adopted. Default: the stack's own."""
    ).tag(config=True)

    backend_url = Unicode(
        help="""Address of a backend on another machine, such as https://rootbound.example.org. When
        set, no stack is started or adopted, and the panels act for the user of the token in
        ROOTBOUND_TOKEN, else in JUPYTERHUB_API_TOKEN."""
    ).tag(config=True)

    max_message_bytes = Int(
        10 * 1024 * 1024, help="Largest WebSocket message, in bytes, in either direction."
    ).tag(config=True)

    @validate("backend_url")
    def _check_backend_url(self, proposal: Any) -> str:
        url = str(proposal["value"]).rstrip("/")
        is_open = url.startswith("http://") and not is_loopback(url)
        if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise TraitError(f"RootboundApp.backend_url is {url!r}, no http or https address.")
        if is_open and os.environ.get("ROOTBOUND_LDA_ALLOW_HTTP") != "1":
            raise TraitError(
                f"RootboundApp.backend_url is {url}, where the token could be read on the way; use "
                "https, or set ROOTBOUND_LDA_ALLOW_HTTP=1 in a network that you trust."
            )
        return url

    @default("home")
    def _default_home(self) -> str:
        return str(paths.state_dir())

    def initialize_handlers(self) -> None:
        """Add the routes.

        They are not put into the ``handlers`` trait: it would be prefixed with the base URL as if
        that were a regular expression.
        """
        web_app = self._server.web_app
        base_url: str = web_app.settings["base_url"]
        self.host = Host(
            watch=self._make_watch(),
            signer=IdentitySigner(Path(self.home)),
            prefix=f"{base_url.rstrip('/')}/rootbound",
            max_message_bytes=self.max_message_bytes,
            live=set(),
        )
        # The front end is installed by itself in some places; this is how it knows to stay away.
        web_app.settings.setdefault("page_config_data", {}).setdefault("rootbound", "true")
        prefix = re.escape(self.host.prefix)
        shared = {"host": self.host}
        web_app.add_handlers(
            ".*$",
            [
                (rf"{prefix}/api(?:/.*)?", ApiHandler, shared),
                (rf"{prefix}/mcp", ApiHandler, shared),
                (rf"{prefix}/ws(?:/.*)?", SocketHandler, shared),
                (rf"{prefix}/stack/?", StackHandler, shared),
                (rf"{prefix}/stack/logs/([a-z]+)/?", StackLogHandler, shared),
            ],
        )

    def _make_watch(self) -> StackWatch:
        return StackWatch(
            Path(self.home),
            autostart=self.autostart,
            stop_with_jupyter=self.stop_with_jupyter,
            start_timeout_s=self.start_timeout_s,
            given=self._given_backend(),
            log=self.log,
        )

    def _given_backend(self) -> BackendConnection | None:
        if self.backend_url:
            names = ("ROOTBOUND_TOKEN", "JUPYTERHUB_API_TOKEN")
            token = next((os.environ[name] for name in names if os.environ.get(name)), "")
            return BackendConnection(self.backend_url, token)
        return BackendConnection(self.backend_socket) if self.backend_socket else None

    @property
    def _server(self) -> Any:
        if self.serverapp is None:
            raise RuntimeError("The extension is not linked to a server.")
        return self.serverapp

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Start the stack together with the server when so configured; does not wait for it."""
        if self.autostart == "start":
            self.host.watch.start()

    def current_activity(self) -> dict[str, int] | None:
        """Return the number of open requests and streams, so that they hold off idle shutdown."""
        return {"rootbound_open": len(self.host.live)} if self.host.live else None

    async def stop_extension(self) -> None:
        """End open requests and streams, and close the connections; bounded in time.

        The stack is left alone: with ``stop_with_jupyter`` its guard ends it when this process has
        gone.
        """
        for handler in list(self.host.live):
            handler.stop()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                while self.host.live:  # noqa: ASYNC110 (bounded, at shutdown only)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self.log.warning("Rootbound: %d streams did not end in time", len(self.host.live))
        await self.host.watch.close()
