"""The seccomp program of a child: what never runs, and what the supervisor is asked about."""

from __future__ import annotations

import ctypes
import errno
import struct

from rootbound_lda.sandbox._sys import AUDIT_ARCH, MACHINE, SYSCALLS, syscall

Instruction = tuple[int, int, int, int]

_LD, _JEQ, _JGE, _JSET, _AND, _RSH, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x74, 0x06
_ALLOW, _NOTIFY, _KILL, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x80000000, 0x00050000
_NAMESPACES = 0x7E020000
_NEW_TIME = 0x80
_FIRST_UNKNOWN = 470
_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE = 1 << 5
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _DGRAM, _SEQPACKET = 1, 2, 5
_IPPROTO_DEFAULT, _IPPROTO_TCP, _IPPROTO_UDP = 0, 6, 17
_OPEN_FLAGS = {"open": 1, "openat": 2}
_O_PATH = 0o10000000
# O_CREAT, O_TRUNC, the access mode and the bit of O_TMPFILE.
_WRITE_INTENT = 0o100 | 0o1000 | 0o3 | 0o20000000

FILE_CALLS = (
    "open", "openat", "creat", "truncate", "unlink", "unlinkat", "rmdir", "rename", "renameat",
    "renameat2", "mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat",
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat", "utime",
    "utimes", "futimesat", "utimensat", "setxattr", "lsetxattr", "fsetxattr", "removexattr",
    "lremovexattr", "fremovexattr", "ftruncate", "execve", "execveat",
)  # fmt: skip
"""Every call that opens, changes or executes a file; the supervisor answers each."""

SIGNAL_CALLS = (
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal",
)  # fmt: skip
"""Asked about only where Landlock does not confine signals."""

MOVE_CALLS = ("umask", "chdir", "fchdir")
"""Asked about only where the supervisor remembers the umask and the folder of a thread."""

NETWORK_CALLS = ("connect", "sendmsg", "sendmmsg")
"""Asked about when the network is on; `sendto` joins them when it names an address."""

SOCKET_CALLS = ("bind", "listen")
"""Asked about when the command may have unix sockets of its own; `connect` as well."""

_REFUSED = (
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "process_madvise",
    "process_mrelease", "move_pages", "migrate_pages", "pidfd_getfd", "io_setup", "io_submit",
    "io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "perf_event_open",
    "userfaultfd", "add_key", "request_key", "keyctl", "open_by_handle_at", "fanotify_init",
    "mount", "umount2", "pivot_root", "chroot", "setns", "open_tree", "open_tree_attr",
    "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "quotactl",
    "quotactl_fd", "swapon", "swapoff", "acct", "reboot", "kexec_load", "kexec_file_load",
    "init_module", "finit_module", "delete_module", "sethostname", "setdomainname", "iopl",
    "ioperm", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "vhangup", "syslog",
    "lookup_dcookie", "uselib", "mq_open", "mq_unlink",
    # What is shared by number, which can be guessed: it need not be got before it is used.
    "shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd",
    "msgrcv", "msgctl",
    "modify_ldt", "bind", "listen", "capset",
)  # fmt: skip

# Their arguments lie in memory or they are too new to know: callers fall back to the older call.
_ABSENT = (
    "openat2", "clone3", "setxattrat", "getxattrat", "listxattrat", "removexattrat",
    "file_getattr", "file_setattr",
)  # fmt: skip


def _fail(code: int) -> int:
    return _ERRNO | code


def _arg(index: int) -> Instruction:
    return (_LD, 0, 0, 16 + 8 * index)


def _arg_high(index: int) -> Instruction:
    return (_LD, 0, 0, 20 + 8 * index)


def _ret(value: int) -> Instruction:
    return (_RET, 0, 0, value)


def _one_of(values: tuple[int, ...], otherwise: int) -> list[Instruction]:
    """Go on if the accumulator is one of the values, else return."""
    count = len(values)
    tests = [(_JEQ, count - index, 0, value) for index, value in enumerate(values)]
    return [*tests, _ret(otherwise)]


def _only_self(index: int = 0) -> list[Instruction]:
    """Allow a call whose process argument is 0, the caller itself."""
    return [_arg(index), (_JEQ, 0, 1, 0), _ret(_ALLOW), _ret(_fail(errno.EPERM))]


def _self_or_ask() -> list[Instruction]:
    """Allow a call whose process argument is 0; ask about one that names a thread."""
    return [_arg(0), (_JEQ, 0, 1, 0), _ret(_ALLOW), _ret(_NOTIFY)]


def _no_namespaces(mask: int, verdict: int = _ALLOW) -> list[Instruction]:
    return [_arg(0), (_JSET, 0, 1, mask), _ret(_fail(errno.EPERM)), _ret(verdict)]


def _ioctl() -> list[Instruction]:
    # File attributes can be set through a read-only descriptor, so Landlock does not see it.
    return [
        _arg(1),
        *[(_JEQ, 12 - i, 0, cmd) for i, cmd in enumerate((0x80086601, 0x801C581F))],
        *[(_JEQ, 10 - i, 0, cmd) for i, cmd in enumerate((0x40049409, 0x4020940D))],
        # Input into a terminal, and signals to whoever is named a socket's owner.
        *[(_JEQ, 9 - i, 0, cmd) for i, cmd in enumerate((0x5412, 0x541C, 0x8901, 0x8902))],
        (_RSH, 0, 0, 8),
        (_AND, 0, 0, 0xFF),
        *[(_JEQ, 3 - i, 0, kind) for i, kind in enumerate((0x66, 0x58, 0x94))],
        _ret(_ALLOW),
        _ret(_fail(errno.EPERM)),
    ]


def _prlimit() -> list[Instruction]:
    return [
        _arg(0), (_JEQ, 4, 0, 0),
        _arg(2), (_JEQ, 0, 3, 0),
        _arg_high(2), (_JEQ, 0, 1, 0),
        _ret(_ALLOW), _ret(_fail(errno.EPERM)),
    ]  # fmt: skip


def _socket(network: bool, sockets: bool, loopback: bool) -> list[Instruction]:
    refuse = _fail(errno.EACCES)
    # The one error that libzmq takes for "no list of interfaces"; of any other it dies.
    netlink = [_arg(0), (_JEQ, 0, 1, _AF_NETLINK), _ret(_fail(errno.EOPNOTSUPP))]
    own: list[Instruction] = []
    if sockets:
        # Streams alone: a datagram socket could send to any unix socket by name.
        stream = [_arg(1), (_AND, 0, 0, 0xF), *_one_of((_STREAM,), refuse), _ret(_ALLOW)]
        families = (_AF_UNIX, _AF_INET, _AF_INET6) if loopback else (_AF_UNIX,)
        protocols = [_arg(2), *_one_of((_IPPROTO_DEFAULT, _IPPROTO_TCP), refuse)]
        stream[-1:] = [*protocols, _ret(_ALLOW)]
        own = [_arg(0)]
        for index, family in enumerate(families):
            last = index == len(families) - 1
            own.append((_JEQ, len(families) - 1 - index, len(stream) if last else 0, family))
        own += stream
    if not network:
        return [*netlink, *own, _ret(refuse)]
    return [
        *netlink, *own,
        _arg(0), *_one_of((_AF_INET, _AF_INET6), refuse),
        _arg(1), (_AND, 0, 0, 0xF), *_one_of((_STREAM, _DGRAM), refuse),
        # Other protocols (MPTCP, SCTP, ping) are ways round the check of connect().
        _arg(2), *_one_of((_IPPROTO_DEFAULT, _IPPROTO_TCP, _IPPROTO_UDP), refuse),
        _ret(_ALLOW),
    ]  # fmt: skip


def _socketpair() -> list[Instruction]:
    # A datagram pair could send to any unix socket by name.
    refuse = _fail(errno.EACCES)
    return [
        _arg(0), *_one_of((_AF_UNIX,), refuse),
        _arg(1), (_AND, 0, 0, 0xF), *_one_of((_STREAM, _SEQPACKET), refuse),
        _ret(_ALLOW),
    ]  # fmt: skip


def _sendto() -> list[Instruction]:
    return [
        _arg(4), (_JEQ, 0, 2, 0),
        _arg_high(4), (_JEQ, 1, 0, 0),
        _ret(_NOTIFY), _ret(_ALLOW),
    ]  # fmt: skip


def _open(index: int, *, trace_reads: bool) -> list[Instruction]:
    # A descriptor that names a file without opening it; every use of it is a call of its own.
    program = [_arg(index), (_JSET, 0, 1, _O_PATH), _ret(_ALLOW)]
    if not trace_reads:
        program += [(_JSET, 1, 0, _WRITE_INTENT), _ret(_ALLOW)]
    return [*program, _ret(_NOTIFY)]


def _first_args(*values: int) -> list[Instruction]:
    """Allow only these values of the first arguments."""
    program: list[Instruction] = []
    for index, value in enumerate(values):
        program += [_arg(index), *_one_of((value,), _fail(errno.EPERM))]
    return [*program, _ret(_ALLOW)]


def _refuse_arg(index: int, values: tuple[int, ...]) -> list[Instruction]:
    count = len(values)
    tests = [(_JEQ, count - i, 0, value) for i, value in enumerate(values)]
    return [_arg(index), *tests, _ret(_ALLOW), _ret(_fail(errno.EPERM))]


def build(
    *,
    network: bool,
    trap_signals: bool,
    sockets: bool = False,
    loopback: bool = False,
    count_forks: bool = False,
    trace_reads: bool = True,
    trap_moves: bool = False,
) -> bytes:
    """Assemble the program.

    Parameters
    ----------
    network
        Whether TCP and name resolution go through the supervisor; otherwise no socket exists.
    trap_signals
        Whether to ask about signals, for kernels whose Landlock does not confine them.
    sockets
        Whether stream sockets of the unix family exist; the supervisor is asked where they are
        bound and connected.
    loopback
        Whether TCP is among these, for a command in a network of its own.
    count_forks
        Whether to ask about new processes and threads, to limit their number.
    trace_reads
        Whether to ask about opens that can only read.
    trap_moves
        Whether to ask about umask, chdir and fchdir, for a supervisor that remembers what they
        change.

    Returns
    -------
    bytes
        An array of `struct sock_filter`.
    """
    program: list[Instruction] = [
        (_LD, 0, 0, 4), (_JEQ, 1, 0, AUDIT_ARCH), _ret(_KILL), (_LD, 0, 0, 0),
    ]  # fmt: skip
    if MACHINE == "x86_64":
        program += [(_JGE, 0, 1, 0x40000000), _ret(_KILL)]
    blocks: list[tuple[str, list[Instruction]]] = [
        ("ioctl", _ioctl()),
        # Leases, notices of other folders, and signals to whoever is named the owner.
        ("fcntl", _refuse_arg(1, (8, 15, 1024, 1026))),
        ("prctl", _refuse_arg(0, (4,))),
        ("clone", _no_namespaces(_NAMESPACES, _NOTIFY if count_forks else _ALLOW)),
        ("unshare", _no_namespaces(_NAMESPACES | _NEW_TIME)),
        ("prlimit64", _prlimit()),
        ("setpriority", _first_args(0, 0)),
        ("ioprio_set", _first_args(1, 0)),
        *((name, _only_self()) for name in (
            "sched_setaffinity", "sched_setparam", "sched_setattr")),
        # A thread library names the calling thread by its number instead of 0.
        ("sched_setscheduler", _self_or_ask()),
        ("socket", _socket(network, sockets, loopback)),
        ("socketpair", _socketpair()),
    ]  # fmt: skip
    # A call of a later kernel could change files in a way nobody here has thought of.
    program += [(_JGE, 0, 1, _FIRST_UNKNOWN), _ret(_fail(errno.ENOSYS))]
    asked = [name for name in FILE_CALLS if name not in _OPEN_FLAGS]
    blocks += [(name, _open(index, trace_reads=trace_reads)) for name, index in _OPEN_FLAGS.items()]
    if trap_moves:
        asked += MOVE_CALLS
    if trap_signals:
        asked += SIGNAL_CALLS
    if count_forks:
        asked += ("fork", "vfork")
    if network:
        asked += NETWORK_CALLS
        blocks.append(("sendto", _sendto()))
    elif not sockets:
        blocks.append(("connect", [_ret(_fail(errno.EACCES))]))
    if sockets:
        asked += SOCKET_CALLS if network else ("connect", *SOCKET_CALLS)
    blocks += [(name, [_ret(_NOTIFY)]) for name in asked]
    refused = [name for name in _REFUSED if name not in asked]
    blocks += [(name, [_ret(_fail(errno.EPERM))]) for name in refused]
    blocks += [(name, [_ret(_fail(errno.ENOSYS))]) for name in _ABSENT]
    for name, block in blocks:
        number = SYSCALLS.get(name)
        if number is not None:
            program += [(_JEQ, 0, len(block), number), *block]
    program.append(_ret(_ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install(program: bytes) -> int:
    """Install the program for this process and return the descriptor that gets its questions.

    `no_new_privs` must be set. Where the kernel can (5.19), a question taken up is not
    interrupted by a signal, which would repeat a change.

    Raises
    ------
    OSError
        EBUSY if a listener exists already, as inside another sandbox of this kind.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.addressof(buffer))
    try:
        return syscall(
            "seccomp", _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, ctypes.byref(header)
        )
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return syscall("seccomp", _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(header))
