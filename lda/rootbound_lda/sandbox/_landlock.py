"""Landlock by system call: the ruleset of the supervisor and the nested one of its child."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from rootbound_lda.sandbox._sys import PR_SET_NO_NEW_PRIVS, prctl, syscall

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_FILE = 1 << 5
MAKE_SOCK = 1 << 9
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

SCOPE_ABI = 6
"""First ABI that confines signals and abstract sockets."""

_ALL_V1 = (1 << 13) - 1
_NET_TCP = 0b11
_SCOPES = 0b11
_RULE_PATH_BENEATH = 1


class _RulesetAttr(ctypes.Structure):
    _fields_ = [
        ("fs", ctypes.c_uint64),
        ("net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("fd", ctypes.c_int32)]


def abi() -> int:
    """Return the Landlock ABI of this kernel, 0 if it has none or it is switched off."""
    try:
        return syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def handled_rights(version: int) -> int:
    """Return every file right that an ABI version knows."""
    rights = _ALL_V1
    if version >= 2:
        rights |= REFER
    if version >= 3:
        rights |= TRUNCATE
    if version >= 5:
        rights |= IOCTL_DEV
    return rights


def _create(version: int, *, fs: int, net: int = 0, scoped: int = 0) -> int:
    attr = _RulesetAttr(fs, net, scoped)
    size = 8 if version < 4 else 16 if version < SCOPE_ABI else 24
    return syscall("landlock_create_ruleset", ctypes.byref(attr), size, 0)


def _allow(
    ruleset: int, place: str | int, rights: int, file_rights: int, *, canonical: bool = True
) -> None:
    """Add a rule for a path or for what a descriptor holds.

    A path that is not there needs no permission, and one that is said to be canonical and is not
    has been replaced by a link: neither gets a rule, which is the safe side.
    """
    try:
        fd = os.dup(place) if isinstance(place, int) else os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        link = f"/proc/self/fd/{fd}"
        if canonical and isinstance(place, str) and os.readlink(link) != place:  # noqa: PTH115
            return
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= file_rights
        rule = _PathBeneath(rights, fd)
        syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)


def _restrict(ruleset: int) -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    syscall("landlock_restrict_self", ruleset, 0)


def supervisor_ruleset(
    version: int,
    *,
    writable: Iterable[int],
    readable: Iterable[str],
    listable: Iterable[str],
    devices: Iterable[str],
    sockets: int | None = None,
) -> int:
    """Make the rules of a policy's domain; the descriptor is the caller's to close.

    Parameters
    ----------
    version
        Landlock ABI, at least 1.
    writable
        Descriptors of folders with every right.
    readable
        Files and folders to read, list and execute.
    listable
        Folders to list only.
    devices
        Device files to read and write.
    sockets
        Descriptor of the folder where unix sockets may be made and removed, if any.

    Raises
    ------
    OSError
        If the kernel refuses; nothing may run then.
    """
    everything = handled_rights(version)
    of_files = everything & (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV)
    ruleset = _create(version, fs=everything)
    try:
        for pin in writable:
            # Device nodes and their ioctls are nothing that file work in a project needs.
            _allow(ruleset, pin, everything & ~IOCTL_DEV, of_files)
        for path in readable:
            _allow(ruleset, path, EXECUTE | READ_FILE | READ_DIR, of_files)
        for path in listable:
            _allow(ruleset, path, READ_DIR, 0)
        for path in devices:
            _allow(ruleset, path, everything, of_files & ~EXECUTE, canonical=False)
        if sockets is not None:
            _allow(ruleset, sockets, READ_FILE | READ_DIR | MAKE_SOCK | REMOVE_FILE, 0)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def confine_supervisor(ruleset: int) -> None:
    """Put this process, and every later child, into the domain of a policy.

    Raises
    ------
    OSError
        If the kernel refuses; nothing may run then.
    """
    _restrict(ruleset)


def confine_child(version: int) -> None:
    """Enter a nested domain, so that the child can reach neither the supervisor nor the host.

    It stops tracing (any ABI), TCP (ABI 4) and signals and abstract sockets (ABI 6).

    Raises
    ------
    OSError
        If the kernel refuses; nothing may run then.
    """
    if version < 1:
        return
    net = _NET_TCP if version >= 4 else 0
    scoped = _SCOPES if version >= SCOPE_ABI else 0
    # The domain alone counts; a right that is granted everywhere keeps old ABIs content.
    ruleset = _create(version, fs=EXECUTE, net=net, scoped=scoped)
    try:
        _allow(ruleset, "/", EXECUTE, EXECUTE)
        _restrict(ruleset)
    finally:
        os.close(ruleset)
