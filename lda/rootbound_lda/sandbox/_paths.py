"""What all file calls need: the caller's paths seen from here, pinned; and records."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._boundary import Boundary, RefusedError, real_path, split_path
from rootbound_lda.sandbox._notify import Call, Listener, read_string, status_field

Report = Callable[[dict[str, object]], None]

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
    report
        Takes records; a record of a change is reported before the caller learns of it.
    shm
        Folder that stands in for /dev/shm, or None.
    """

    def __init__(
        self, listener: Listener, boundary: Boundary, report: Report, shm: str | None
    ) -> None:
        self._listener = listener
        self._boundary = boundary
        self._report = report
        self._shm = os.fsencode(shm) if shm else None

    def _path(self, call: Call, dir_fd: int, index: int) -> bytes:
        path = read_string(call, index)
        if not path:
            raise _sys.raise_errno(errno.ENOENT)
        return self._absolute(call, dir_fd, path)

    def _absolute(self, call: Call, dir_fd: int, path: bytes) -> bytes:
        """Name the path from here: the caller's folder, and its /proc/self instead of ours."""
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

    def _allowed_parent(self, call: Call, path: bytes, operation: str) -> tuple[int, bytes, bytes]:
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
        fd = os.open(self._absolute(call, dir_fd, path), PATH_ONLY | nofollow)
        return self._checked(call, fd)

    def _of_fd(self, call: Call) -> int:
        fd = call.int32(0)
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

    # -- records -------------------------------------------------------------------------------

    def _record(
        self,
        call: Call,
        operation: str,
        result: str,
        path: bytes,
        error: int = 0,
        *,
        path2: bytes | None = None,
        exact: bool = True,
    ) -> None:
        try:
            program = os.readlink(f"/proc/{call.tid}/exe")  # noqa: PTH115 - faster
        except OSError:
            program = "?"
        entry: dict[str, object] = {
            "op": operation, "result": result, "path": os.fsdecode(path), "syscall": call.name,
            "pid": call.tid, "program": program, "errno": error, "exact": exact,
        }  # fmt: skip
        if path2 is not None:
            entry["path2"] = os.fsdecode(path2)
        self._report(entry)

    def _attempt(
        self,
        call: Call,
        act: Callable[[], object],
        records: Sequence[tuple[str, bytes, bytes | None]],
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
