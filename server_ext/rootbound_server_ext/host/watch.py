"""Whether the stack is up: starts or adopts it, and hands out the connection to its backend."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from rootbound import paths

from ..stack.errors import StackError
from .connection import BackendConnection
from .problems import HostProblem, not_ready

if TYPE_CHECKING:
    from ..stack.state import StackInfo

__all__ = ["Autostart", "StackApi", "StackState", "StackWatch"]

Autostart = Literal["lazy", "start", "off"]
_Result = TypeVar("_Result")

# A stack that runs already is adopted within this time, so that the first request need not fail.
_ADOPTION_WAIT_S = 1.0
_FIRST_BACKOFF_S = 5.0
_LAST_BACKOFF_S = 60.0
_STOP_TIMEOUT_S = 2.0


class StackState(StrEnum):
    """How far the stack is, as seen from this Jupyter server."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class StackApi(Protocol):
    """The functions of `rootbound_server_ext.stack.api` that the host uses; they block."""

    def start(
        self,
        home: Path,
        *,
        stop_with_pid: int | None,
        timeout_s: float,
        progress: Callable[[str], None],
    ) -> StackInfo:
        """Start or adopt the stack of a state folder and wait until it is ready."""

    def status(self, home: Path) -> StackInfo | None:
        """Return the stack of a state folder whose guard runs, or None."""

    def restart(self, home: Path, service: str) -> StackInfo:
        """Stop and start one service."""


class StackWatch:
    """The state of the stack, and the connection to its backend.

    Two Jupyter servers with the same state folder share one stack: whoever comes second adopts it.

    Parameters
    ----------
    home
        State folder.
    autostart
        ``"lazy"``: started by the first request; ``"start"``: by `start`, which the extension calls
        when the server starts; ``"off"``: only by an explicit `start`, a running one is adopted.
    stop_with_jupyter
        Whether the stack ends with this process.
    start_timeout_s
        Seconds the start may take.
    given
        The way to a backend that somebody else runs; then no stack is started. Default: the
        stack's own.
    api
        Default `rootbound_server_ext.stack.api`, imported when first needed.
    log
        Logger.
    """

    def __init__(
        self,
        home: Path,
        *,
        autostart: Autostart,
        stop_with_jupyter: bool,
        start_timeout_s: float,
        log: logging.Logger,
        given: BackendConnection | None = None,
        api: StackApi | None = None,
    ) -> None:
        self._home = home
        self._autostart = autostart
        self._stop_with_jupyter = stop_with_jupyter
        self._start_timeout_s = start_timeout_s
        self._log = log
        self._api = api
        self._given = given
        self._connection: BackendConnection | None = None
        self._retired: list[BackendConnection] = []
        self._state = StackState.STOPPED
        self._message = "The stack has not been started by this server."
        self._services: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._backoff_s = _FIRST_BACKOFF_S
        self._failed_at = 0.0
        self._wanted_at = time.time()

    @property
    def state(self) -> StackState:
        """The state as last seen."""
        return self._state

    async def connection(self) -> BackendConnection:
        """Return the connection to a backend that is ready, as far as known.

        Starts or adopts the stack when ``autostart`` allows.

        Raises
        ------
        HostProblem
            503 with ``Retry-After``: ``stack-starting``, ``stack-stopped`` or ``stack-failed``.
        """
        if self._given is not None:
            return self._given
        if not self._is_ready():
            if self._autostart == "off" or self._is_stopped_by_hand():
                await self._adopt()
            elif self._may_start() and not self._is_starting():
                self._begin("The stack is starting.")
            await self._wait_a_moment()
        if self._connection is not None and self._is_ready():
            return self._connection
        raise self._not_ready()

    def start(self) -> None:
        """Start or adopt the stack in the background, unless that is under way or done."""
        if self._given is not None or self._is_ready() or self._is_starting():
            return
        self._wanted_at = time.time()
        self._begin("The stack is starting.")

    def lost(self, connection: BackendConnection) -> HostProblem:
        """Record that nobody listens on a connection's socket.

        Parameters
        ----------
        connection
            The one that failed; an older one than the present changes nothing.

        Returns
        -------
        HostProblem
            503 with ``Retry-After``, to be raised by the caller.
        """
        if connection.is_remote:
            return not_ready(
                "backend-unreachable",
                f"The backend at {connection.address} does not answer; ask again.",
            )
        if connection is self._connection and self._is_ready():
            self._log.warning("Rootbound's backend does not answer on its socket; looking again.")
            if self._is_stopped_by_hand():
                self._set(StackState.STOPPED, "The stack was stopped.")
                return self._not_ready()
            self._set(StackState.STOPPED, "The backend is restarting.")
            if self._autostart != "off" and not self._is_starting():
                self._begin("The backend is restarting.")
        return not_ready("backend-unreachable", "Rootbound's backend is restarting; ask again.")

    async def describe(self) -> dict[str, Any]:
        """Return state, message and services for people to see.

        A stack that somebody else started is found and adopted here; none is started.
        """
        if self._given is not None:
            await self._probe_given()
        elif not self._is_starting():
            await self._adopt()
        return {
            "state": str(self._state),
            "message": self._message,
            "services": self._services,
            "autostart": self._autostart,
        }

    async def restart(self, service: str) -> None:
        """Stop and start one service of the stack, and wait until it is ready.

        Raises
        ------
        StackError
            When there is no such service, it is not ours, or it does not start.
        """
        if self._given is not None:
            raise StackError("The configured backend is not run by Rootbound; restart it yourself.")
        api = await self._load_api()
        info = await _off_loop(lambda: api.restart(self._home, service))
        if not self._is_starting():
            self._use(info)

    async def log_of(self, service: str, lines: int) -> str:
        """Return the end of a service's log.

        Raises
        ------
        StackError
            When there is no such service.
        """
        if self._given is not None and self._given.is_remote:
            raise StackError(f"The logs are kept where the services run, {self._given.host}.")

        def read() -> str:
            # Imported with the stack's other modules, when they are first needed.
            from ..stack.logs import service_log

            return service_log(self._home, service, lines)

        return await _off_loop(read)

    async def close(self) -> None:
        """Stop watching and close the connections; the stack itself is left alone."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_STOP_TIMEOUT_S)
        for connection in (self._given, self._connection, *self._retired):
            if connection is not None:
                await connection.close()
        self._retired.clear()

    def _is_ready(self) -> bool:
        return self._state is StackState.READY

    def _is_starting(self) -> bool:
        return self._task is not None and not self._task.done()

    def _begin(self, message: str) -> None:
        self._set(StackState.STARTING, message)
        self._task = asyncio.create_task(self._bring_up())

    def _is_stopped_by_hand(self) -> bool:
        """Whether somebody ended the stack on purpose since it was wanted here.

        Open panels ask again and again; that alone must not undo `rootbound down`, nor start a
        stack between the two halves of a restart.
        """
        try:
            stopped_at = paths.stopped_file(self._home).stat().st_mtime
        except OSError:
            return False
        return stopped_at >= self._wanted_at

    def _may_start(self) -> bool:
        return self._state is not StackState.FAILED or self._backoff_left() <= 0

    def _backoff_left(self) -> float:
        return self._failed_at + self._backoff_s - time.monotonic()

    def _set(self, state: StackState, message: str) -> None:
        self._state = state
        self._message = message

    def _not_ready(self) -> HostProblem:
        if self._state is StackState.FAILED:
            wait_s = 1 + int(max(0.0, self._backoff_left()))
            return not_ready("stack-failed", self._message, retry_after_s=wait_s)
        if self._state is StackState.STARTING:
            return not_ready("stack-starting", self._message)
        return not_ready(
            "stack-stopped",
            "Rootbound's stack is not running; start it in the panel or with `rootbound up`.",
            retry_after_s=5,
        )

    async def _wait_a_moment(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_ADOPTION_WAIT_S)

    async def _load_api(self) -> StackApi:
        if self._api is None:
            name = f"{__package__.rpartition('.')[0]}.stack.api"
            module = await _off_loop(lambda: importlib.import_module(name))
            self._api = cast("StackApi", module)
        return self._api

    async def _bring_up(self) -> None:
        try:
            api = await self._load_api()
            info = await _off_loop(
                lambda: api.start(
                    self._home,
                    stop_with_pid=os.getpid() if self._stop_with_jupyter else None,
                    timeout_s=self._start_timeout_s,
                    progress=self._progress,
                )
            )
        except Exception as exc:
            self._fail(exc)
        else:
            self._use(info)
            self._backoff_s = _FIRST_BACKOFF_S

    def _fail(self, exc: Exception) -> None:
        if self._failed_at:
            self._backoff_s = min(self._backoff_s * 2, _LAST_BACKOFF_S)
        self._failed_at = time.monotonic()
        if isinstance(exc, StackError):
            self._log.error("Rootbound's stack is not usable: %s", exc)
            self._set(StackState.FAILED, str(exc))
        else:
            self._log.error("Rootbound's stack did not start", exc_info=exc)
            self._set(
                StackState.FAILED,
                f"The stack did not start ({type(exc).__name__}); Jupyter's log has the details.",
            )

    def _progress(self, text: str) -> None:
        # Called from the starting thread: one assignment, no loop involved.
        if self._state is StackState.STARTING:
            self._message = text

    async def _adopt(self) -> None:
        api = await self._load_api()
        try:
            info = await _off_loop(lambda: api.status(self._home))
        except StackError as exc:
            self._fail(exc)
            return
        if self._is_starting():
            return
        if info is None:
            self._services = {}
            if self._state is not StackState.FAILED:
                self._set(StackState.STOPPED, "The stack is not running.")
        elif (backend := info.services.get("backend")) is not None and backend.state == "ready":
            self._use(info)
        else:
            self._services = {name: asdict(one) for name, one in info.services.items()}
            self._set(StackState.STARTING, _summary(info))

    def _use(self, info: StackInfo) -> None:
        path = str(info.backend_socket)
        if self._connection is None or self._connection.address != path:
            if self._connection is not None:
                self._retired.append(self._connection)  # its streams may still be read
            self._connection = BackendConnection(path)
        self._services = {name: asdict(one) for name, one in info.services.items()}
        self._failed_at = 0.0
        self._set(StackState.READY, _summary(info))

    async def _probe_given(self) -> None:
        assert self._given is not None  # noqa: S101 (for the type checker)
        if self._given.is_remote:
            known, message = await self._given.greet()
            self._set(StackState.READY if known else StackState.FAILED, message)
        elif await self._given.is_listening():
            self._set(StackState.READY, "The configured backend is ready.")
        else:
            self._set(
                StackState.FAILED,
                f"Nobody listens on the configured backend socket {self._given.address}.",
            )


def _summary(info: StackInfo) -> str:
    waiting = [
        f"{name} is {one.state}" for name, one in info.services.items() if one.state != "ready"
    ]
    return f"In the stack, {', '.join(waiting)}." if waiting else "The stack is ready."


async def _off_loop(function: Callable[[], _Result]) -> _Result:
    """Run a blocking function in a daemon thread.

    Not in the loop's executor: Python joins its threads at exit, and a stack that is slow to start
    would keep Jupyter from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def deliver(set_outcome: Callable[[Any], None], outcome: object) -> None:
        def apply() -> None:
            if not done.done():
                set_outcome(outcome)

        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(apply)

    def work() -> None:
        try:
            result = function()
        except Exception as exc:
            deliver(done.set_exception, exc)
        else:
            deliver(done.set_result, result)

    threading.Thread(target=work, name="rootbound-stack", daemon=True).start()
    return await done
