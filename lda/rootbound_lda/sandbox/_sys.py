"""System calls that Python does not offer, by number, for x86_64 and aarch64.

Standard library only: the zygote imports this in a bare interpreter.
"""

from __future__ import annotations

import ctypes
import errno
import os

MACHINE = os.uname().machine

_X86_64 = {
    "execve": 59, "ftruncate": 77, "umask": 95, "chdir": 80, "fchdir": 81, "execveat": 322,
    "open": 2, "ioctl": 16, "connect": 42, "socket": 41, "sendto": 44, "sendmsg": 46, "bind": 49,
    "listen": 50, "accept": 43, "socketpair": 53, "clone": 56, "fcntl": 72, "truncate": 76,
    "fork": 57, "vfork": 58,
    "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88,
    "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "ptrace": 101,
    "utime": 132, "mknod": 133, "uselib": 134, "setpriority": 141, "sched_setparam": 142,
    "sched_setscheduler": 144, "modify_ldt": 154, "pivot_root": 155, "prctl": 157,
    "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165,
    "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170,
    "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176,
    "quotactl": 179, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197,
    "lremovexattr": 198, "fremovexattr": 199, "sched_setaffinity": 203, "io_setup": 206,
    "io_submit": 209, "kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129,
    "rt_tgsigqueueinfo": 297, "utimes": 235, "mq_open": 240, "mq_unlink": 241, "kexec_load": 246,
    "add_key": 248, "request_key": 249, "keyctl": 250, "ioprio_set": 251, "migrate_pages": 256,
    "openat": 257, "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261,
    "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268,
    "unshare": 272, "move_pages": 279, "utimensat": 280, "accept4": 288,
    "perf_event_open": 298, "fanotify_init": 300, "prlimit64": 302, "open_by_handle_at": 304,
    "clock_adjtime": 305, "clock_settime": 227, "sendmmsg": 307, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
    "sched_setattr": 314, "renameat2": 316, "seccomp": 317, "kexec_file_load": 320, "bpf": 321,
    "userfaultfd": 323, "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "vhangup": 153,
    "syslog": 103, "lookup_dcookie": 212, "capset": 126, "shmctl": 31, "semop": 65, "semctl": 66,
    "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "semtimedop": 220,
}  # fmt: skip
_AARCH64 = {
    "ftruncate": 46, "umask": 166, "chdir": 49, "fchdir": 50, "execve": 221, "execveat": 281,
    "io_setup": 0, "io_submit": 2, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7,
    "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "lookup_dcookie": 18, "fcntl": 25,
    "ioctl": 29, "ioprio_set": 30, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36,
    "linkat": 37, "renameat": 38, "umount2": 39, "mount": 40, "pivot_root": 41, "truncate": 45,
    "chroot": 51, "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56,
    "vhangup": 58, "quotactl": 60, "utimensat": 88, "acct": 89, "capset": 91, "unshare": 97,
    "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112,
    "syslog": 116, "ptrace": 117, "sched_setparam": 118, "sched_setscheduler": 119,
    "sched_setaffinity": 122, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138,
    "setpriority": 140, "reboot": 142, "sethostname": 161, "setdomainname": 162, "prctl": 167,
    "settimeofday": 170, "adjtimex": 171, "mq_open": 180, "mq_unlink": 181, "msgget": 186,
    "semget": 190, "shmget": 194, "shmat": 196, "socket": 198, "socketpair": 199, "bind": 200,
    "listen": 201, "accept": 202, "connect": 203, "sendto": 206, "sendmsg": 211, "add_key": 217,
    "request_key": 218, "keyctl": 219, "clone": 220, "swapon": 224, "swapoff": 225,
    "migrate_pages": 238, "move_pages": 239, "rt_tgsigqueueinfo": 240, "perf_event_open": 241,
    "accept4": 242, "prlimit64": 261, "fanotify_init": 262, "open_by_handle_at": 265,
    "clock_adjtime": 266, "setns": 268, "sendmmsg": 269, "process_vm_readv": 270,
    "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "sched_setattr": 274,
    "renameat2": 276, "seccomp": 277, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
    "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semctl": 191, "semtimedop": 192, "semop": 193,
    "shmctl": 195,
}  # fmt: skip
_COMMON = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436,
    "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "quotactl_fd": 443, "landlock_create_ruleset": 444, "landlock_add_rule": 445,
    "landlock_restrict_self": 446, "process_mrelease": 448, "fchmodat2": 452, "setxattrat": 463,
    "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467,
    "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip

SYSCALLS: dict[str, int] = {
    **({"x86_64": _X86_64, "aarch64": _AARCH64}.get(MACHINE) or {}),
    **_COMMON,
}
"""Number of each known system call on this machine; a missing name does not exist here."""

NAMES: dict[int, str] = {number: name for name, number in SYSCALLS.items()}
"""The other way round."""

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(MACHINE, 0)
"""The architecture as seccomp reports it; 0 on a machine without a table."""

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_REMOVEDIR = 0x200
O_TMPFILE_BIT = 0o20000000
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


class _OpenHow(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def raise_errno(code: int | None = None) -> OSError:
    """Build the OSError for an error number, by default that of the last call."""
    number = ctypes.get_errno() if code is None else code
    return OSError(number, os.strerror(number))


def syscall(name: str, *args: object) -> int:
    """Make one system call.

    Parameters
    ----------
    name
        Its name in `SYSCALLS`.
    *args
        ctypes values, or integers, which are passed as C longs.

    Returns
    -------
    int
        Its result.

    Raises
    ------
    OSError
        If it fails, or with ENOSYS if this machine has no such call.
    """
    number = SYSCALLS.get(name)
    if number is None:
        raise raise_errno(errno.ENOSYS)
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = int(_libc.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        raise raise_errno()
    return result


def prctl(option: int, arg: int = 0) -> None:
    """Call prctl(2) with one argument.

    Raises
    ------
    OSError
        If it fails.
    """
    if _libc.prctl(option, arg, 0, 0, 0) != 0:
        raise raise_errno()


def openat2(dir_fd: int, path: bytes, flags: int, *, mode: int = 0, resolve: int) -> int:
    """Open a file under resolution rules; retries what the kernel asks to retry.

    Parameters
    ----------
    dir_fd
        Directory to start from.
    path
        Path relative to it, without NUL bytes.
    flags
        As for open(2); O_CLOEXEC is added.
    mode
        Permission bits when creating.
    resolve
        RESOLVE_* bits.

    Raises
    ------
    ValueError
        If the path has a NUL byte: C would silently cut it there.
    OSError
        As open(2); EXDEV when the path leaves `dir_fd`.
    """
    if b"\0" in path:
        raise ValueError("a path cannot contain a NUL byte")
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        try:
            return syscall(
                "openat2", dir_fd, ctypes.c_char_p(path), ctypes.byref(how), ctypes.sizeof(how)
            )
        except OSError as error:
            # EAGAIN: a rename somewhere made the kernel unsure that ".." stayed beneath.
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise


def renameat2(src_fd: int, src: bytes, dst_fd: int, dst: bytes, flags: int) -> None:
    """Rename with flags (RENAME_*)."""
    syscall(
        "renameat2", src_fd, ctypes.c_char_p(src), dst_fd, ctypes.c_char_p(dst),
        ctypes.c_uint(flags),
    )  # fmt: skip


def fchownat_empty(fd: int, uid: int, gid: int) -> None:
    """Change the owner of what an O_PATH descriptor holds, also of a symbolic link itself."""
    syscall("fchownat", fd, ctypes.c_char_p(b""), uid, gid, AT_EMPTY_PATH)


def utimensat(fd: int, path: bytes, times: bytes | None, flags: int) -> None:
    """Set times from the raw `struct timespec[2]`; None means now."""
    buffer = None if times is None else ctypes.create_string_buffer(times, len(times))
    syscall("utimensat", fd, ctypes.c_char_p(path), buffer, flags)


_read_buffer = ctypes.create_string_buffer(1 << 16)
_local = _IoVec(ctypes.addressof(_read_buffer), 0)
_remote = _IoVec(0, 0)
_NR_READV = ctypes.c_long(SYSCALLS.get("process_vm_readv", -1))
_ONE = ctypes.c_ulong(1)
_ZERO = ctypes.c_ulong(0)


def read_memory(tid: int, address: int, length: int) -> bytes:
    """Read another process's memory (at most 64 KiB a call); may return fewer bytes.

    Not thread-safe: it is the broker's loop that calls it.

    Raises
    ------
    OSError
        EFAULT if nothing is readable there.
    """
    _local.length = _remote.length = min(length, 1 << 16)
    _remote.base = address
    count = _libc.syscall(
        _NR_READV, ctypes.c_long(tid), ctypes.byref(_local), _ONE, ctypes.byref(_remote), _ONE,
        _ZERO,
    )  # fmt: skip
    if count < 0:
        raise raise_errno()
    return ctypes.string_at(_read_buffer, count)


def write_memory(tid: int, address: int, data: bytes) -> None:
    """Write into another process's memory.

    Raises
    ------
    OSError
        EFAULT if it is not writable there.
    """
    buffer = ctypes.create_string_buffer(data, len(data))
    here = _IoVec(ctypes.addressof(buffer), len(data))
    there = _IoVec(address, len(data))
    syscall("process_vm_writev", tid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Duplicate a descriptor out of another process."""
    return syscall("pidfd_getfd", pidfd, fd, 0)


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


_CAP_V3 = 0x20080522
# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL: what file work as root needs; nothing of the machine.
KEPT_CAPABILITIES = (0, 1, 3, 4, 5)


def drop_capabilities() -> None:
    """Give up every capability but those of `KEPT_CAPABILITIES`, for good; no-op without any.

    Raises
    ------
    OSError
        If a privileged process cannot give them up.
    """
    if os.geteuid() == 0:
        for capability in range(64):
            if capability in KEPT_CAPABILITIES:
                continue
            try:
                prctl(PR_CAPBSET_DROP, capability)
            except OSError as error:
                # EINVAL: past the last one this kernel knows. EPERM: root without SETPCAP, as in
                # some containers; no_new_privs does not bind root there, capset below still does.
                if error.errno == errno.EINVAL:
                    break
                if error.errno != errno.EPERM:
                    raise
    low = sum(1 << capability for capability in KEPT_CAPABILITIES)
    current = ctypes.create_string_buffer(24)
    header = _CapHeader(_CAP_V3, 0)
    if _libc.capget(ctypes.byref(header), current) != 0:
        raise raise_errno()
    words = memoryview(bytearray(current.raw)).cast("I")
    words[0] &= low
    words[1] &= low
    words[2] = words[3] = words[4] = words[5] = 0
    header = _CapHeader(_CAP_V3, 0)
    data = ctypes.create_string_buffer(words.tobytes(), 24)
    if _libc.capset(ctypes.byref(header), data) != 0:
        raise raise_errno()
