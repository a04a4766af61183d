"""Where a process tree may write and read, decided on real paths."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rootbound_lda.sandbox._ring import Operation


class RefusedError(Exception):
    """The operation is outside the policy."""

    def __init__(self, operation: Operation, path: bytes) -> None:
        super().__init__(path)
        self.operation = operation
        self.path = path


Root = tuple[str, bool, int]
"""Path of a writable folder, whether `.git` is carved out of it, and its pinned descriptor."""


def standing(roots: Sequence[tuple[str, bool]], pins: Sequence[int]) -> list[Root]:
    """Return the roots whose path leads to what was pinned; the others grant nothing.

    Raises
    ------
    ValueError
        If there is not one descriptor for each root.
    """
    found: list[Root] = []
    for (path, guarded), pin in zip(roots, pins, strict=True):
        try:
            here = os.lstat(path)
        except FileNotFoundError:
            continue
        granted = os.fstat(pin)
        if (here.st_dev, here.st_ino) == (granted.st_dev, granted.st_ino):
            found.append((path, guarded, pin))
    return found


class Boundary:
    """Where the tree may write and read, on real paths.

    Parameters
    ----------
    roots
        Writable folders.
    readable
        Files and folders that are readable besides.
    listable
        Folders that can be listed, without what is in them.
    devices
        Device files that may be opened for writing, and folders of nothing else.
    protected
        Paths that are never writable, whatever contains them.
    watched
        Those of `readable` whose reads are recorded one by one.
    """

    def __init__(
        self,
        *,
        roots: Sequence[Root],
        readable: Sequence[str],
        listable: Sequence[str],
        devices: Sequence[str],
        protected: Sequence[str],
        watched: Sequence[str] = (),
    ) -> None:
        self.roots = [(os.fsencode(path) + b"/", guarded) for path, guarded, _ in roots]
        self._pins = [(b"/proc/self/fd/%d" % pin, os.fsencode(path)) for path, _, pin in roots]
        self._inside = tuple(prefix for prefix, _ in self.roots)
        self._readable = tuple(os.fsencode(path).rstrip(b"/") + b"/" for path in readable)
        self._readable_exact = {os.fsencode(path) for path in (*readable, *listable, *devices)}
        self._watched = tuple(os.fsencode(path).rstrip(b"/") + b"/" for path in watched)
        self.folded = [os.fsencode(path) for path in (*readable, *devices) if path not in watched]
        self._devices = {os.fsencode(path) for path in devices}
        self._of_devices = tuple(path + b"/" for path in self._devices if os.path.isdir(path))  # noqa: PTH112 - bytes
        self._protected = tuple(os.fsencode(path) + b"/" for path in protected)

    def root_of(self, real: bytes) -> int | None:
        """Return the index of the root that may be changed at this path, else None."""
        slashed = real + b"/"
        if slashed.startswith(self._protected):
            return None
        for index, (prefix, guarded) in enumerate(self.roots):
            if slashed.startswith(prefix):
                if guarded and b"/.git/" in slashed[len(prefix) - 1 :].lower():
                    return None
                return index
        return None

    def stands(self, index: int) -> bool:
        """Tell whether a root is still where it was; Landlock does not know of every change."""
        link, path = self._pins[index]
        return os.readlink(link) == path  # noqa: PTH115 - bytes

    def holds_protected(self, real: bytes) -> bool:
        """Tell whether moving this path would move a protected one."""
        return any(path.startswith(real + b"/") for path in self._protected)

    def inside(self, real: bytes) -> bool:
        """Tell whether the path lies in a root."""
        return (real + b"/").startswith(self._inside)

    def is_device(self, real: bytes) -> bool:
        """Tell whether the path is that of a device that may be opened for writing."""
        return real in self._devices or real.startswith(self._of_devices)

    def may_read(self, real: bytes) -> bool:
        """Tell whether the path is readable without being in a root."""
        return (
            real in self._readable_exact
            or (real + b"/").startswith(self._readable)
            or real.startswith(self._of_devices)
        )

    def is_folded(self, real: bytes) -> bool:
        """Tell whether a readable path is the system's, whose reads are counted."""
        return not (self.inside(real) or (real + b"/").startswith(self._watched))


def real_path(fd: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % fd)  # noqa: PTH115 - bytes


def no_file_system(real: bytes) -> bool:
    """Tell whether this is a pipe, a socket or a memory file: nothing that a path could name."""
    return not real.startswith(b"/") or real.startswith(b"/memfd:")


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """Split into the folder part and the last component, which keeps a trailing slash."""
    stripped = path.rstrip(b"/")
    if not stripped:
        return b"/", b"."
    head, separator, last = stripped.rpartition(b"/")
    return (head + separator) or b".", last + path[len(stripped) : len(stripped) + 1]
