"""The questions of a seccomp listener and their answers."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import suppress

from rootbound_lda.sandbox import _sys

_RECV, _SEND, _ID_VALID, _ADDFD, _SET_FLAGS = (
    0xC0502100, 0xC0182101, 0x40082102, 0x40182103, 0x40082104,
)  # fmt: skip
_QUESTION = struct.Struct("<QIIiIQ6Q")
_ANSWER = struct.Struct("<QqiI")
_ADD = struct.Struct("<QIIII")
_CONTINUE = 1
_ADDFD_SEND = 2
_SYNC_WAKE_UP = 1
_PAGE = 4096


class Call:
    """One system call that waits for its answer.

    Parameters
    ----------
    id
        The kernel's number of the question.
    tid
        The calling thread.
    name
        Name of the call.
    args
        Its six registers, unsigned.
    """

    # A dataclass would take the warm process longer to load than this module.
    __slots__ = ("args", "id", "name", "tid")

    def __init__(self, id: int, tid: int, name: str, args: tuple[int, ...]) -> None:
        self.id = id
        self.tid = tid
        self.name = name
        self.args = args

    def int32(self, index: int) -> int:
        """Return an argument as a C int."""
        value = self.args[index] & 0xFFFFFFFF
        return value - (1 << 32) if value & 0x80000000 else value


def question(raw: bytes | bytearray) -> Call:
    """Read a `struct seccomp_notif`."""
    fields = _QUESTION.unpack(raw)
    return Call(fields[0], fields[1], _sys.NAMES.get(fields[3], str(fields[3])), fields[6:])


class Listener:
    """Takes questions and gives answers; answers may come from any thread."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray(_QUESTION.size)
        # Faster wake-up where the kernel (6.6) offers it.
        with suppress(OSError):
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)

    def receive(self) -> Call | None:
        """Take one question; None if the caller died before it was taken."""
        self._buffer[:] = bytes(_QUESTION.size)
        try:
            fcntl.ioctl(self.fd, _RECV, self._buffer, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        return question(self._buffer)

    def check(self, call: Call) -> None:
        """Make sure that the caller still waits, so that its process number is still its own.

        Raises
        ------
        OSError
            ENOENT if it is gone.
        """
        fcntl.ioctl(self.fd, _ID_VALID, struct.pack("<Q", call.id))

    def answer(self, call: Call, value: int = 0, error: int = 0) -> None:
        """Finish the call with a result or an error number."""
        self._send(_ANSWER.pack(call.id, value, -error, 0))

    def let_run(self, call: Call) -> None:
        """Let the kernel run the call; only for what it decides by itself."""
        self._send(_ANSWER.pack(call.id, 0, 0, _CONTINUE))

    def give(self, call: Call, fd: int, *, cloexec: bool) -> None:
        """Finish the call with a new descriptor, a duplicate of `fd`.

        Raises
        ------
        OSError
            If the caller can take no more descriptors.
        """
        flags = os.O_CLOEXEC if cloexec else 0
        request = _ADD.pack(call.id, _ADDFD_SEND, fd, 0, flags)
        try:
            fcntl.ioctl(self.fd, _ADDFD, request)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _send(self, answer: bytes) -> None:
        try:
            fcntl.ioctl(self.fd, _SEND, answer)
        except OSError as error:
            # The caller was killed meanwhile.
            if error.errno != errno.ENOENT:
                raise


def read_string(call: Call, index: int, limit: int = _PAGE) -> bytes:
    """Read a C string that an argument points to.

    Raises
    ------
    OSError
        EFAULT if it cannot be read, ENAMETOOLONG if it has no end within `limit` bytes.
    """
    address = call.args[index]
    text = b""
    while len(text) < limit:
        # Never across a page border in one step: the next page may not exist.
        size = min(limit - len(text), _PAGE - address % _PAGE)
        part = _sys.read_memory(call.tid, address, size)
        end = part.find(b"\0")
        if end >= 0:
            return text + part[:end]
        text += part
        address += len(part)
    raise _sys.raise_errno(errno.ENAMETOOLONG)


def read_block(call: Call, address: int, length: int) -> bytes:
    """Read exactly `length` bytes of the caller's memory.

    Raises
    ------
    OSError
        EFAULT if fewer can be read.
    """
    data = b""
    while len(data) < length:
        part = _sys.read_memory(call.tid, address + len(data), length - len(data))
        if not part:
            raise _sys.raise_errno(errno.EFAULT)
        data += part
    return data


def status_field(tid: int, name: bytes) -> bytes:
    """Return one field of /proc/<tid>/status, such as ``Tgid`` or ``Umask``."""
    fd = os.open(f"/proc/{tid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    start = text.index(b"\n" + name + b":") + len(name) + 2
    return text[start : text.index(b"\n", start)].strip()


Handler = Callable[[Call], None]
"""Answers one call through the listener, or raises OSError for the caller."""
