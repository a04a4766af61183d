"""What all file calls need: the caller's paths seen from here, pinned; and records."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._boundary import Boundary, RefusedError, real_path, split_path
from rootbound_lda.sandbox._notify import Call, Listener, read_string, status_field
from rootbound_lda.sandbox._records import Recorder
from rootbound_lda.sandbox._ring import Operation
from rootbound_lda.sandbox._walk import named, strays, walk

PATH_ONLY = os.O_PATH | os.O_CLOEXEC
REFUSED_BY_KERNEL = (errno.EACCES, errno.EPERM, errno.EROFS)


class PathBroker:
    """Base of what answers file calls.

    Parameters
    ----------
    listener
        Where the calls come from.
    boundary
        The policy.
    recorder
        Takes records; a record of a change is written before the caller learns of it.
    shm
        Folder that stands in for /dev/shm, or None.
    """

    def __init__(
        self, listener: Listener, boundary: Boundary, recorder: Recorder, shm: str | None
    ) -> None:
        self._listener = listener
        self._boundary = boundary
        self._recorder = recorder
        self._shm = os.fsencode(shm) if shm else None
        # The path asked for last, and the call whose refusal is on record already.
        self._asked = b""
        self._noted = 0

    def _path(self, call: Call, dir_fd: int, index: int) -> bytes:
        path = read_string(call, index)
        if not path:
            raise _sys.raise_errno(errno.ENOENT)
        return self._absolute(call, dir_fd, path, follow=False)

    def _absolute(self, call: Call, dir_fd: int, path: bytes, *, follow: bool) -> bytes:
        """Name the path from here: the caller's folder, and its /proc/self instead of ours."""
        full = self._asked = self._seen_from_here(call, dir_fd, path)
        if strays(full, follow=follow):
            full = self._asked = walk(full, lambda at: self._own_view(call, at), follow=follow)
        return full

    def _seen_from_here(self, call: Call, dir_fd: int, path: bytes) -> bytes:
        if not path.startswith(b"/"):
            if dir_fd == _sys.AT_FDCWD:
                return b"/proc/%d/cwd/%s" % (call.tid, path)
            return b"/proc/%d/fd/%d/%s" % (call.tid, dir_fd, path)
        if path.startswith((b"/proc/", b"/dev/", b"//")):
            return self._own_view(call, path)
        return path

    def _own_view(self, call: Call, path: bytes) -> bytes:
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        head, rest = parts[:2], parts[2:]
        tail = b"".join(b"/" + part for part in rest) + (b"/" if path.endswith(b"/") else b"")
        if head == [b"proc", b"self"]:
            return b"/proc/%s%s" % (status_field(call.tid, b"Tgid"), tail)
        if head == [b"proc", b"thread-self"]:
            return b"/proc/%s/task/%d%s" % (status_field(call.tid, b"Tgid"), call.tid, tail)
        if head == [b"dev", b"fd"]:
            return b"/proc/%d/fd%s" % (call.tid, tail)
        standard = {b"stdin": 0, b"stdout": 1, b"stderr": 2}
        if head[:1] == [b"dev"] and len(head) == 2 and head[1] in standard:
            return b"/proc/%d/fd/%d%s" % (call.tid, standard[head[1]], tail)
        if self._shm and head == [b"dev", b"shm"]:
            return self._shm + tail
        return path

    def _parent(self, call: Call, path: bytes) -> tuple[int, bytes, bytes]:
        """Pin the folder of a path; returns its descriptor, the last component, the real path."""
        folder, last = split_path(path)
        fd = os.open(folder, PATH_ONLY | os.O_DIRECTORY)
        try:
            self._listener.check(call)
            return fd, last, real_path(fd).rstrip(b"/") + b"/" + last.rstrip(b"/")
        except OSError:
            os.close(fd)
            raise

    def _allowed_parent(
        self, call: Call, path: bytes, operation: Operation
    ) -> tuple[int, bytes, bytes]:
        fd, last, real = self._parent(call, path)
        if self._boundary.root_of(real) is None or last.rstrip(b"/") in (b".", b".."):
            os.close(fd)
            if last.rstrip(b"/") in (b".", b".."):
                raise _sys.raise_errno(errno.EINVAL)
            raise RefusedError(operation, real)
        return fd, last, real

    def _at(self, call: Call, dir_fd: int, index: int, flags: int) -> int:
        """Pin the file that a path, or with an empty one a descriptor, stands for."""
        if call.args[index] == 0:
            return self._of_fd(call)
        path = read_string(call, index)
        if not path:
            if not flags & _sys.AT_EMPTY_PATH:
                raise _sys.raise_errno(errno.ENOENT)
            if dir_fd != _sys.AT_FDCWD:
                return self._of_fd(call)
            path = b"."
        nofollow = os.O_NOFOLLOW if flags & _sys.AT_SYMLINK_NOFOLLOW else 0
        path = self._absolute(call, dir_fd, path, follow=not nofollow)
        fd = os.open(path, PATH_ONLY | nofollow)
        return self._checked(call, fd)

    def _of_fd(self, call: Call) -> int:
        fd = call.int32(0)
        self._asked = b"/proc/%d/fd/%d" % (call.tid, fd)
        try:
            pinned = os.open(b"/proc/%d/fd/%d" % (call.tid, fd), PATH_ONLY)
        except FileNotFoundError:
            raise _sys.raise_errno(errno.EBADF) from None
        return self._checked(call, pinned)

    def _checked(self, call: Call, fd: int) -> int:
        try:
            self._listener.check(call)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _is_callers(self, call: Call, fd: int) -> bool:
        """Tell whether the caller itself holds this pipe or memory file, which no path names."""
        facts = os.fstat(fd)
        folder = f"/proc/{call.tid}/fd"
        for name in os.listdir(folder):  # noqa: PTH208 - names alone
            with suppress(FileNotFoundError):
                held = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a descriptor
                if (held.st_dev, held.st_ino) == (facts.st_dev, facts.st_ino):
                    return True
        return False

    def _duplicate(self, call: Call, index: int) -> int:
        """Duplicate the caller's descriptor, so that it stays the one that was checked."""
        pidfd = os.pidfd_open(int(status_field(call.tid, b"Tgid")))
        try:
            return self._checked(call, _sys.pidfd_getfd(pidfd, call.int32(index)))
        finally:
            os.close(pidfd)

    # -- records -------------------------------------------------------------------------------

    def _record(
        self,
        call: Call,
        operation: Operation,
        result: str,
        path: bytes,
        error: int = 0,
        *,
        path2: bytes | None = None,
        exact: bool = True,
    ) -> None:
        if result == "DENIED":
            self._noted = call.id
        self._recorder.record(call, operation, result, path, error, path2=path2, exact=exact)

    def _note_refusal(self, call: Call, error: int) -> None:
        """Record what the kernel refused on the way, before a handler came to a verdict."""
        if error not in REFUSED_BY_KERNEL or self._noted == call.id or not self._asked:
            return
        operation: Operation = "DELETE" if call.name in ("unlink", "unlinkat", "rmdir") else "WRITE"
        self._record(call, operation, "DENIED", named(self._asked), error)

    def _attempt(
        self,
        call: Call,
        act: Callable[[], object],
        records: Sequence[tuple[Operation, bytes, bytes | None]],
    ) -> None:
        """Carry out a change, record its effect or the kernel's refusal, and answer."""
        try:
            act()
        except OSError as error:
            if error.errno in REFUSED_BY_KERNEL:
                for operation, path, path2 in records:
                    self._record(call, operation, "DENIED", path, error.errno, path2=path2)
            raise
        for operation, path, path2 in records:
            self._record(call, operation, "ALLOWED", path, path2=path2)
        self._listener.answer(call)
