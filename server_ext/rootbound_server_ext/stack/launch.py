"""Start one program so that it ends with its parent; optionally as another user.

Run as a script (``python -I -S launch.py ... -- program args``) between ``fork`` and the program,
because the order matters: a change of user clears the parent-death signal, so the signal is asked
for last. Standard library only; the program replaces this process.

A user id that cannot reach the state folder (below ``/root``, mode 0700) may keep one capability
that lets it search folders. Nobody's permissions are changed for that.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def change_user(uid: int, gid: int, capabilities: list[int]) -> None:
    """Become ``uid``:``gid`` for good, keeping only the named capabilities.

    Parameters
    ----------
    uid, gid
        Numeric ids; supplementary groups are dropped.
    capabilities
        Capability numbers below 32 that the program shall have (ambient).

    Raises
    ------
    OSError
        When the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if capabilities:
        _check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
        # access(2), by which PostgreSQL's programs find each other, ignores the capabilities of
        # a user other than root unless this bit is set (fs/open.c, access_override_creds).
        bits = libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0) | _SECBIT_NO_SETUID_FIXUP
        _check(libc.prctl(_PR_SET_SECUREBITS, bits, 0, 0, 0), "PR_SET_SECUREBITS")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if not capabilities:
        return
    mask = sum(1 << number for number in capabilities)
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)(_CapabilityData(mask, mask, mask), _CapabilityData(0, 0, 0))
    _check(libc.capset(ctypes.byref(header), data), "capset")
    for number in capabilities:
        _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0), "PR_CAP_AMBIENT")


def die_with_parent(parent: int, signal_number: int) -> None:
    """Ask the kernel for a signal when the thread that started this process ends.

    Parameters
    ----------
    parent
        Process id that must still be the parent; otherwise this process ends at once.
    signal_number
        The signal to receive.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:  # it died before the request
        sys.exit(128 + signal.SIGTERM)


def main(argv: list[str]) -> None:
    """Parse the arguments, set the process up and replace it with the program."""
    parser = argparse.ArgumentParser(prog="rootbound-launch")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--death-signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--capability", type=int, action="append", default=[])
    parser.add_argument("program", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    try:
        if options.uid is not None:
            change_user(options.uid, options.gid, options.capability)
        if options.parent:
            die_with_parent(options.parent, options.death_signal)
        os.execvpe(program[0], program, os.environ)  # noqa: S606 - replacing is the purpose
    except OSError as error:
        sys.exit(f"{program[0]} cannot be started: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
