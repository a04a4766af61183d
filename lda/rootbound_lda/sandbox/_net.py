"""The network calls of a confined process tree, carried out by the supervisor.

Outward TCP and questions to the resolver pass; this machine's own services never do, by any of
its addresses, and neither do link-local ones (cloud metadata).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._notify import Call, Handler, Listener, read_block, status_field

_DNS_PORT = 53
_FASTOPEN = 0x20000000
_MAX_MESSAGE = 1 << 22
_MAX_PARTS = 1024
_MAX_CONTROL = 1 << 12
_MSGHDR = struct.Struct("<QI4xQQQQi4x")
_CMSG = struct.Struct("<Qii")

Address = tuple[int, str, int, int, int]

# Where clouds hand out a machine's credentials, besides the link-local addresses: Amazon (two),
# Google and Oracle by IPv6, Alibaba, Azure, and Oracle's older one.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe",
            "100.100.100.200", "168.63.129.16", "192.0.0.192",
        ),
    )
)  # fmt: skip
_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))
"""A network's translator takes these for the IPv4 address in their last 32 bits."""


def parse_address(raw: bytes) -> Address:
    """Read a socket address into family, host, port, flow and scope."""
    family = int.from_bytes(raw[:2], "little")
    if family == socket.AF_INET and len(raw) >= 16:
        port = int.from_bytes(raw[2:4], "big")
        return family, str(ipaddress.IPv4Address(raw[4:8])), port, 0, 0
    if family == socket.AF_INET6 and len(raw) >= 24:
        port = int.from_bytes(raw[2:4], "big")
        flow = int.from_bytes(raw[4:8], "big")
        scope = int.from_bytes(raw[24:28], "little")
        return family, str(ipaddress.IPv6Address(raw[8:24])), port, flow, scope
    raise _sys.raise_errno(errno.EACCES)


def _meant(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if any(ip in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether this machine has the address: only then can it be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def network_identity() -> list[int]:
    """Return what names the network namespace that this process is in."""
    facts = os.stat("/proc/self/ns/net")  # noqa: PTH116 - a link of the kernel's
    return [facts.st_dev, facts.st_ino]


def take_socket(listener: Listener, call: Call) -> socket.socket:
    """Duplicate the caller's socket, its first argument, so that it stays the one checked.

    Raises
    ------
    OSError
        If the caller is gone or it is no socket.
    """
    group = int(status_field(call.tid, b"Tgid"))
    pidfd = os.pidfd_open(group)
    try:
        listener.check(call)
        return socket.socket(fileno=_sys.pidfd_getfd(pidfd, call.int32(0)))
    finally:
        os.close(pidfd)


class NetBroker:
    """Answers the network calls.

    Parameters
    ----------
    listener
        Where the calls come from.
    resolvers
        Addresses of the name servers; the only ones reached by UDP.
    """

    def __init__(self, listener: Listener, resolvers: Sequence[str]) -> None:
        self._listener = listener
        self._resolvers = {ipaddress.ip_address(text) for text in resolvers}
        self.handlers: Mapping[str, Handler] = {
            "connect": self._connect,
            "sendto": self._sendto,
            "sendmsg": self._sendmsg,
            "sendmmsg": self._sendmmsg,
        }

    def _check(self, kind: int, address: Address) -> None:
        """Refuse a destination outside the policy.

        Raises
        ------
        OSError
            EACCES.
        """
        ip = _meant(ipaddress.ip_address(address[1]))
        if ip in self._resolvers and address[2] == _DNS_PORT:
            return
        refused = (
            kind != socket.SOCK_STREAM
            or ip.is_loopback
            or ip.is_unspecified
            or ip.is_multicast
            or ip.is_link_local
            or ip in _METADATA
            or (isinstance(ip, ipaddress.IPv4Address) and int(ip) in (0xFFFFFFFF,))
            or int(ip) >> 24 == 0
            or _is_ours(ip)
        )
        if refused:
            raise _sys.raise_errno(errno.EACCES)

    def _destination(self, sock: socket.socket, raw: bytes) -> tuple[object, ...]:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise _sys.raise_errno(errno.EACCES)
        address = parse_address(raw)
        if address[0] != sock.family:
            raise _sys.raise_errno(errno.EAFNOSUPPORT)
        self._check(sock.type & 0xF, address)
        return address[1:3] if sock.family == socket.AF_INET else address[1:]

    def _run(self, call: Call, sock: socket.socket, act: Callable[[], int]) -> None:
        """Act, in a thread of its own if the caller's socket may block."""

        def work() -> None:
            try:
                value = act()
            except OSError as error:
                self._listener.answer(call, error=error.errno or errno.EIO)
            else:
                self._listener.answer(call, value)
            finally:
                sock.close()

        if os.get_blocking(sock.fileno()) and sock.type & 0xF != socket.SOCK_DGRAM:
            threading.Thread(target=work, daemon=True).start()
        else:
            work()

    def _connect(self, call: Call) -> None:
        length = call.args[2] & 0xFFFFFFFF
        if not 2 <= length <= 128:
            raise _sys.raise_errno(errno.EINVAL)
        raw = read_block(call, call.args[1], length)
        sock = take_socket(self._listener, call)
        try:
            if raw[:2] == b"\0\0" and sock.type & 0xF == socket.SOCK_DGRAM:
                # AF_UNSPEC takes a destination away; name resolution uses it.
                _sys.syscall("connect", sock.fileno(), raw.ljust(16, b"\0"), 16)
                self._listener.answer(call)
                sock.close()
                return
            target = self._destination(sock, raw)
        except OSError:
            sock.close()
            raise

        def act() -> int:
            _raw_connect(sock, target)
            return 0

        self._run(call, sock, act)

    def _sendto(self, call: Call) -> None:
        length = min(call.args[2], _MAX_MESSAGE)
        raw = read_block(call, call.args[4], min(call.args[5] & 0xFFFFFFFF, 128))
        data = read_block(call, call.args[1], length)
        sock = take_socket(self._listener, call)
        try:
            target = self._destination(sock, raw)
        except OSError:
            sock.close()
            raise
        flags = call.int32(3) & ~_FASTOPEN
        self._run(call, sock, lambda: sock.sendto(data, flags, target))

    def _message(
        self, call: Call, sock: socket.socket, address: int
    ) -> tuple[list[bytes], list[tuple[int, int, bytes]], tuple[object, ...] | None, list[int]]:
        """Copy a struct msghdr: data, control messages, destination, descriptors to close."""
        name, name_length, parts, count, control, control_length, _ = _MSGHDR.unpack(
            read_block(call, address, _MSGHDR.size)
        )
        if count > _MAX_PARTS or control_length > _MAX_CONTROL:
            raise _sys.raise_errno(errno.EMSGSIZE)
        target = None
        if name and name_length:
            target = self._destination(sock, read_block(call, name, min(name_length, 128)))
        table = struct.unpack(f"<{2 * count}Q", read_block(call, parts, 16 * count))
        if sum(table[1::2]) > _MAX_MESSAGE:
            raise _sys.raise_errno(errno.EMSGSIZE)
        data = [
            read_block(call, base, size) for base, size in zip(table[::2], table[1::2], strict=True)
        ]
        extra: list[tuple[int, int, bytes]] = []
        taken: list[int] = []
        if control and control_length:
            if sock.family != socket.AF_UNIX:
                raise _sys.raise_errno(errno.EACCES)
            extra = self._control(call, read_block(call, control, control_length), taken)
        return data, extra, target, taken

    def _control(self, call: Call, raw: bytes, taken: list[int]) -> list[tuple[int, int, bytes]]:
        """Translate descriptors on their way between processes of the tree."""
        messages: list[tuple[int, int, bytes]] = []
        offset = 0
        pidfd = os.pidfd_open(int(status_field(call.tid, b"Tgid")))
        try:
            while offset + _CMSG.size <= len(raw):
                length, level, kind = _CMSG.unpack_from(raw, offset)
                if length < _CMSG.size or offset + length > len(raw):
                    raise _sys.raise_errno(errno.EINVAL)
                if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    raise _sys.raise_errno(errno.EACCES)
                numbers = array("i", raw[offset + _CMSG.size : offset + length])
                mine = array("i")
                for number in numbers:
                    fd = _sys.pidfd_getfd(pidfd, number)
                    taken.append(fd)
                    mine.append(fd)
                messages.append((level, kind, mine.tobytes()))
                offset += (length + 7) & ~7
        finally:
            os.close(pidfd)
        return messages

    def _sendmsg(self, call: Call) -> None:
        sock = take_socket(self._listener, call)
        try:
            data, extra, target, taken = self._message(call, sock, call.args[1])
        except OSError:
            sock.close()
            raise
        flags = call.int32(2) & ~_FASTOPEN

        def act() -> int:
            try:
                return sock.sendmsg(data, extra, flags, target)
            finally:
                for fd in taken:
                    os.close(fd)

        self._run(call, sock, act)

    def _sendmmsg(self, call: Call) -> None:
        """Send datagrams one after the other, as glibc's resolver does with its two questions."""
        sock = take_socket(self._listener, call)
        try:
            if sock.type & 0xF != socket.SOCK_DGRAM or sock.family == socket.AF_UNIX:
                raise _sys.raise_errno(errno.EACCES)
            count = min(call.args[2] & 0xFFFFFFFF, 16)
            sent = 0
            for index in range(count):
                address = call.args[1] + index * 64
                data, _, target, _ = self._message(call, sock, address)
                size = sock.sendmsg(data, [], call.int32(3) & ~_FASTOPEN, target)
                _sys.write_memory(call.tid, address + 56, struct.pack("<I", size))
                sent += 1
        finally:
            sock.close()
        self._listener.answer(call, sent)


def _raw_connect(sock: socket.socket, target: tuple[object, ...]) -> None:
    """Connect without Python's own waiting: a non-blocking socket answers EINPROGRESS."""
    code = sock.connect_ex(target)
    if code:
        raise _sys.raise_errno(code)
