"""A listener whose askers are gone, and a child whose supervisor is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rootbound_lda.sandbox._prepare import compiled

_CONFINED = """
import ctypes, errno, os, select, signal, socket, struct, sys, threading, time
from rootbound_lda.sandbox import _filter, _ring, _supervisor, _sys
from rootbound_lda.sandbox._notify import Listener

def confined(act):
    \"\"\"Fork a child with the real filter that does something; returns it and its listener.\"\"\"
    ours, theirs = socket.socketpair()
    failed, failure = os.pipe()
    child = os.fork()
    if child == 0:
        _sys.prctl(_sys.PR_SET_NO_NEW_PRIVS, 1)
        program = _filter.build(network=False, trap_signals=True, count_forks=True,
                                trap_moves=True)
        number = _filter.install(program)
        os.write(theirs.fileno(), struct.pack("i", number))
        os.read(theirs.fileno(), 1)
        os.close(number)
        act()
        os._exit(0)
    os.close(failure)
    theirs.close()
    return child, _supervisor._take_listener(child, ours, failed)
"""

_HANGS_UP = """
# It asks, and is killed before its question is taken.
asker, listener = confined(lambda: os.open("asked", os.O_CREAT | os.O_WRONLY))
while not select.select([listener.fd], [], [], 30)[0]:
    raise SystemExit("it did not ask")
os.kill(asker, signal.SIGKILL)
os.waitpid(asker, 0)
assert listener.receive() is None, "ENOENT"
hangs_up = select.poll()
hangs_up.register(listener.fd, select.POLLIN)
assert hangs_up.poll(0)[0][1] == select.POLLHUP

sleeper = os.fork()
if sleeper == 0:
    time.sleep(60)
    os._exit(7)
control, lda = socket.socketpair()
_, ring = _ring.create(".")
threading.Timer(1.0, os.kill, (sleeper, signal.SIGTERM)).start()
began = time.process_time()
if sys.argv[1] == "compiled":
    from rootbound_lda.sandbox import _fast
    pidfd = os.pidfd_open(sleeper)
    _fast.setup(listener.fd, control.fileno(), pidfd, ring, [], [], [], False, True)
    assert _fast.serve() == 2, "the child's end"
else:
    from rootbound_lda.sandbox._records import Control, Recorder
    wire = Control(control, _ring.Ring(ring))
    recorder = Recorder(wire, fold=True, strict=False)
    _supervisor._serve(_supervisor._Served(listener, None, {}, recorder, wire), sleeper)
print(time.process_time() - began)
"""

_ORPHANED = """
import json
answers, told = os.pipe()
Path = ctypes.create_string_buffer
libc = ctypes.CDLL(None, use_errno=True)
AT, WRITE = -100, os.O_CREAT | os.O_WRONLY

def asks():
    os.read(waits, 1)
    found = {}
    for name in (*_filter.FILE_CALLS, *_filter.MOVE_CALLS, "fork", "vfork", "clone"):
        number = _sys.SYSCALLS.get(name)
        if number is None:
            continue
        # Its own name as the first path that it takes, whatever the rest means to it.
        path = Path(b"made-by-" + name.encode())
        first = AT if name.endswith(("at", "at2")) else path
        if name == "clone":
            first = signal.SIGCHLD
        second = path if name.endswith(("at", "at2")) else WRITE
        result = libc.syscall(number, first, second, WRITE, 0o600, 0)
        found[name] = ctypes.get_errno() if result < 0 else 0
    os.write(told, json.dumps(found).encode())

waits, go = os.pipe()
child, listener = confined(asks)
# The supervisor dies: its descriptor was the last.
os.close(listener.fd)
os.write(go, b"!")
os.waitpid(child, 0)
found = json.loads(os.read(answers, 65536))
assert len(found) > 20
assert set(found.values()) == {errno.ENOSYS}, found
print("closed")
"""


def _in_process(code: str, *argv: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _CONFINED + code, *argv], cwd=cwd, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("supervisor", ["compiled", "python"])
def test_a_listener_that_hangs_up_keeps_nobody_busy(tmp_path: Path, supervisor: str) -> None:
    """ENOENT for a question whose asker died, then POLLHUP for ever: no loop may spin on either."""
    if supervisor == "compiled" and not compiled():
        pytest.skip("the compiled supervisor was not built")
    # For a second there is nothing but the hang-up; a spinning loop would use all of it.
    assert float(_in_process(_HANGS_UP, supervisor, cwd=tmp_path)) < 0.3


def test_every_call_fails_closed_once_the_supervisor_is_gone(tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert _in_process(_ORPHANED, cwd=tmp_path) == "closed"
    assert set(tmp_path.iterdir()) == before
