"""Making, removing and moving names."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._boundary import RefusedError, real_path
from rootbound_lda.sandbox._notify import Call, read_string, status_field
from rootbound_lda.sandbox._paths import PathBroker
from rootbound_lda.sandbox._ring import Operation


class NameBroker(PathBroker):
    """Answers calls that change folders."""

    def remove(self, call: Call, dir_fd: int, index: int, *, folder: bool) -> None:
        """Answer unlink and rmdir."""
        path = self._path(call, dir_fd, index)
        parent, last, real = self._allowed_parent(call, path, "DELETE")
        remove = os.rmdir if folder else os.unlink
        try:
            self._attempt(call, lambda: remove(last, dir_fd=parent), [("DELETE", real, None)])
        finally:
            os.close(parent)

    def rename(
        self, call: Call, old_fd: int, old_index: int, new_fd: int, new_index: int, flags: int
    ) -> None:
        """Answer a rename."""
        if flags & ~(_sys.RENAME_NOREPLACE | _sys.RENAME_EXCHANGE):
            raise _sys.raise_errno(errno.EINVAL)
        old = self._path(call, old_fd, old_index)
        new = self._path(call, new_fd, new_index)
        first: Operation = "WRITE" if flags & _sys.RENAME_EXCHANGE else "DELETE"
        old_parent, old_last, old_real = self._allowed_parent(call, old, first)
        try:
            new_parent, new_last, new_real = self._allowed_parent(call, new, "WRITE")
            try:
                self._check_move(old_parent, old_last, old_real, new_real)
                if flags & _sys.RENAME_EXCHANGE:
                    self._check_move(new_parent, new_last, new_real, old_real)
                self._attempt(
                    call,
                    lambda: _sys.renameat2(old_parent, old_last, new_parent, new_last, flags),
                    [(first, old_real, new_real), ("WRITE", new_real, old_real)],
                )
            finally:
                os.close(new_parent)
        finally:
            os.close(old_parent)

    def _check_move(self, parent: int, last: bytes, source: bytes, target: bytes) -> None:
        if self._boundary.holds_protected(source):
            raise RefusedError("DELETE", source)
        if self._boundary.root_of(source) != self._boundary.root_of(target):
            kind = os.stat(last.rstrip(b"/"), dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                # A folder from a root without carve-out could bring a `.git` along: let the
                # caller copy it, name by name.
                raise _sys.raise_errno(errno.EXDEV)

    def mkdir(self, call: Call, dir_fd: int, index: int, mode: int) -> None:
        """Answer mkdir."""
        path = self._path(call, dir_fd, index)
        self._make(call, path, lambda last, parent, mask: os.mkdir(
            last, mode & 0o1777 & ~mask, dir_fd=parent))  # fmt: skip

    def mknod(self, call: Call, dir_fd: int, index: int, mode: int) -> None:
        """Answer mknod; only regular files and pipes can be made."""
        path = self._path(call, dir_fd, index)
        mode &= 0xFFFF & ~0o6000
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFIFO):
            raise _sys.raise_errno(errno.EPERM)
        self._make(call, path, lambda last, parent, mask: os.mknod(
            last, mode & ~mask, dir_fd=parent))  # fmt: skip

    def _make(self, call: Call, path: bytes, make: Callable[[bytes, int, int], object]) -> None:
        parent, last, real = self._parent(call, path)
        try:
            # "It is there already" is no attempt to write: `mkdir -p` asks for every level.
            if last.rstrip(b"/") in (b".", b"..") or _exists(parent, last):
                raise _sys.raise_errno(errno.EEXIST)
            if self._boundary.root_of(real) is None:
                raise RefusedError("WRITE", real)
            mask = int(status_field(call.tid, b"Umask"), 8)
            self._attempt(call, lambda: make(last, parent, mask), [("WRITE", real, None)])
        finally:
            os.close(parent)

    def link(
        self, call: Call, old_fd: int, old_index: int, new_fd: int, new_index: int, flags: int
    ) -> None:
        """Answer a hard link."""
        follow = 0 if flags & _sys.AT_SYMLINK_FOLLOW else _sys.AT_SYMLINK_NOFOLLOW
        source = self._at(call, old_fd, old_index, flags & _sys.AT_EMPTY_PATH | follow)
        try:
            source_real = real_path(source)
            path = self._path(call, new_fd, new_index)
            parent, last, real = self._allowed_parent(call, path, "WRITE")
            try:
                # A link to a file outside would make that file changeable from inside.
                if self._boundary.root_of(source_real) is None:
                    raise RefusedError("WRITE", source_real)
                self._attempt(
                    call,
                    lambda: os.link(
                        b"/proc/self/fd/%d" % source, last, dst_dir_fd=parent, follow_symlinks=True
                    ),
                    [("WRITE", real, source_real)],
                )
            finally:
                os.close(parent)
        finally:
            os.close(source)

    def symlink(self, call: Call, dir_fd: int, index: int) -> None:
        """Answer a symbolic link, whose target may be anything: it grants nothing."""
        target = read_string(call, 0)
        path = self._path(call, dir_fd, index)
        parent, last, real = self._allowed_parent(call, path, "WRITE")
        try:
            self._attempt(
                call, lambda: os.symlink(target, last, dir_fd=parent), [("WRITE", real, target)]
            )
        finally:
            os.close(parent)


def _exists(parent: int, last: bytes) -> bool:
    try:
        os.stat(last.rstrip(b"/"), dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return True
