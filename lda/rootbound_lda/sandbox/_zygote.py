"""The warm process from which supervisors are forked, so that a command starts in milliseconds.

It is single-threaded, holds none of the LDA's memory, environment or descriptors, and adopts the
tree of a supervisor that was killed, to kill it in turn.

Each request is one message on a SEQPACKET socket: ``J`` with the descriptors job (a memory file
with JSON), control socket, standard input, output, error, the ring of records, and one for each
writable root. The answer is the supervisor's number.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._prepare import prepare
from rootbound_lda.sandbox._supervisor import supervise
from rootbound_lda.sandbox._tree import kill_descendants

_FDS = 6
_MAX_FDS = 250


def main(fd: int) -> None:
    """Serve requests from the socket `fd` until the LDA is gone, then wait for the supervisors."""
    server = socket.socket(fileno=fd)
    server.set_inheritable(False)
    # Whatever else was handed down is not for the commands that come from here.
    os.closerange(3, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
    _sys.prctl(_sys.PR_SET_CHILD_SUBREAPER, 1)
    # Commands of the same user must not look into this process, even where Landlock is missing.
    _sys.prctl(_sys.PR_SET_DUMPABLE, 0)
    _sys.drop_capabilities()
    os.chdir("/")
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C in the LDA's terminal is the LDA's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()
    supervisors: set[int] = set()
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    server.send(b"ready")
    listening = True
    while listening or supervisors:
        for ready, _ in poll.poll():
            if ready == wake_read:
                os.read(wake_read, 4096)
                _reap(supervisors)
            elif not _request(server, supervisors):
                listening = False
                poll.unregister(server)


def _reap(supervisors: set[int]) -> None:
    died = False
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        died = died or pid in supervisors
        supervisors.discard(pid)
    if died:
        # Whatever is a child now and not a supervisor lost its supervisor.
        kill_descendants(keep=frozenset(supervisors))


def _request(server: socket.socket, supervisors: set[int]) -> bool:
    message, fds, _, _ = socket.recv_fds(server, 16, _MAX_FDS)
    if not message:
        return False
    for received in fds:
        # What comes over a socket would otherwise outlive exec: the command could speak to the LDA.
        os.set_inheritable(received, False)
    if len(fds) < _FDS:
        server.send(b"0")
        return True
    job_fd, control_fd, *stdio = fds
    with open(job_fd, "rb", closefd=False) as file:
        job = json.load(file)
    try:
        ready = prepare(job, stdio[4:])
    except OSError:
        for fd in fds:
            os.close(fd)
        server.send(b"0")
        return True
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        # A handler would interrupt an answer half-way whenever an orphan ends.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        server.close()
        os.close(job_fd)
        control = socket.socket(fileno=control_fd)
        supervise(job, control, (stdio[0], stdio[1], stdio[2]), stdio[3], ready)
    supervisors.add(pid)
    for fd in fds:
        os.close(fd)
    server.send(str(pid).encode())
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]))
