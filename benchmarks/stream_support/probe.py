"""A Jupyter server extension that notes how late the server's event loop is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import tornado.web
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join

PROBE_S = 0.005

_gaps: list[float] = []


async def _probe() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PROBE_S
        await asyncio.sleep(PROBE_S)
        _gaps.append(loop.time() - due)


class GapsHandler(JupyterHandler):
    """Answers with the gaps in seconds, and forgets them."""

    @tornado.web.authenticated
    def get(self) -> None:
        """Answer."""
        self.finish(json.dumps(_gaps))
        _gaps.clear()


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    where = url_path_join(server.web_app.settings["base_url"], "bench/gaps")
    server.web_app.add_handlers(".*$", [(where, GapsHandler)])
    server.io_loop.add_callback(_probe)
