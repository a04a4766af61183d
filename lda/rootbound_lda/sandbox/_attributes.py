"""Changing permissions, owners, times, extended attributes and lengths.

Landlock has no rights for most of these; without this broker they would reach every file of the
user.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._boundary import RefusedError, no_file_system, real_path
from rootbound_lda.sandbox._notify import Call, read_block, read_string
from rootbound_lda.sandbox._paths import PathBroker

_MAX_XATTR = 1 << 16


class AttributeBroker(PathBroker):
    """Answers calls that change what a file is, not what it holds."""

    def _change(self, call: Call, fd: int, act: Callable[[], object]) -> None:
        """Change what is pinned, if the policy has it; closes the descriptor."""
        try:
            real = real_path(fd)
            if no_file_system(real) and self._is_callers(call, fd):
                act()
                self._listener.answer(call)
                return
            root = self._boundary.root_of(real)
            if root is None or not self._boundary.stands(root):
                raise RefusedError("WRITE", real)
            self._attempt(call, act, [("WRITE", real, None)])
        finally:
            os.close(fd)

    def chmod(self, call: Call, fd: int, mode: int) -> None:
        """Change permission bits of what is pinned."""
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            os.close(fd)
            raise _sys.raise_errno(errno.EOPNOTSUPP)
        if mode & 0o6000 and stat.S_ISREG(os.fstat(fd).st_mode):
            # Who runs such a program gets its owner's rights, outside of any policy.
            real = real_path(fd)
            os.close(fd)
            raise RefusedError("WRITE", real)
        path = b"/proc/self/fd/%d" % fd
        self._change(call, fd, lambda: os.chmod(path, mode & 0o7777))  # noqa: PTH101 - bytes

    def chown(self, call: Call, fd: int, index: int) -> None:
        """Change the owner of what is pinned."""
        uid, gid = call.int32(index), call.int32(index + 1)
        self._change(call, fd, lambda: _sys.fchownat_empty(fd, uid, gid))

    def times(self, call: Call, index: int, unit: str) -> bytes | None:
        """Read times as `struct timespec[2]`, given in seconds, micro- or nanoseconds."""
        address = call.args[index]
        if not address:
            return None
        if unit == "s":
            access, change = struct.unpack("<qq", read_block(call, address, 16))
            return struct.pack("<4q", access, 0, change, 0)
        raw = read_block(call, address, 32)
        if unit == "ns":
            return raw
        seconds, micros, seconds2, micros2 = struct.unpack("<4q", raw)
        return struct.pack("<4q", seconds, micros * 1000, seconds2, micros2 * 1000)

    def utime(self, call: Call, pin: Callable[[], int], times: bytes | None) -> None:
        """Set times of what `pin` pins."""
        fd = pin()
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            self._change(call, fd, lambda: _sys.utimensat(fd, b"", times, _sys.AT_EMPTY_PATH))
            return
        path = b"/proc/self/fd/%d" % fd
        self._change(call, fd, lambda: _sys.utimensat(_sys.AT_FDCWD, path, times, 0))

    def set_xattr(self, call: Call, fd: int) -> None:
        """Set an extended attribute of what is pinned."""
        try:
            name = read_string(call, 1, 256)
            size = call.args[3]
            if size > _MAX_XATTR:
                raise _sys.raise_errno(errno.E2BIG)
            value = read_block(call, call.args[2], size)
            flags = call.int32(4)
        except OSError:
            os.close(fd)
            raise
        path = b"/proc/self/fd/%d" % fd
        self._change(call, fd, lambda: os.setxattr(path, name, value, flags))

    def remove_xattr(self, call: Call, fd: int) -> None:
        """Remove an extended attribute of what is pinned."""
        try:
            name = read_string(call, 1, 256)
        except OSError:
            os.close(fd)
            raise
        self._change(call, fd, lambda: os.removexattr(b"/proc/self/fd/%d" % fd, name))

    def truncate(self, call: Call) -> None:
        """Answer a truncate by path."""
        fd = self._at(call, _sys.AT_FDCWD, 0, 0)
        length = call.args[1]

        def cut() -> None:
            opened = os.open(b"/proc/self/fd/%d" % fd, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(opened, length)
            finally:
                os.close(opened)

        self._change(call, fd, cut)

    def truncate_open(self, call: Call) -> None:
        """Answer a truncate by descriptor."""
        fd = self._duplicate(call, 0)
        length = call.args[1] - (1 << 64) if call.args[1] >> 63 else call.args[1]
        self._change(call, fd, lambda: os.ftruncate(fd, length))
