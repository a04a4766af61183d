"""Loopback ports: the preferred one when it is free, else the next."""

from __future__ import annotations

import errno
import os
import socket

from rootbound_server_ext.stack.errors import StackError

__all__ = ["configured_port", "free_port", "listen_loopback"]

_SPAN = 200


def configured_port(variable: str) -> int | None:
    """Return the port that an environment variable demands, or None.

    Raises
    ------
    StackError
        When the variable does not hold a port number.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise StackError(f"{variable} must be a port number from 1 to 65535, not {text!r}.")
    return int(text)


def listen_loopback(preferred: int, *, strict: bool = False) -> socket.socket:
    """Return a socket that listens on 127.0.0.1.

    Parameters
    ----------
    preferred
        First port tried.
    strict
        Refuse any other port; otherwise the next free one is taken.

    Raises
    ------
    StackError
        When no port is free.
    """
    candidates = [preferred] if strict else [*range(preferred, min(preferred + _SPAN, 65536)), 0]
    for port in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # A port that was closed a moment ago is free; on Linux this never shares a live listener.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                raise StackError(f"Port {port} cannot be opened: {error.strerror}.") from error
            continue
        return listener
    raise StackError(
        f"Port {preferred} on 127.0.0.1 is taken by another program; stop that program or choose "
        "another port."
    )


def free_port(preferred: int, *, strict: bool = False) -> int:
    """Return a loopback port that is free at this moment (see `listen_loopback`)."""
    with listen_loopback(preferred, strict=strict) as listener:
        return int(listener.getsockname()[1])
