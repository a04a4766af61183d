"""One command's supervisor: confines itself, starts the child, answers its calls, kills its tree.

It lives in a process of its own, forked from the zygote. Its control socket carries JSON lines:
to the LDA ``rec`` (records), ``started``, ``fault`` and ``exit``; from the LDA any byte, or the
end of the stream, means: kill everything; but ``A`` acknowledges one ``rec``.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from rootbound_lda.sandbox import _filter, _landlock, _sys
from rootbound_lda.sandbox._boundary import Boundary
from rootbound_lda.sandbox._broker import FileBroker
from rootbound_lda.sandbox._net import NetBroker
from rootbound_lda.sandbox._notify import Call, Handler, Listener
from rootbound_lda.sandbox._tree import kill_descendants, parent_of

Job = Mapping[str, Any]
_BATCH = 64
_IDLE_MS = 10
_MAX_UNKEPT = 8
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


class _StopError(Exception):
    """The LDA wants the tree to end, or is gone."""


class Control:
    """The supervisor's end of the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pending: list[dict[str, object]] = []
        self._unkept = 0

    @property
    def pending(self) -> bool:
        """Whether records wait to be sent."""
        return bool(self._pending)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def record(self, record: dict[str, object]) -> None:
        """Report a record; one of a change leaves before the caller learns of the change.

        The whole tree waits when more than a few reports are not yet kept by the LDA.

        Raises
        ------
        _StopError
            If the LDA does not keep them.
        """
        record["time"] = time.time()
        self._pending.append(record)
        if record["op"] != "READ" or record["result"] == "DENIED" or len(self._pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what is pending."""
        if self._pending:
            records, self._pending = self._pending, []
            self.send({"t": "rec", "records": records})
            self._unkept += 1
            while self._unkept > _MAX_UNKEPT:
                self.hear()

    def hear(self, flags: int = 0) -> None:
        """Take what the LDA says; waits for it unless `flags` has MSG_DONTWAIT.

        Raises
        ------
        _StopError
            If it is anything but acknowledgements.
        """
        try:
            said = self._sock.recv(64, flags)
        except BlockingIOError:
            return
        if not said or said.strip(b"A"):
            raise _StopError
        self._unkept -= len(said)

    def send(self, message: Mapping[str, object]) -> None:
        """Send one message.

        Raises
        ------
        OSError
            If the LDA is gone.
        """
        self._sock.sendall(json.dumps(message).encode() + b"\n")


class SignalBroker:
    """Keeps signals within the tree where Landlock cannot (ABI below 6)."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._me = os.getpid()
        self.handlers: Mapping[str, Handler] = dict.fromkeys(_filter.SIGNAL_CALLS, self._signal)

    def _signal(self, call: Call) -> None:
        if call.name == "pidfd_send_signal":
            raise _sys.raise_errno(errno.EPERM)
        target = call.int32(0)
        if target == 0 or (target > 0 and self._in_tree(target)):
            self._listener.let_run(call)
            return
        raise _sys.raise_errno(errno.EPERM)

    def _in_tree(self, pid: int) -> bool:
        while pid > 1:
            parent = parent_of(pid)
            if parent == self._me:
                return True
            pid = parent
        return False


def supervise(job: Job, control: socket.socket, stdio: tuple[int, int, int]) -> NoReturn:
    """Run one command to its end, then leave the process.

    Parameters
    ----------
    job
        What to run and within which bounds, as `runner` builds it.
    control
        Connection to the LDA.
    stdio
        Descriptors for the child's standard input, output and error.
    """
    wire = Control(control)
    try:
        _supervise(job, wire, stdio)
    except BaseException as error:
        kill_descendants()
        with suppress(OSError, _StopError):
            wire.flush()
            wire.send({"t": "fault", "text": f"{type(error).__name__}: {error}"})
    os._exit(0)


def _supervise(job: Job, wire: Control, stdio: tuple[int, int, int]) -> None:
    gc.disable()
    os.setsid()
    os.umask(0)
    _sys.prctl(_sys.PR_SET_CHILD_SUBREAPER, 1)
    _sys.drop_capabilities()
    version = int(job["abi"])
    _landlock.confine_supervisor(
        version,
        writable=[path for path, _ in job["writable"]],
        readable=job["readable"],
        listable=job["listable"],
        devices=job["devices"],
    )
    trap_signals = version < _landlock.SCOPE_ABI
    program = _filter.build(network=job["network"], trap_signals=trap_signals)
    handshake, child_handshake = socket.socketpair()
    failure_read, failure_write = os.pipe()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _become(
                job, stdio, program, version, supervisor, child_handshake.fileno(), failure_write
            )
        finally:
            os._exit(_NOT_EXECUTABLE)
    child_handshake.close()
    for fd in (*stdio, failure_write):
        os.close(fd)
    listener = _take_listener(child, handshake, failure_read)
    brokers: dict[str, Handler] = {}
    boundary = Boundary(
        roots=job["writable"],
        readable=job["readable"],
        listable=job["listable"],
        devices=job["devices"],
        protected=job["protected"],
    )
    files = FileBroker(listener, boundary, wire.record, job["shm"])
    brokers.update(files.handlers)
    if job["network"]:
        brokers.update(NetBroker(listener, job["resolvers"]).handlers)
    if trap_signals:
        brokers.update(SignalBroker(listener).handlers)
    wire.send({"t": "started", "pid": child})
    try:
        status = _serve(listener, files, brokers, wire, child)
    except _StopError:
        kill_descendants(reap_except=child)
        status = _wait(child)
    kill_descendants()
    with suppress(_StopError):
        wire.flush()
    failure = os.read(failure_read, 4096)
    wire.send({"t": "exit", "status": status, "failure": failure.decode("utf-8", "replace")})


def _take_listener(child: int, handshake: socket.socket, failure: int) -> Listener:
    raw = handshake.recv(4)
    if len(raw) != 4:
        reason = os.read(failure, 4096).decode("utf-8", "replace")
        raise OSError(f"the child could not be confined: {reason or 'it died'}")
    pidfd = os.pidfd_open(child)
    try:
        # The child cannot send it: sending is among the calls that now wait for an answer.
        listener = Listener(_sys.pidfd_getfd(pidfd, struct.unpack("i", raw)[0]))
    finally:
        os.close(pidfd)
    # Only now may the child go on: its own copy closes when it executes the program.
    handshake.send(b"!")
    handshake.close()
    return listener


def _serve(
    listener: Listener,
    files: FileBroker,
    brokers: Mapping[str, Handler],
    wire: Control,
    child: int,
) -> int:
    """Answer calls until the child ends; returns its wait status.

    Raises
    ------
    _StopError
        If the LDA wants an end before.
    """
    pidfd = os.pidfd_open(child)
    poll = select.poll()
    poll.register(listener.fd, select.POLLIN)
    poll.register(wire.fileno(), select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        ready = poll.poll(_IDLE_MS if wire.pending else None)
        if not ready:
            wire.flush()
        for fd, event in ready:
            if fd == listener.fd:
                if event & select.POLLIN:
                    _answer(listener, files, brokers, wire)
                else:
                    poll.unregister(fd)
            elif fd == wire.fileno():
                # An answer given in this round may have taken it already.
                wire.hear(socket.MSG_DONTWAIT)
            else:
                os.close(pidfd)
                return _wait(child)


def _wait(child: int) -> int:
    return os.waitpid(child, 0)[1]


def _answer(
    listener: Listener, files: FileBroker, brokers: Mapping[str, Handler], wire: Control
) -> None:
    call = listener.receive()
    if call is None:
        return
    handler = brokers.get(call.name)
    if handler is None:
        listener.answer(call, error=errno.ENOSYS)
        return
    try:
        files.handle(handler, call)
    except OSError as error:
        listener.answer(call, error=error.errno or errno.EIO)
    except (ValueError, struct.error, OverflowError) as error:
        # Registers that make no sense; the call fails and the LDA hears of it.
        listener.answer(call, error=errno.EINVAL)
        wire.send({"t": "note", "text": f"{call.name}: {type(error).__name__}: {error}"})


# -- the child ---------------------------------------------------------------------------------


def _become(
    job: Job,
    stdio: tuple[int, int, int],
    program: bytes,
    version: int,
    supervisor: int,
    handshake: int,
    failure: int,
) -> NoReturn:
    """Turn this fresh fork into the command; the reason of a failure goes down the pipe."""
    code = _NOT_EXECUTABLE
    try:
        os.setsid()
        _sys.prctl(_sys.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(code)
        for target, fd in enumerate(stdio):
            os.dup2(fd, target)
        os.umask(0o022)
        for number in range(1, signal.NSIG):
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _limit(job["limits"])
        os.chdir(job["cwd"])
        _landlock.confine_child(version)
        listener = _filter.install(program)
        os.set_inheritable(listener, False)
        os.write(handshake, struct.pack("i", listener))
        if os.read(handshake, 1) != b"!":
            os._exit(code)
        _execute(job["argv"], job["env"])
    except FileNotFoundError as error:
        code = _NOT_FOUND
        os.write(failure, f"{error.filename or job['argv'][0]}: not found".encode()[:1024])
    except OSError as error:
        os.write(failure, f"{job['argv'][0]}: {error.strerror or error}".encode()[:1024])
    os._exit(code)


def _execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    os.execvpe(argv[0], argv, env)  # noqa: S606 - there is no shell on purpose


def _limit(limits: Mapping[str, int | None]) -> None:
    kinds = {
        "max_processes": resource.RLIMIT_NPROC,
        "max_open_files": resource.RLIMIT_NOFILE,
        "max_file_bytes": resource.RLIMIT_FSIZE,
        "max_memory_bytes": resource.RLIMIT_AS,
        "cpu_seconds": resource.RLIMIT_CPU,
    }
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, kind in kinds.items():
        wanted = limits.get(name)
        if wanted is None:
            continue
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
