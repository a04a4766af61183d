"""Opening what lies beneath a folder, by the kernel's own rule or, where it has none, step by step.

`openat2` (Linux 5.6) resolves a whole path below a descriptor and follows links that stay inside.
Elsewhere, and where a container refuses that call, each component is opened from the one before it
and no symbolic link is followed at all: stricter, and just as free of races.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from rootbound_lda.pins import Pin
from rootbound_lda.sandbox._sys import AUDIT_ARCH, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY)
_TRIES = 100
_STEP = _PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Opener = Callable[[int, bytes, int], int]


class ReplacedError(OSError):
    """A granted path leads to something else than what was granted."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ESTALE, "it was moved or replaced since it was granted", str(path))


def by_kernel(folder: int, path: bytes, flags: int) -> int:
    """Open by `openat2`; a link or `..` that leads out is EXDEV."""
    return openat2(folder, path, flags, resolve=_RESOLVE)


def by_steps(folder: int, path: bytes, flags: int) -> int:
    """Open one component after the other; a symbolic link on the way is ELOOP.

    `..` goes back to the folder that was opened before, and no further than `folder`.
    """
    if b"\0" in path:
        raise ValueError("a path cannot contain a NUL byte")
    if path.startswith(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    *inner, last = [part for part in path.split(b"/") if part not in (b"", b".")] or [b"."]
    opened: list[int] = []
    try:
        for part in [*inner, b".."] if last == b".." else inner:
            if part == b"..":
                if not opened:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
                os.close(opened.pop())
            else:
                opened.append(_step(opened[-1] if opened else folder, part, _STEP))
        here = opened[-1] if opened else folder
        name = b"." if last == b".." else last
        if path.endswith(b"/"):
            flags |= os.O_DIRECTORY
        return _step(here, name, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    finally:
        for fd in opened:
            os.close(fd)


def _step(folder: int, name: bytes, flags: int) -> int:
    for _ in range(_TRIES):
        try:
            return os.open(name, flags, dir_fd=folder)
        except NotADirectoryError:
            # With O_DIRECTORY, a link reports itself as no folder: tell the two apart.
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISLNK(kind):
                break
            if not stat.S_ISDIR(kind):
                raise
            # Exchanged between the two looks: once more.
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(name))


def _kernel_can() -> bool:
    if not sys.platform.startswith("linux") or AUDIT_ARCH == 0:
        return False
    fd = os.open("/", _STEP)
    try:
        os.close(by_kernel(fd, b".", _STEP))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return False
    finally:
        os.close(fd)
    return True


open_beneath: Opener = by_kernel if _kernel_can() else by_steps
"""What this machine offers; takes a folder's descriptor, a path beneath it and open flags."""


class PinnedRoot:
    """A pinned folder (or file) of the policy.

    Parameters
    ----------
    path
        Canonical path.
    pin
        What was granted; by default what is there when it is first used.
    writable
        Whether it is for writing; one that is gone is an error at once then.

    Raises
    ------
    OSError
        If a writable one is gone or has been replaced.
    """

    def __init__(self, path: Path, pin: Pin | None, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._pin = pin
        if writable:
            self.pin()

    def pin(self) -> int:
        """Return the descriptor; that of a readable path is opened when first used.

        Raises
        ------
        ReplacedError
            If the path leads to something else by now.
        """
        if self._pin is None:
            self._pin = Pin(self.path)
        if not self._pin.holds():
            raise ReplacedError(self.path)
        return self._pin.fd

    def is_pinned_as(self, pin: Pin) -> bool:
        """Tell whether it is the same folder as another pin."""
        return self._pin is not None and self._pin.identity == pin.identity

    def release(self) -> None:
        """Let go of the descriptor."""
        self._pin = None

    def open(self, inner: bytes, flags: int) -> int:
        """Open what lies beneath; of a root that is a file, that file."""
        fd = self.pin()
        facts = os.fstat(fd)
        if stat.S_ISDIR(facts.st_mode):
            return open_beneath(fd, inner or b".", flags)
        if flags & os.O_PATH:
            return os.dup(fd)
        opened = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        again = os.fstat(opened)
        if (again.st_dev, again.st_ino) != (facts.st_dev, facts.st_ino):
            os.close(opened)
            raise ReplacedError(self.path)
        return opened
