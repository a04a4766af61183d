"""Unix sockets of a command that serves somebody outside, such as a Jupyter kernel.

Whoever started the command gave it one folder for them, which it cannot write in otherwise. There
it may bind stream sockets, for others to connect to; and it may connect to these, and to the one
that was waiting there. Nothing else can be bound, listened on or connected to.

A command in a network namespace of its own, where nothing but it is, may use TCP on loopback too.
On the machine's own loopback it never may: a browser sends a page on another port of that host the
cookies of Jupyter as well.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._net import parse_address, take_socket
from rootbound_lda.sandbox._notify import Call, Handler, Listener, read_block, read_string
from rootbound_lda.sandbox._records import Recorder

DOOR = b"backend"
"""Name of the socket that the command may connect to."""

MAX_NAMES = 32
"""Sockets that may be bound at a time."""

_UNIX = int(socket.AF_UNIX).to_bytes(2, "little")
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class SocketBroker:
    """Answers the calls about unix sockets, and passes on what is not about them.

    Parameters
    ----------
    listener
        Where the calls come from.
    folder
        Path of the folder, as the command names it.
    pin
        Its descriptor: what counts is the folder, not its name.
    others
        Handlers of the brokers before; those of `connect`, `unlink` and `unlinkat` get the rest.
    recorder
        Takes a record of each socket that is made, and of each name that is refused.
    loopback
        Whether the command is in a network of its own.
    """

    def __init__(
        self,
        listener: Listener,
        folder: str,
        pin: int,
        others: Mapping[str, Handler],
        recorder: Recorder,
        *,
        loopback: bool = False,
    ) -> None:
        self._listener = listener
        self._loopback = loopback
        self._recorder = recorder
        self._prefix = os.fsencode(folder) + b"/"
        self._pin = pin
        self._others = others
        self._bound: set[bytes] = set()
        self.handlers: Mapping[str, Handler] = {
            "bind": self._bind,
            "listen": self._listen,
            "connect": self._connect,
            "unlink": lambda call: self._unlink(call, 0),
            "unlinkat": lambda call: self._unlink(call, 1),
        }

    def _name(self, raw: bytes) -> bytes | None:
        """Return the name in the folder that an address means, None for any other address."""
        if raw[:2] != _UNIX:
            return None
        path = raw[2:].split(b"\0", 1)[0]
        name = path.removeprefix(self._prefix)
        return name if name != path and _NAME.fullmatch(name) else None

    def _place(self, name: bytes) -> str:
        """Return the path of a socket: its own, so that its owner sees it under that name.

        The folder lies where no command can move or replace it; should it be another one all the
        same, nothing is done there.
        """
        here, pinned = os.lstat(self._prefix[:-1]), os.fstat(self._pin)
        if (here.st_dev, here.st_ino) != (pinned.st_dev, pinned.st_ino):
            raise _sys.raise_errno(errno.EACCES)
        return os.fsdecode(self._prefix + name)

    def _refusal(self, call: Call, raw: bytes) -> OSError:
        """Record a refused address that is a path, and return what the caller gets."""
        path = raw[2:].split(b"\0", 1)[0]
        if raw[:2] == _UNIX and path.startswith(b"/"):
            if call.name == "connect" and not os.path.lexists(path):
                # A service that is not there, as libc asks for one before it reads its files.
                return _sys.raise_errno(errno.ENOENT)
            self._recorder.record(call, "WRITE", "DENIED", path, errno.EACCES)
        return _sys.raise_errno(errno.EACCES)

    def _address(self, call: Call) -> bytes:
        length = call.args[2] & 0xFFFFFFFF
        if not 2 <= length <= 128:
            raise _sys.raise_errno(errno.EINVAL)
        return read_block(call, call.args[1], length)

    def _bind(self, call: Call) -> None:
        raw = self._address(call)
        if self._loopback and raw[:2] != _UNIX:
            with take_socket(self._listener, call) as sock:
                sock.bind(self._on_loopback(sock, raw))
            self._listener.answer(call)
            return
        name = self._name(raw)
        if name is None or name == DOOR or len(self._bound) >= MAX_NAMES:
            raise self._refusal(call, raw)
        with take_socket(self._listener, call) as sock:
            if sock.family != socket.AF_UNIX:
                raise _sys.raise_errno(errno.EACCES)
            before = os.umask(0o177)
            try:
                sock.bind(self._place(name))
            finally:
                os.umask(before)
        self._bound.add(name)
        self._recorder.record(call, "WRITE", "ALLOWED", self._prefix + name)
        self._listener.answer(call)

    def _listen(self, call: Call) -> None:
        with take_socket(self._listener, call) as sock:
            # One that is not bound would get a port of its own: any other family is refused.
            if sock.family != socket.AF_UNIX and not self._loopback:
                raise _sys.raise_errno(errno.EACCES)
            sock.listen(min(max(call.int32(1), 0), 128))
        self._listener.answer(call)

    def _connect(self, call: Call) -> None:
        raw = self._address(call)
        if self._loopback and raw[:2] != _UNIX:
            sock = take_socket(self._listener, call)
            try:
                target = self._on_loopback(sock, raw)
            except OSError:
                sock.close()
                raise
            self._reach(call, sock, target)
            return
        if raw[:2] != _UNIX:
            other = self._others.get("connect")
            if other is None:
                raise _sys.raise_errno(errno.EACCES)
            other(call)
            return
        name = self._name(raw)
        if name is None or (name != DOOR and name not in self._bound):
            raise self._refusal(call, raw)
        sock = take_socket(self._listener, call)
        if sock.family != socket.AF_UNIX:
            sock.close()
            raise _sys.raise_errno(errno.EACCES)
        self._reach(call, sock, self._place(name))

    def _on_loopback(self, sock: socket.socket, raw: bytes) -> tuple[object, ...]:
        """Return an address of the command's own loopback.

        Raises
        ------
        OSError
            EACCES for any other.
        """
        address = parse_address(raw)
        ip = ipaddress.ip_address(address[1])
        if sock.family != address[0] or not (ip.is_loopback or ip.is_unspecified):
            raise _sys.raise_errno(errno.EACCES)
        return address[1:3] if address[0] == socket.AF_INET else address[1:]

    def _reach(self, call: Call, sock: socket.socket, target: str | tuple[object, ...]) -> None:
        """Connect, in a thread of its own if that may take a while, and close our duplicate."""

        def work() -> None:
            with sock:
                code = sock.connect_ex(target)
            self._listener.answer(call, error=code)

        if os.get_blocking(sock.fileno()):
            # A full queue lets it wait, and nobody else may wait for that.
            threading.Thread(target=work, daemon=True).start()
        else:
            work()

    def _unlink(self, call: Call, index: int) -> None:
        """Remove a socket of the command's own, as libraries do before and after."""
        path = read_string(call, index)
        name = path.removeprefix(self._prefix)
        if name in (path, DOOR) or not _NAME.fullmatch(name):
            self._others[call.name](call)
            return
        if name not in self._bound:
            raise _sys.raise_errno(errno.ENOENT)
        self._bound.discard(name)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._pin)
        self._listener.answer(call)


class ScheduleBroker:
    """Lets a thread set its own scheduling by its own number, as thread libraries do.

    The caller waits for the answer, so its number cannot have become another thread's.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.handlers: Mapping[str, Handler] = {"sched_setscheduler": self._schedule}

    def _schedule(self, call: Call) -> None:
        if call.int32(0) != call.tid:
            raise _sys.raise_errno(errno.EPERM)
        self._listener.let_run(call)
