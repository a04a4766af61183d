"""Following a project's board, as `stream` follows an attempt's events."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _cursor
from . import _operations as ops
from ._cursor import StreamCursor
from ._flows import all_pages
from .errors import ConnectionFailedError, ServerError
from .models import BaseTask

if TYPE_CHECKING:
    from .client import Client


def follow_board(
    client: Client, project_id: str, stop: threading.Event
) -> Iterator[dict[str, Any]]:
    """Yield a project's board frames until `stop` is set.

    Parameters
    ----------
    client : Client
        Whose server and token to use.
    project_id : str
        The project.
    stop : threading.Event
        Set by another thread to end within a second.

    Yields
    ------
    dict
        ``{"type": "snapshot", "tasks"}`` after every (re)connection, then
        ``{"type": "task", "task"}`` and ``{"type": "task_deleted", "id"}``.

    Raises
    ------
    RootboundError
        If the project is not visible, or the server stays away for more than a minute.
    """
    cursor = StreamCursor(stop=stop)
    while not stop.is_set():
        yield from _over_socket(client, project_id, cursor)
        if stop.is_set():
            return
        try:
            tasks = client._run(
                all_pages(client.endpoint, BaseTask, None, "projects", project_id, "tasks")
            )
            yield {"type": "snapshot", "tasks": [task.raw for task in tasks]}
            cursor.succeeded()
        except (ConnectionFailedError, ServerError) as error:
            cursor.failed(error)
        stop.wait(cursor.pause())


def _over_socket(client: Client, project_id: str, cursor: StreamCursor) -> Iterator[dict[str, Any]]:
    """Yield frames from one WebSocket until it is lost."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    endpoint = client.endpoint
    route = ops.path("projects", project_id).removeprefix("/api")
    try:
        with connect(f"{endpoint.ws_url}/ws{route}", **_cursor.ws_options(endpoint)) as socket:
            while not cursor.is_over:
                try:
                    frame = _cursor.frame(socket.recv(timeout=cursor.next_look()))
                except TimeoutError:
                    continue
                cursor.progressed()
                yield frame
                if (seq := frame.get("seq")) is not None:
                    socket.send(json.dumps({"type": "ack", "seq": seq}))
    except (OSError, ValueError, WebSocketException) as error:
        _cursor.check_close(error, f"Project {project_id}")
