"""Granted folders by identity: a name that leads to another folder by now grants nothing.

A pin holds a descriptor, so the kernel cannot give the folder's inode number to another one, and
compares what the path leads to with what was granted. Names that differ only in case or in the
composition of their characters are the same folder exactly if the file system says so.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_PINNED = 512
"""Granted folders that are remembered by descriptor; beyond it the oldest is forgotten."""

_PIN_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW

Identity = tuple[int, int]


class Pin:
    """A file or folder, held by descriptor.

    Parameters
    ----------
    path
        Canonical path; its last component must not be a symbolic link.

    Attributes
    ----------
    fd
        Descriptor that names it without opening it.
    identity
        Device and inode number.

    Raises
    ------
    OSError
        If there is nothing to pin.
    """

    __slots__ = ("fd", "identity", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, _PIN_FLAGS)
        facts = os.fstat(self.fd)
        self.identity: Identity = (facts.st_dev, facts.st_ino)

    def __repr__(self) -> str:
        return f"Pin({str(self.path)!r})"

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # It is missing if opening failed; and modules are empty when the interpreter ends.
        fd = getattr(self, "fd", None)
        if fd is not None:
            close(fd)

    def holds(self) -> bool:
        """Tell whether the path still leads to what was pinned, by no symbolic link."""
        return self.identity == identity_of(self.path) and self._where() == os.fspath(self.path)

    def _where(self) -> str:
        link = f"/proc/self/fd/{self.fd}"
        if os.path.lexists(link):
            return str(Path(link).readlink())
        return os.path.realpath(self.path)


def identity_of(path: Path | str) -> Identity | None:
    """Return device and inode number of what a path itself is, None if there is nothing."""
    try:
        facts = os.lstat(path)
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino


def lineage(path: Path) -> Iterator[Identity]:
    """Yield the identities of a path and of every folder above it, as far as they exist."""
    for place in (path, *path.parents):
        found = identity_of(place)
        if found is not None:
            yield found


class PinBoard:
    """The folders that were granted since this process began, by canonical path.

    The first one who asks for a folder pins it; from then on another folder of that name is not
    it. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._pins: OrderedDict[Path, Pin] = OrderedDict()
        self._lock = threading.Lock()

    def grant(self, path: Path) -> Pin:
        """Pin what the path leads to now: the user has just granted it.

        Raises
        ------
        OSError
            If it is gone.
        """
        with self._lock:
            pin = self._pins.get(path)
            if pin is None or not pin.holds():
                pin = Pin(path)
            self._keep(pin)
            return pin

    def find(self, path: Path) -> Pin | None:
        """Return the pin of a granted folder; None if the name leads to another one by now.

        Raises
        ------
        OSError
            If it is gone.
        """
        with self._lock:
            pin = self._pins.get(path)
            if pin is None:
                pin = Pin(path)
            elif not pin.holds():
                return None
            self._keep(pin)
            return pin

    def _keep(self, pin: Pin) -> None:
        self._pins[pin.path] = pin
        self._pins.move_to_end(pin.path)
        while len(self._pins) > MAX_PINNED:
            self._pins.popitem(last=False)


GRANTED = PinBoard()
"""The board of this process."""
