"""Opening: for reading decided by the kernel, for writing carried out here and handed over."""

from __future__ import annotations

import errno
import os
import stat
import threading

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._boundary import RefusedError, no_file_system, real_path
from rootbound_lda.sandbox._notify import Call, read_string, status_field
from rootbound_lda.sandbox._paths import PATH_ONLY, REFUSED_BY_KERNEL, PathBroker

_MAX_LINKS = 40
# Where the kernel decides and nothing is recorded: no need to look.
_UNWATCHED = (b"/usr/", b"/lib/", b"/lib64/", b"/etc/ld.so.", b"/sys/", b"/dev/null")


class OpenBroker(PathBroker):
    """Answers opens."""

    def open(self, call: Call, dir_fd: int, index: int, flags: int, mode: int) -> None:
        """Answer an open with these flags; the path is argument `index`."""
        if flags & os.O_PATH:
            self._listener.let_run(call)
            return
        intent = os.O_CREAT | os.O_TRUNC | os.O_ACCMODE | _sys.O_TMPFILE_BIT
        path = read_string(call, index)
        if not path:
            raise _sys.raise_errno(errno.ENOENT)
        if flags & intent == 0:
            self._open_to_read(call, dir_fd, path, flags)
            return
        self._open_to_write(call, self._absolute(call, dir_fd, path), flags, mode & 0o7777)

    def _open_to_read(self, call: Call, dir_fd: int, path: bytes, flags: int) -> None:
        if path.startswith(_UNWATCHED) and b"/.." not in path:
            self._listener.let_run(call)
            return
        full = self._absolute(call, dir_fd, path)
        try:
            fd = os.open(full, PATH_ONLY | flags & os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in REFUSED_BY_KERNEL:
                self._record(call, "READ", "DENIED", full, error.errno, exact=False)
                raise
            self._listener.let_run(call)
            return
        try:
            self._listener.check(call)
            real = real_path(fd)
            if self._boundary.inside(real):
                self._read_inside(call, fd, real, full, path, flags)
            elif no_file_system(real) or self._boundary.may_read(real):
                self._listener.let_run(call)
            else:
                raise RefusedError("READ", real)
        finally:
            os.close(fd)

    def _read_inside(
        self, call: Call, fd: int, real: bytes, full: bytes, path: bytes, flags: int
    ) -> None:
        readable = os.access(b"/proc/self/fd/%d" % fd, os.R_OK)
        verdict = "ALLOWED" if readable else "DENIED"
        self._record(call, "READ", verdict, real, 0 if readable else errno.EACCES, exact=False)
        if self._shm and full.startswith(self._shm) and not path.startswith(self._shm):
            opened = os.open(b"/proc/self/fd/%d" % fd, flags & ~os.O_NOFOLLOW | os.O_CLOEXEC)
            self._give(call, opened, flags)
        else:
            self._listener.let_run(call)

    def _open_to_write(self, call: Call, path: bytes, flags: int, mode: int) -> None:
        create = bool(flags & os.O_CREAT)
        exclusive = create and bool(flags & os.O_EXCL)
        nofollow = flags & os.O_NOFOLLOW
        for _ in range(_MAX_LINKS):
            if not exclusive:
                try:
                    pinned = os.open(path, PATH_ONLY | nofollow)
                except FileNotFoundError:
                    if not create or path.endswith(b"/"):
                        raise
                else:
                    self._reopen(call, self._checked(call, pinned), flags, mode)
                    return
            target = self._create(call, path, flags, mode, exclusive=exclusive)
            if target is None:
                return
            path = target
        raise _sys.raise_errno(errno.ELOOP)

    def _create(
        self, call: Call, path: bytes, flags: int, mode: int, *, exclusive: bool
    ) -> bytes | None:
        """Create and hand over a file; returns the next path to try if a name was in the way."""
        parent, last, real = self._allowed_parent(call, path, "WRITE")
        try:
            try:
                fd = os.open(
                    last,
                    flags | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY,
                    mode & ~int(status_field(call.tid, b"Umask"), 8),
                    dir_fd=parent,
                )
            except FileExistsError:
                if exclusive:
                    raise
                return self._next_name(call, parent, path, last, flags)
            except OSError as error:
                if error.errno in REFUSED_BY_KERNEL:
                    self._record(call, "WRITE", "DENIED", real, error.errno)
                raise
        finally:
            os.close(parent)
        self._record(call, "WRITE", "ALLOWED", real)
        self._give(call, fd, flags)
        return None

    def _next_name(self, call: Call, parent: int, path: bytes, last: bytes, flags: int) -> bytes:
        """Follow a dangling link, as O_CREAT does; a file that just appeared is tried again."""
        try:
            target = os.readlink(last, dir_fd=parent)
        except OSError:
            return path
        if flags & os.O_NOFOLLOW:
            raise _sys.raise_errno(errno.ELOOP)
        if target.startswith(b"/"):
            return self._absolute(call, _sys.AT_FDCWD, target)
        return real_path(parent) + b"/" + target

    def _reopen(self, call: Call, pinned: int, flags: int, mode: int) -> None:
        """Open what is pinned for writing, if the policy has it, and hand it over."""
        try:
            real = real_path(pinned)
            kind = os.fstat(pinned).st_mode
            if stat.S_ISLNK(kind):
                raise _sys.raise_errno(errno.ELOOP)
            quiet = real in self._boundary.devices or no_file_system(real)
            if not quiet and self._boundary.root_of(real) is None:
                raise RefusedError("WRITE", real)
            again = flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) | os.O_CLOEXEC | os.O_NOCTTY
            if flags & _sys.O_TMPFILE_BIT == _sys.O_TMPFILE_BIT:
                mode &= ~int(status_field(call.tid, b"Umask"), 8)
            blocking = stat.S_ISFIFO(kind) and not flags & os.O_NONBLOCK
            if blocking and flags & os.O_ACCMODE == os.O_WRONLY:
                self._open_fifo(call, os.dup(pinned), again, real)
                return
            try:
                fd = os.open(b"/proc/self/fd/%d" % pinned, again, mode)
            except OSError as error:
                if error.errno in REFUSED_BY_KERNEL and not quiet:
                    self._record(call, "WRITE", "DENIED", real, error.errno)
                raise
        finally:
            os.close(pinned)
        if not quiet:
            self._record(call, "WRITE", "ALLOWED", real)
        self._give(call, fd, flags)

    def _open_fifo(self, call: Call, pinned: int, flags: int, real: bytes) -> None:
        """Wait for a reader of a pipe in a thread of its own."""

        def wait() -> None:
            try:
                fd = os.open(b"/proc/self/fd/%d" % pinned, flags)
            except OSError as error:
                self._listener.answer(call, error=error.errno or errno.EIO)
            else:
                self._give(call, fd, flags)
            finally:
                os.close(pinned)

        self._record(call, "WRITE", "ALLOWED", real)
        threading.Thread(target=wait, daemon=True).start()

    def _give(self, call: Call, fd: int, flags: int) -> None:
        try:
            self._listener.give(call, fd, cloexec=bool(flags & os.O_CLOEXEC))
        finally:
            os.close(fd)
