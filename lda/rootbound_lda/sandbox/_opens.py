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
from rootbound_lda.sandbox._walk import named

_MAX_LINKS = 40


class OpenBroker(PathBroker):
    """Answers opens and execs."""

    _strict = False

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
        exclusive = flags & os.O_EXCL and flags & os.O_CREAT
        path = self._absolute(call, dir_fd, path, follow=not (flags & os.O_NOFOLLOW or exclusive))
        # A run has no use for programs that lend their owner's rights.
        self._open_to_write(call, path, flags, mode & 0o1777)

    def _open_to_read(self, call: Call, dir_fd: int, path: bytes, flags: int) -> None:
        full = self._absolute(call, dir_fd, path, follow=not flags & os.O_NOFOLLOW)
        try:
            fd = os.open(full, PATH_ONLY | flags & os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in REFUSED_BY_KERNEL:
                self._record(call, "READ", "DENIED", named(full), error.errno, exact=False)
                raise
            self._listener.let_run(call)
            return
        try:
            self._listener.check(call)
            real = real_path(fd)
            if self._boundary.inside(real):
                shm = self._shm
                swapped = shm is not None and full.startswith(shm) and not path.startswith(shm)
                self._read(call, fd, real, flags, carry_out=swapped)
            elif no_file_system(real):
                self._listener.let_run(call)
            elif not self._boundary.may_read(real):
                raise RefusedError("READ", real)
            elif real.startswith(b"/proc/") and real[6:7].isdigit():
                self._check_process_file(call, fd, real)
                self._listener.let_run(call)
            else:
                self._read(call, fd, real, flags)
        finally:
            os.close(fd)

    def _read(
        self, call: Call, fd: int, real: bytes, flags: int, *, carry_out: bool = False
    ) -> None:
        """Record a read, and leave it to the kernel or carry it out."""
        if not os.access(b"/proc/self/fd/%d" % fd, os.R_OK):
            self._record(call, "READ", "DENIED", real, errno.EACCES, exact=False)
        elif carry_out or (self._strict and self._is_plain(fd, real)):
            again = flags & ~os.O_NOFOLLOW | os.O_CLOEXEC
            opened = os.open(b"/proc/self/fd/%d" % fd, again)
            self._record(call, "READ", "ALLOWED", real)
            self._give(call, opened, flags)
            return
        elif self._boundary.is_folded(real):
            self._recorder.read_of_system(call, real)
        else:
            self._record(call, "READ", "ALLOWED", real, exact=False)
        self._listener.let_run(call)

    def _is_plain(self, fd: int, real: bytes) -> bool:
        """Tell whether opening this here is the same as opening it there."""
        kind = os.fstat(fd).st_mode
        return (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) and not real.startswith(
            (b"/proc/", b"/sys/")
        )

    def _check_process_file(self, call: Call, fd: int, real: bytes) -> None:
        """Record a refusal that only opening shows: other processes' files below /proc."""
        try:
            os.close(os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno in REFUSED_BY_KERNEL:
                self._record(call, "READ", "DENIED", real, error.errno or 0, exact=False)
                return
        self._recorder.read_of_system(call, real)

    def execute(self, call: Call, dir_fd: int, index: int, flags: int) -> None:
        """Record an exec, which the kernel decides: it is the caller that becomes the program."""
        path = read_string(call, index)
        if not path and not flags & _sys.AT_EMPTY_PATH:
            raise _sys.raise_errno(errno.ENOENT)
        nofollow = os.O_NOFOLLOW if flags & _sys.AT_SYMLINK_NOFOLLOW else 0
        if path:
            full = self._absolute(call, dir_fd, path, follow=not nofollow)
        else:
            full = b"/proc/%d/fd/%d" % (call.tid, dir_fd)
        try:
            fd = os.open(full, PATH_ONLY | nofollow)
        except OSError as error:
            if error.errno in REFUSED_BY_KERNEL:
                self._record(call, "READ", "DENIED", named(full), error.errno, exact=False)
            self._listener.let_run(call)
            return
        try:
            self._listener.check(call)
            real = real_path(fd)
            known = no_file_system(real) or self._boundary.inside(real)
            if not known and not self._boundary.may_read(real):
                raise RefusedError("READ", real)
            runs = os.access(b"/proc/self/fd/%d" % fd, os.X_OK)
        finally:
            os.close(fd)
        if runs:
            self._record(call, "READ", "ALLOWED", real, exact=False)
        else:
            self._record(call, "READ", "DENIED", real, errno.EACCES, exact=False)
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
        if not target.startswith(b"/"):
            target = real_path(parent) + b"/" + target
        return self._absolute(call, _sys.AT_FDCWD, target, follow=True)

    def _reopen(self, call: Call, pinned: int, flags: int, mode: int) -> None:
        """Open what is pinned for writing, if the policy has it, and hand it over."""
        try:
            real = real_path(pinned)
            kind = os.fstat(pinned).st_mode
            if stat.S_ISLNK(kind):
                raise _sys.raise_errno(errno.ELOOP)
            quiet = self._boundary.is_device(real) or (
                no_file_system(real) and self._is_callers(call, pinned)
            )
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
