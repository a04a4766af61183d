"""The LDA's end of a warm process that supervisors are forked from."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import json
import marshal
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

START_TIMEOUT_S = 20.0
FALLBACK_PATH = "/usr/local/bin:/usr/bin:/bin"
PACKAGES = Path(__file__).resolve().parents[2]
"""Folder that the package is imported from."""

MODULES = (
    "", ".sandbox", *(f".sandbox.{name}" for name in (
        "_sys", "_filter", "_landlock", "_ring", "_boundary", "_prepare", "_tree", "_notify",
        "_records", "_walk", "_paths", "_attributes", "_names", "_opens", "_broker", "_forks",
        "_net", "_sockets", "_supervisor", "_zygote",
    )),
)  # fmt: skip
"""What the warm process is made of, each behind what it imports."""

# It is started for each run, and behind a wall it could not keep what it compiled: its modules are
# handed over as code, which also spares it the search for them.
_BOOT = """
import marshal, sys
with open(int(sys.argv[1]), "rb") as file:
    parts = marshal.load(file)
for name, path, folders, code in parts:
    module = sys.modules[name] = type(sys)(name)
    parent, _, last = name.rpartition(".")
    module.__file__, module.__package__ = path, parent
    if folders is not None:
        module.__path__, module.__package__ = folders, name
    if parent:
        setattr(sys.modules[parent], last, module)
    exec(code, module.__dict__)
module.main(int(sys.argv[2]))
"""


@functools.cache
def _own_code() -> bytes:
    """Return the compiled modules, for `_BOOT`; compiled now only where no cache has them."""
    parts = []
    for ending in MODULES:
        name = f"rootbound_lda{ending}"
        spec = importlib.util.find_spec(name)
        if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
            raise SandboxUnavailable(f"The installation is damaged: it lacks {name}.")
        folders = spec.submodule_search_locations
        code = spec.loader.get_code(name)
        parts.append((name, spec.origin, None if folders is None else list(folders), code))
    return marshal.dumps(parts)


class SandboxUnavailable(Exception):  # noqa: N818 - says what is, not what went wrong
    """A command cannot be confined on this machine, so none runs."""


class WarmProcess:
    """Starts the process and asks it for supervisors; one that was killed is replaced.

    Parameters
    ----------
    wall
        Program that starts it in a place of its own, and its options; by default none.
    """

    def __init__(self, wall: tuple[str, Sequence[str]] | None = None) -> None:
        self._wall = wall
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; blocking.

        Raises
        ------
        SandboxUnavailable
            If it does not start.
        """
        with self._lock:
            self._spawn()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors, options, code = map(os.memfd_create, ("errors", "options", "code"))
        _fill(code, _own_code())
        python = [sys.executable, "-I", "-S", "-c", _BOOT, str(code), str(theirs.fileno())]
        prefix: list[str] = []
        if self._wall is not None:
            # Not on the command line: what is inside can read that, and it names the user's places.
            _fill(options, b"".join(os.fsencode(text) + b"\0" for text in self._wall[1]))
            prefix = [self._wall[0], "--args", str(options), "--"]
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [*prefix, *python],
                    pass_fds=[theirs.fileno(), options, code],
                    stdin=subprocess.DEVNULL,
                    stderr=errors,
                    env={"PATH": FALLBACK_PATH, "LANG": "C.UTF-8"},
                    start_new_session=True,
                )
            ours.settimeout(START_TIMEOUT_S)
            greeting = ours.recv(16)
            said = b"" if greeting == b"ready" else os.pread(errors, 500, 0)
        except OSError as error:
            ours.close()
            raise SandboxUnavailable(f"The sandbox process did not start: {error}.") from error
        finally:
            for fd in (errors, options, code):
                os.close(fd)
        if greeting != b"ready":
            ours.close()
            reason = said.decode("utf-8", "replace").strip().splitlines()[-1:] or [
                "no reason given"
            ]
            raise SandboxUnavailable(f"The sandbox process did not start: {reason[0]}.")
        self._socket = ours

    def stop(self) -> None:
        """End it; supervisors that still live end first. Blocking; it may be started again."""
        with self._lock:
            self._close()

    def retire(self) -> None:
        """Take no more requests and end when the last supervisor has ended. Blocking."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            process, self.process = self.process, None
        if process is not None:
            process.wait()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        process, self.process = self.process, None
        if process is not None:
            try:
                process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def fork(self, job: Mapping[str, object], fds: Sequence[int]) -> int:
        """Have a supervisor forked; blocking, callable from any thread.

        Parameters
        ----------
        job
            What to run, for `_supervisor.supervise`.
        fds
            Control socket, standard input, output and error of the child, and the pinned roots.

        Returns
        -------
        int
            Its process number, as the warm process sees it.

        Raises
        ------
        SandboxUnavailable
            If the warm process is not there.
        """
        memory = os.memfd_create("job")
        try:
            _fill(memory, json.dumps(job).encode())
            with self._lock:
                answer = self._ask([memory, *fds])
                if not answer:
                    # The warm process was killed; its supervisors live on without it.
                    self._close()
                    self._spawn()
                    answer = self._ask([memory, *fds])
        finally:
            os.close(memory)
        if not answer.isdigit() or answer == b"0":
            raise SandboxUnavailable("The sandbox process could not start a supervisor.")
        return int(answer)

    def _ask(self, fds: list[int]) -> bytes:
        if self._socket is None:
            raise SandboxUnavailable("The sandbox is not started.")
        try:
            socket.send_fds(self._socket, [b"J"], fds)
            return self._socket.recv(32)
        except OSError:
            return b""


def _fill(memory: int, data: bytes) -> None:
    with open(memory, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(memory, 0, os.SEEK_SET)
