"""One running command, seen from the LDA: its output, records and end, in a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rootbound_lda.audit import AuditSink, AuditUnavailable
from rootbound_lda.sandbox._keeper import Keeper

_CHUNK = 1 << 16
_GRACE_S = 10.0
_PENDING_CALLBACKS = 64
_SIGNALS = 128

Fork = Callable[[Mapping[str, object], Sequence[int]], int]


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Parameters
    ----------
    exit_code
        Its exit code; 128 plus the signal's number if a signal ended it; 127 if the program was
        not found and 126 if it could not be run.
    signal
        Number of the signal that ended it, else None.
    duration_s
        Seconds from request to end.
    timed_out
        Whether it was killed at its time limit.
    output
        Output and errors as they came, cut in the middle if too long.
    output_bytes
        Length of the whole output, in bytes.
    output_sha256
        Hexadecimal SHA-256 of the whole output.
    withdrawn
        Whether it was killed because what it was started with was withdrawn; its exit code says
        nothing of it then.
    """

    exit_code: int
    signal: int | None
    duration_s: float
    timed_out: bool
    output: bytes
    output_bytes: int
    output_sha256: str
    withdrawn: bool = False


class _Output:
    """Head and tail of an output, its length and digest."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._hash = hashlib.sha256()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        self._hash.update(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        rest = data[max(room, 0) :]
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
            while self._tail_bytes - len(self._tail[0]) >= self._half:
                self._tail_bytes -= len(self._tail.popleft())

    def kept(self) -> bytes:
        tail = b"".join(self._tail)[-self._half :]
        lost = self.total - len(self._head) - len(tail)
        mark = b"\n[... %d bytes left out ...]\n" % lost if lost else b""
        return bytes(self._head) + mark + tail

    def digest(self) -> str:
        return self._hash.hexdigest()


class Command:
    """A command under way; `run` once, `kill` from anywhere."""

    def __init__(
        self,
        fork: Fork,
        job: Mapping[str, object],
        audit: AuditSink,
        *,
        records: str,
        on_output: Callable[[str, bytes], None] | None,
        stdin: bytes | None,
        max_output: int,
        timeout_s: float,
    ) -> None:
        self._fork = fork
        self._job = job
        self._audit = audit
        self._records = records
        self._on_output = on_output
        self._stdin = stdin
        self._timeout_s = timeout_s
        self._output = _Output(max_output)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[CommandResult] = self._loop.create_future()
        self._wake_read, self._wake_write = socket.socketpair()
        self._slots = threading.Semaphore(_PENDING_CALLBACKS)
        self._end: dict[str, Any] | None = None
        self._fault: BaseException | None = None
        self._line = b""

    async def run(self) -> CommandResult:
        """Run to the end; a cancellation kills the tree first."""
        threading.Thread(target=self._thread, name="rootbound-command", daemon=True).start()
        try:
            return await asyncio.shield(self._done)
        except asyncio.CancelledError:
            self.kill()
            await self.ended()
            raise

    def kill(self) -> None:
        """Have the tree killed; returns at once."""
        with suppress(OSError):
            self._wake_write.send(b"K")

    def signal(self, number: int) -> None:
        """Have a signal sent to the child and what it started in its process group."""
        with suppress(OSError):
            self._wake_write.send(bytes([_SIGNALS + number]))

    async def ended(self) -> None:
        """Wait until nothing of the tree is left."""
        while not self._done.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._done])
        self._done.exception()

    # -- the thread ----------------------------------------------------------------------------

    def _thread(self) -> None:
        try:
            result = self._execute()
        except BaseException as error:
            self._tell(self._done.set_exception, error)
        else:
            self._tell(self._done.set_result, result)
        finally:
            self._wake_write.close()
            self._wake_read.close()

    def _tell(self, act: Callable[..., object], *args: object) -> None:
        # The loop may have been closed under a command that was abandoned.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act, *args)

    def _execute(self) -> CommandResult:
        started = time.monotonic()
        try:
            keeper = Keeper(self._records, self._audit)
        except OSError as error:
            raise _unavailable(f"there is no space for its records ({error})") from error
        try:
            timed_out = self._run_kept(keeper, started + self._timeout_s)
            if self._fault is None:
                self._keep(keeper)
        finally:
            keeper.close()
        return self._result(time.monotonic() - started, timed_out=timed_out)

    def _run_kept(self, keeper: Keeper, deadline: float) -> bool:
        control, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        in_read = self._input()
        try:
            fds = [theirs.fileno(), in_read, out_write, err_write, keeper.fd]
            self._fork(self._job, fds)
        except BaseException:
            control.close()
            os.close(out_read)
            os.close(err_read)
            raise
        finally:
            theirs.close()
            for fd in (in_read, out_write, err_write):
                os.close(fd)
        with control, selectors.DefaultSelector() as selector:
            selector.register(control, selectors.EVENT_READ, "control")
            selector.register(out_read, selectors.EVENT_READ, "stdout")
            selector.register(err_read, selectors.EVENT_READ, "stderr")
            selector.register(self._wake_read, selectors.EVENT_READ, "wake")
            timed_out = self._follow(selector, control, keeper, deadline)
            for fd in (out_read, err_read):
                os.close(fd)
        return timed_out

    def _input(self) -> int:
        if self._stdin is None:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        fd = os.memfd_create("stdin")
        with open(fd, "wb", closefd=False) as file:
            file.write(self._stdin)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def _follow(
        self,
        selector: selectors.BaseSelector,
        control: socket.socket,
        keeper: Keeper,
        deadline: float,
    ) -> bool:
        """Read until the supervisor and the output end; returns whether time ran out."""
        open_ends = {"control", "stdout", "stderr"}
        timed_out = False
        killing: float | None = None
        while open_ends:
            now = time.monotonic()
            if killing is None and now >= deadline:
                timed_out = True
                killing = now + _GRACE_S
                _ask_to_kill(control)
            if killing is not None and now >= killing:
                # Closing the control socket is the last word; the zygote clears up the rest.
                break
            limit = deadline if killing is None else killing
            wait = None if math.isinf(limit) else max(limit - now, 0)
            for key, _ in selector.select(wait):
                if key.data == "wake":
                    wishes = self._wake_read.recv(64)
                    if b"K" not in wishes:
                        with suppress(OSError):
                            control.send(wishes)
                        continue
                    selector.unregister(self._wake_read)
                    if killing is None:
                        killing = time.monotonic() + _GRACE_S
                        _ask_to_kill(control)
                elif not self._read(key.data, key.fd, control, keeper):
                    selector.unregister(key.fileobj)
                    open_ends.discard(key.data)
        return timed_out

    def _read(self, kind: str, fd: int, control: socket.socket, keeper: Keeper) -> bool:
        if kind == "control":
            try:
                data = control.recv(_CHUNK)
            except ConnectionResetError:
                data = b""
            if data:
                self._messages(data, control, keeper)
            return bool(data)
        data = os.read(fd, _CHUNK)
        if data:
            self._output.add(data)
            if self._on_output is not None:
                while not self._slots.acquire(timeout=1.0):
                    if self._loop.is_closed():
                        return True
                self._tell(self._deliver, kind, data)
        return bool(data)

    def _deliver(self, kind: str, data: bytes) -> None:
        self._slots.release()
        if self._on_output is not None:
            self._on_output(kind, data)

    def _messages(self, data: bytes, control: socket.socket, keeper: Keeper) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        records = {b"R", b"F"}.intersection(lines)
        if records and self._fault is None:
            if not self._keep(keeper):
                _ask_to_kill(control)
            elif b"F" in records:
                with suppress(OSError):
                    control.send(b"A")
        for line in lines:
            if line in (b"R", b"F"):
                continue
            message = json.loads(line)
            if message["t"] == "exit":
                self._end = message
            elif message["t"] == "fault" and self._fault is None:
                self._fault = _unavailable(message["text"])

    def _keep(self, keeper: Keeper) -> bool:
        try:
            keeper.keep()
        except (AuditUnavailable, ValueError) as error:
            # A damaged ring as well as a refusing sink: nothing more may happen unseen.
            self._fault = error
            return False
        return True

    def _result(self, duration: float, *, timed_out: bool) -> CommandResult:
        if self._fault is not None:
            raise self._fault
        status = signal.SIGKILL if self._end is None else int(self._end["status"])
        failure = "" if self._end is None else str(self._end["failure"])
        if failure:
            self._output.add(f"rootbound: {failure}\n".encode())
        code = os.waitstatus_to_exitcode(status)
        number = -code if code < 0 else None
        return CommandResult(
            exit_code=code if number is None else 128 + number,
            signal=number,
            duration_s=duration,
            timed_out=timed_out,
            output=self._output.kept(),
            output_bytes=self._output.total,
            output_sha256=self._output.digest(),
        )


def _ask_to_kill(control: socket.socket) -> None:
    with suppress(OSError):
        control.send(b"K")


def _unavailable(text: str) -> Exception:
    # Imported late: the runner imports this module.
    from rootbound_lda.sandbox.runner import SandboxUnavailable

    return SandboxUnavailable(f"The command could not be confined: {text}.")
