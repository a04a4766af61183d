"""One command's supervisor: confines itself, starts the child, answers its calls, kills its tree.

It lives in a process of its own, forked from the zygote. Records go through a ring (`_ring`). Its
control socket carries lines: to the LDA ``R`` (there are records), ``F`` (and an answer is waited
for), and in JSON ``started``, ``note``, ``fault`` and ``exit``; from the LDA any byte, or the end
of the stream, means: kill everything; but ``A`` means that what was there has been kept, and a
byte from 129 on is a signal (its number plus 128) for the child's process group.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

from rootbound_lda.sandbox import _filter, _landlock, _sys
from rootbound_lda.sandbox._boundary import Boundary
from rootbound_lda.sandbox._broker import FileBroker
from rootbound_lda.sandbox._forks import ForkBroker
from rootbound_lda.sandbox._net import NetBroker, network_identity
from rootbound_lda.sandbox._notify import Call, Handler, Listener, question
from rootbound_lda.sandbox._prepare import Prepared
from rootbound_lda.sandbox._records import Control, Recorder, StopError
from rootbound_lda.sandbox._ring import Ring
from rootbound_lda.sandbox._sockets import ScheduleBroker, SocketBroker
from rootbound_lda.sandbox._tree import kill_descendants, parent_of

TYPE_CHECKING = False  # as in `_ring`
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, NoReturn

    Job = Mapping[str, Any]
_TELL_MS, _WAIT_MS = 2, 1000
_CONTROL, _ENDED = 1, 2
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


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


def supervise(
    job: Job,
    control: socket.socket,
    stdio: tuple[int, int, int],
    ring: int,
    ready: Prepared,
) -> NoReturn:
    """Run one command to its end, then leave the process.

    Parameters
    ----------
    job
        What to run and within which bounds, as `runner` builds it.
    control
        Connection to the LDA.
    stdio
        Descriptors for the child's standard input, output and error.
    ring
        File for the records.
    ready
        What was prepared for it.
    """
    wire = Control(control, Ring(ring))
    try:
        _supervise(job, wire, stdio, ring, ready)
    except BaseException as error:
        kill_descendants()
        with suppress(OSError, StopError):
            wire.tell(now=True)
            wire.send({"t": "fault", "text": f"{type(error).__name__}: {error}"})
    os._exit(0)


def _supervise(
    job: Job, wire: Control, stdio: tuple[int, int, int], ring: int, ready: Prepared
) -> None:
    gc.disable()
    os.setsid()
    os.umask(0)
    _sys.prctl(_sys.PR_SET_CHILD_SUBREAPER, 1)
    # Taking the child's listener needs this, until the child has become a program of its own.
    _sys.prctl(_sys.PR_SET_DUMPABLE, 1)
    if job["loopback"] and job["host_network"] == network_identity():
        raise OSError("it should be in a network of its own and is not")
    version = int(job["abi"])
    roots, fast, rule = ready.roots, ready.fast, job["audit"]
    # Without Landlock the mount namespace round this process is what confines it.
    _sys.prctl(_sys.PR_SET_NO_NEW_PRIVS, 1)
    if ready.ruleset is not None:
        _landlock.confine_supervisor(ready.ruleset)
    handshake, child_handshake = socket.socketpair()
    failure_read, failure_write = os.pipe()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _become(
                job,
                stdio,
                ready.program,
                version,
                supervisor,
                child_handshake.fileno(),
                failure_write,
            )
        finally:
            os._exit(_NOT_EXECUTABLE)
    child_handshake.close()
    for fd in (*stdio, failure_write):
        os.close(fd)
    # It lengthens files for the child, so the child's limit is its own.
    _limit({"max_file_bytes": job["limits"].get("max_file_bytes")})
    listener = _take_listener(child, handshake, failure_read)
    if version < 1:
        _sys.prctl(_sys.PR_SET_DUMPABLE, 0)
    brokers: dict[str, Handler] = {}
    boundary = Boundary(
        roots=roots,
        readable=job["readable"],
        listable=job["listable"],
        devices=job["devices"],
        protected=job["protected"],
        watched=job["watched"],
    )
    fold = not rule["record_system_reads"]
    recorder = Recorder(wire, fold=fold, strict=rule["strict_audit"])
    files = FileBroker(listener, boundary, recorder, job["shm"], strict_reads=rule["strict_reads"])
    brokers.update(files.handlers)
    brokers.update(ScheduleBroker(listener).handlers)
    if job["network"]:
        brokers.update(NetBroker(listener, job["resolvers"]).handlers)
    if ready.sockets is not None:
        own = SocketBroker(
            listener, job["sockets"], ready.sockets, dict(brokers), recorder,
            loopback=job["loopback"],
        )  # fmt: skip
        brokers.update(own.handlers)
    if ready.trap_signals:
        brokers.update(SignalBroker(listener).handlers)
    if ready.most_processes is not None:
        brokers.update(ForkBroker(listener, ready.most_processes).handlers)
    wire.on_signal = lambda number: _signal_group(child, number)
    wire.send({"t": "started", "pid": child})
    served = _Served(listener, files, brokers, recorder, wire)
    try:
        if fast is None:
            status = _serve(served, child)
        else:
            pidfd = os.pidfd_open(child)
            fast.setup(
                listener.fd, wire.fileno(), pidfd, ring,
                [(os.fsencode(path), guarded, pin) for path, guarded, pin in roots],
                [os.fsencode(path) for path in job["protected"]], boundary.folded,
                rule["strict_reads"], fold,
            )  # fmt: skip
            status = _serve_fast(fast, served, child)
    except StopError:
        kill_descendants(reap_except=child)
        status = _wait(child)
    kill_descendants()
    if fast is not None:
        fast.flush()
    with suppress(StopError):
        recorder.flush()
    wire.tell(now=True)
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


class _Served:
    """What answers a command's calls."""

    def __init__(
        self,
        listener: Listener,
        files: FileBroker,
        brokers: Mapping[str, Handler],
        recorder: Recorder,
        wire: Control,
    ) -> None:
        self.listener = listener
        self.files = files
        self.brokers = brokers
        self.recorder = recorder
        self.wire = wire


def _serve(served: _Served, child: int) -> int:
    """Answer calls until the child ends; returns its wait status.

    Raises
    ------
    StopError
        If the LDA wants an end before.
    """
    listener, wire, recorder = served.listener, served.wire, served.recorder
    pidfd = os.pidfd_open(child)
    poll = select.poll()
    poll.register(listener.fd, select.POLLIN)
    poll.register(wire.fileno(), select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        wire.tell()
        ready = poll.poll(_TELL_MS if wire.untold else _WAIT_MS if recorder.pending else None)
        if not ready:
            recorder.end_of_second()
            wire.tell(now=True)
        for fd, event in ready:
            if fd == listener.fd:
                if event & select.POLLIN:
                    _answer(served, listener.receive())
                else:
                    poll.unregister(fd)
            elif fd == wire.fileno():
                # An answer given in this round may have taken it already.
                wire.hear(socket.MSG_DONTWAIT)
            else:
                os.close(pidfd)
                return _wait(child)


def _serve_fast(fast: ModuleType, served: _Served, child: int) -> int:
    """Do the same with the compiled loop, which hands over what is not plain."""
    while True:
        event = fast.serve()
        if isinstance(event, bytes):
            _answer(served, question(event))
            served.recorder.end_of_second()
        elif event == _CONTROL:
            served.wire.hear(socket.MSG_DONTWAIT)
        elif event == _ENDED:
            return _wait(child)
        else:
            served.wire.wait_for_room()


def _signal_group(child: int, number: int) -> None:
    # It is not reaped before its end has been seen, so the number is still its own.
    with suppress(ProcessLookupError):
        os.killpg(child, number)


def _wait(child: int) -> int:
    return os.waitpid(child, 0)[1]


def _answer(served: _Served, call: Call | None) -> None:
    if call is None:
        return
    listener = served.listener
    handler = served.brokers.get(call.name)
    if handler is None:
        listener.answer(call, error=errno.ENOSYS)
        return
    # Before anything is changed: afterwards it could be too late to record it.
    served.wire.wait_for_room()
    try:
        served.files.handle(handler, call)
    except OSError as error:
        listener.answer(call, error=error.errno or errno.EIO)
    except (ValueError, struct.error, OverflowError) as error:
        # Registers that make no sense; the call fails and the LDA hears of it.
        listener.answer(call, error=errno.EINVAL)
        served.wire.send({"t": "note", "text": f"{call.name}: {type(error).__name__}: {error}"})


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
            # Exec takes handlers away by itself; what is ignored would stay so.
            if signal.getsignal(number) is signal.SIG_IGN:
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
