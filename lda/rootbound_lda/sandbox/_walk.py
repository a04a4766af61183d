"""Paths that lead through the links of /proc, which mean the caller's process and not this one.

The kernel would resolve `/proc/self/fd/3`, or a symbolic link to it, for whoever asks. Such a path
is followed here, component by component, with the caller's own links put in. What it leads to is
pinned and judged afterwards like any other, so nothing rests on this walk but which file is meant.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from rootbound_lda.sandbox import _sys

_MAX_LINKS = 40
_MAGIC = re.compile(
    rb"/proc/\d+(?:/task/\d+)?/(?:cwd|root|exe|fd/\d+|map_files/[^/]+|ns/[^/]+)(?=/|$)"
)
_PATH_ONLY = os.O_PATH | os.O_CLOEXEC


def strays(path: bytes, *, follow: bool) -> bool:
    """Tell whether a path, after a beginning that names the caller's folder, meets such a link.

    Parameters
    ----------
    path
        As named from here.
    follow
        Whether its last component is followed too.
    """
    start = _MAGIC.match(path)
    rest = path[start.end() :].lstrip(b"/") if start else path
    if not follow:
        rest = rest.rstrip(b"/").rpartition(b"/")[0]
    if not rest:
        return False
    base = os.open(start[0], _PATH_ONLY) if start else _sys.AT_FDCWD
    try:
        os.close(_sys.openat2(base, rest, os.O_PATH, resolve=_sys.RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        return error.errno == errno.ELOOP
    finally:
        if start:
            os.close(base)
    return False


def walk(path: bytes, own_view: Callable[[bytes], bytes], *, follow: bool) -> bytes:
    """Follow a path as its caller would, as far as it leads.

    Parameters
    ----------
    path
        Absolute path.
    own_view
        Puts the caller's process into the names that mean "myself".
    follow
        Whether the last component is followed too.

    Returns
    -------
    bytes
        A path that means the same file from here.

    Raises
    ------
    OSError
        ELOOP for too many links.
    """
    here, rest, links = b"", _parts(path), 0
    trail = b"/" if path.endswith(b"/") else b""
    while rest:
        part = rest.pop(0)
        if part == b"..":
            here = here.rpartition(b"/")[0]
            continue
        at = own_view(here + b"/" + part)
        if not rest and not follow and not trail:
            return at
        try:
            target = os.readlink(at)  # noqa: PTH115 - bytes
        except OSError as error:
            if error.errno != errno.EINVAL:
                return b"/".join([at, *rest]) + trail
            here = at
            continue
        links += 1
        if links > _MAX_LINKS:
            raise _sys.raise_errno(errno.ELOOP)
        if not _MAGIC.fullmatch(at):
            here = b"" if target.startswith(b"/") else here
            rest = [*_parts(target), *rest]
        elif target.startswith(b"/") and os.path.lexists(target):
            here = target.rstrip(b"/")
        else:
            # A pipe, or a file without a name: only the link itself leads there.
            return b"/".join([at, *rest]) + trail
    return (here or b"/") + trail


def named(path: bytes) -> bytes:
    """Name a path for a record although it could not be reached: by its folder, not by the link."""
    start = _MAGIC.match(path)
    if start is None or not path.startswith((start[0] + b"/",)):
        return path
    try:
        folder = os.readlink(start[0])  # noqa: PTH115 - bytes
    except OSError:
        return path
    return os.path.normpath(folder + b"/" + path[start.end() :].lstrip(b"/"))


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
