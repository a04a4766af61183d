"""The stack's guard: one detached process per state folder that runs and watches the services.

It holds a lock on ``run/guard.lock``, listens on ``guard.sock`` (JSON lines, see `Guard.handle`),
keeps ``run/stack.json`` true and is the parent of every service. When it is killed, the kernel
tells the services to end; what is left anyway is found and stopped by the next guard.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import datetime
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from rootbound import paths
from rootbound._version import __version__
from rootbound_server_ext.stack import secrets
from rootbound_server_ext.stack.errors import StackError
from rootbound_server_ext.stack.leftovers import stop_leftovers
from rootbound_server_ext.stack.services import MODEL_KEYS, ServiceSpec, Stack
from rootbound_server_ext.stack.state import StackInfo, stack_id, write_stack
from rootbound_server_ext.stack.supervisor import Supervisor

__all__ = ["Guard", "acquire_lock", "guard_socket", "main"]

_TOKEN_REFRESH_S = 24 * 3600
_PR_SET_CHILD_SUBREAPER = 36

_log = logging.getLogger("rootbound.guard")


def guard_socket(home: Path) -> Path:
    """Return where a guard of this state folder listens, as this process's environment has it."""
    return paths.socket_dir(home) / "guard.sock"


def acquire_lock(home: Path) -> IO[str] | None:
    """Take the guard's lock without waiting.

    Returns
    -------
    file or None
        Keep it open to keep the lock; None when another process has it.

    Raises
    ------
    OSError
        When the lock file cannot be opened.
    """
    descriptor = os.open(paths.run_dir(home) / "guard.lock", os.O_RDWR | os.O_CREAT, 0o600)
    file = os.fdopen(descriptor, "r+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


class Guard:
    """The services of one state folder and the conversation with those who ask for them.

    Parameters
    ----------
    stack
        Addresses and services.
    specs
        The services; default those of ``stack``.
    """

    def __init__(self, stack: Stack, specs: list[ServiceSpec] | None = None) -> None:
        self.stack = stack
        self.home = stack.home
        self.socket = stack.socket_folder / "guard.sock"
        self.bound: set[psutil.Process] = set()
        self.supervisor = Supervisor(
            stack.specs() if specs is None else specs,
            paths.logs_dir(self.home),
            changed=self._changed,
            progress=self._progress,
        )
        self.started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._listeners: set[asyncio.Queue[dict[str, Any]]] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._starting = asyncio.Lock()
        self._finished = False

    @property
    def info(self) -> StackInfo:
        """The state of everything."""
        services = {name: one.info for name, one in self.supervisor.services.items()}
        return StackInfo(
            url=self.stack.url,
            backend_socket=str(self.stack.backend_socket),
            guard_pid=None if self._finished else os.getpid(),
            guard_socket=str(self.socket),
            started_at=self.started_at,
            services=services,
            rootbound=__version__,
        )

    def _changed(self) -> None:
        try:
            write_stack(self.home, self.info)
        except OSError as error:  # a full disk must not end the services
            _log.error("stack.json cannot be written: %s", error)

    def _progress(self, text: str) -> None:
        _log.info("%s", text)
        self._tell({"event": "progress", "text": text})

    def _tell(self, message: dict[str, Any]) -> None:
        for queue in self._listeners:
            queue.put_nowait(message)

    async def run(self, announce: Callable[[dict[str, Any]], None]) -> None:
        """Serve until told to stop.

        Parameters
        ----------
        announce
            Called once the socket answers, and with the reason when it cannot.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGCHLD, self.supervisor.child_ended)
        # We hold the lock, so a socket file here belongs to a guard that is dead.
        self.socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, str(self.socket), limit=1 << 20)
        self.socket.chmod(0o600)
        announce({"event": "listening", "socket": str(self.socket)})
        background = [asyncio.create_task(one) for one in (self._tokens(), self._watch_bound())]
        try:
            await self._first_start()
            watcher = asyncio.create_task(self.supervisor.watch())
            background.append(watcher)
            watcher.add_done_callback(self._watch_ended)
            await self._stop.wait()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.supervisor.stop_all()
            server.close()
            self.socket.unlink(missing_ok=True)
            self.stack.close()
            self._finished = True
            self._changed()
            self._tell({"event": "stopped"})
            # Those who wait get the last word before the connection closes.
            await asyncio.sleep(0.05)
            for conversation in self._conversations:
                conversation.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self.handle(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("The watch over the services failed", exc_info=task.exception())
            self._stop.set()

    async def _first_start(self) -> None:
        async with self._starting:
            stopped = await asyncio.to_thread(stop_leftovers, self.home, self.stack.stack_id)
            if stopped:
                self._progress(f"Stopped what an earlier guard left: {', '.join(stopped)}")
            starting = asyncio.create_task(self._listen_and_start())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return
            try:
                await starting
            except StackError as error:
                # The log is written by every guard; the reason's own log is told to the caller.
                _log.error("%s", error.message)
                await self.supervisor.stop_all()
                self._tell({**_failure(error), "ending_pid": os.getpid()})
                self._stop.set()

    async def _listen_and_start(self) -> None:
        # Only now: what was left behind may have held the port.
        self.stack.listen()
        await self.supervisor.start_all()

    async def _tokens(self) -> None:
        while True:
            await asyncio.sleep(_TOKEN_REFRESH_S)
            try:
                await asyncio.to_thread(secrets.write_headless_token, self.home)
            except StackError as error:
                _log.error("%s", error.message)

    async def _watch_bound(self) -> None:
        """Stop when the last process that we were bound to has ended."""
        while True:
            await asyncio.sleep(0.5)
            if not self.bound:
                continue
            self.bound = {one for one in self.bound if _lives(one)}
            if not self.bound:
                self._progress("The process this stack was bound to has ended")
                self._stop.set()
                return

    def bind(self, pid: int | None) -> None:
        """Bind the stack's life to a process, or (None) unbind it.

        Raises
        ------
        StackError
            When there is no such process.
        """
        if pid is None:
            self.bound.clear()
            return
        try:
            self.bound.add(psutil.Process(pid))
        except psutil.NoSuchProcess as error:
            raise StackError(f"There is no process {pid} to stop with.") from error

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection: one JSON object per line, each with ``op``.

        ``status``; ``wait`` (start what failed, then wait until all is ready; sends ``progress``
        events on the way); ``restart`` with ``service``; ``bind`` with ``pid`` (null: unbind;
        ``only_if_bound``: leave a stack alone that is bound to nobody); ``attach`` (the stack stops
        when this connection closes); ``stop``.
        """
        attached = False
        try:
            while line := await reader.readline():
                try:
                    request = json.loads(line)
                    attached = attached or request.get("op") == "attach"
                    async for answer in self._answers(request):
                        writer.write(json.dumps(answer).encode() + b"\n")
                        await writer.drain()
                except StackError as error:
                    writer.write(json.dumps(_failure(error)).encode() + b"\n")
                except (ValueError, AttributeError, TypeError):
                    writer.write(b'{"event":"failed","message":"not a request"}\n')
        except (ConnectionError, asyncio.IncompleteReadError):
            _log.debug("a client went away")
        finally:
            writer.close()
            if attached:
                self._stop.set()

    async def _answers(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        operation = request.get("op")
        if operation == "stop":
            with self._listen() as queue:
                self._stop.set()
                async for message in _until(queue, "stopped"):
                    yield message
        elif operation == "wait":
            async for message in self._wait():
                yield message
        elif operation == "restart":
            async with self._starting:
                await self.supervisor.restart(str(request.get("service")))
            yield {"event": "ready", "stack": self.info.to_json()}
        elif operation == "bind":
            if self.bound or not request.get("only_if_bound"):
                self.bind(request.get("pid"))
            yield {"event": "ok"}
        elif operation in ("status", "attach"):
            keys = [name for name in MODEL_KEYS if os.environ.get(name)]
            yield {"event": "ok", "stack": self.info.to_json(), "keys": keys}
        else:
            raise StackError(f"unknown operation {operation!r}")

    @contextlib.contextmanager
    def _listen(self) -> Iterator[asyncio.Queue[dict[str, Any]]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    async def _wait(self) -> AsyncIterator[dict[str, Any]]:
        with self._listen() as queue:
            work = asyncio.create_task(self._until_ready())
            work.add_done_callback(lambda _: queue.put_nowait({"event": "done"}))
            async for message in _until(queue, "done", "failed", "stopped"):
                if message["event"] != "done":
                    yield message
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                return
            try:
                await work
            except StackError as error:
                yield _failure(error)
                return
            keys = [name for name in MODEL_KEYS if os.environ.get(name)]
            yield {"event": "ready", "stack": self.info.to_json(), "keys": keys}

    async def _until_ready(self) -> None:
        async with self._starting:
            if not self._stop.is_set():
                await self.supervisor.start_all()
        while not self.info.ready:
            if self.supervisor.failures:
                raise self.supervisor.failures[0]
            await asyncio.sleep(0.05)


async def _until(queue: asyncio.Queue[dict[str, Any]], *last: str) -> AsyncIterator[dict[str, Any]]:
    while True:
        message = await queue.get()
        yield message
        if message["event"] in last:
            return


def _failure(error: StackError) -> dict[str, Any]:
    return {
        "event": "failed",
        "message": error.message,
        "service": error.service,
        "log_tail": error.log_tail,
    }


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _become_subreaper() -> None:
    # Children of a service that died are handed to us, so that they can be stopped.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _announcer(descriptor: int | None) -> Callable[[dict[str, Any]], None]:
    def announce(message: dict[str, Any]) -> None:
        nonlocal descriptor
        if descriptor is None:
            return
        with contextlib.suppress(BrokenPipeError):  # the one who started us has gone
            os.write(descriptor, json.dumps(message).encode() + b"\n")
        os.close(descriptor)
        descriptor = None

    return announce


def main(
    argv: list[str] | None = None,
    make_specs: Callable[[Stack], list[ServiceSpec]] | None = None,
) -> int:
    """Run a guard; the entry of ``python -m rootbound_server_ext.stack.guard``.

    Parameters
    ----------
    argv
        Arguments; default the process's.
    make_specs
        Makes the services; default those of `Stack`.

    Returns
    -------
    int
        Exit code: 0, also when another guard has the lock; 1 when it cannot work.
    """
    parser = argparse.ArgumentParser(prog="rootbound-guard")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--with-pid", type=int, help="stop when this process ends")
    parser.add_argument("--announce-fd", type=int, help="descriptor for one line of news")
    parser.add_argument("--detach", action="store_true", help="leave the caller's process tree")
    options = parser.parse_args(argv)
    if options.detach and os.fork() != 0:
        os._exit(0)  # the caller waits for this process only
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    announce = _announcer(options.announce_fd)
    try:
        return _guard(options.home.resolve(), options.with_pid, announce, make_specs)
    except (StackError, OSError) as error:
        message = error.message if isinstance(error, StackError) else f"The guard failed: {error}"
        _log.error("%s", message)
        announce({"event": "failed", "message": message, "service": None, "log_tail": ""})
        return 1


def _guard(
    home: Path,
    with_pid: int | None,
    announce: Callable[[dict[str, Any]], None],
    make_specs: Callable[[Stack], list[ServiceSpec]] | None,
) -> int:
    paths.ensure_state_dir(home)
    lock = acquire_lock(home)
    if lock is None:
        announce({"event": "busy"})
        return 0
    _become_subreaper()
    os.chdir(home)
    secrets.ensure_secrets(home)
    secrets.write_headless_token(home)
    stack = Stack(home, stack_id(home))

    async def run() -> None:
        guard = Guard(stack, make_specs(stack) if make_specs else None)
        if with_pid is not None:
            guard.bind(with_pid)
        await guard.run(announce)

    with lock:
        asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
