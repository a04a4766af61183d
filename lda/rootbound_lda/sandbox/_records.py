"""The supervisor's way to the LDA: its control socket, and what it records of the calls."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping

from rootbound_lda.sandbox import _sys
from rootbound_lda.sandbox._notify import Call, status_field
from rootbound_lda.sandbox._ring import Operation, RawRecord, Ring

_TELL_S = 0.002
_MOST_FOLDS = 64
_ACKNOWLEDGED, _SIGNALS = ord("A"), 128


class StopError(Exception):
    """The LDA wants the tree to end, or is gone."""


class Control:
    """The supervisor's end of the control socket; `ring` is set once it is known."""

    def __init__(self, sock: socket.socket, ring: Ring) -> None:
        self._sock = sock
        self.ring = ring
        self._told = ring.head
        self._told_at = 0.0
        self.on_signal: Callable[[int], None] | None = None

    @property
    def untold(self) -> bool:
        """Whether the LDA does not know of all records."""
        return self.ring.head != self._told

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def tell(self, *, now: bool = False) -> None:
        """Tell the LDA that there are records, but not more often than every few milliseconds."""
        if self.untold and (now or time.monotonic() - self._told_at > _TELL_S):
            self._told = self.ring.head
            self._told_at = time.monotonic()
            self._sock.sendall(b"R\n")

    def wait_for_room(self) -> None:
        """Let the whole tree wait until the LDA has kept enough.

        Raises
        ------
        StopError
            If the LDA does not keep the records.
        """
        while not self.ring.has_room:
            self._sock.sendall(b"F\n")
            self.hear()

    def wait_until_kept(self) -> None:
        """Wait until the LDA has kept every record.

        Raises
        ------
        StopError
            If it does not.
        """
        while self.ring.tail != self.ring.head:
            self._sock.sendall(b"F\n")
            self.hear()

    def hear(self, flags: int = 0) -> None:
        """Take what the LDA says; waits for it unless `flags` has MSG_DONTWAIT.

        Raises
        ------
        StopError
            If it is anything but acknowledgements and signals to pass on.
        """
        try:
            said = self._sock.recv(64, flags)
        except BlockingIOError:
            return
        if not said:
            raise StopError
        for byte in said:
            if byte > _SIGNALS and self.on_signal is not None:
                self.on_signal(byte - _SIGNALS)
            elif byte != _ACKNOWLEDGED:
                raise StopError

    def send(self, message: Mapping[str, object]) -> None:
        """Send one message.

        Raises
        ------
        OSError
            If the LDA is gone.
        """
        self._sock.sendall(json.dumps(message).encode() + b"\n")


class Recorder:
    """Writes records into the ring.

    Parameters
    ----------
    wire
        Where the ring and the LDA are.
    fold
        Whether reads of the system's files are counted, a row for each folder and second.
    strict
        Whether a change waits until the LDA has kept its record.
    """

    def __init__(self, wire: Control, *, fold: bool, strict: bool) -> None:
        self._wire = wire
        self._fold = fold
        self._strict = strict
        self._rows: dict[bytes, RawRecord] = {}
        self._second = 0

    @property
    def pending(self) -> bool:
        """Whether there are rows that still count."""
        return bool(self._rows)

    def record(
        self,
        call: Call,
        operation: Operation,
        result: str,
        path: bytes,
        error: int = 0,
        *,
        path2: bytes | None = None,
        exact: bool = True,
    ) -> None:
        """Record an operation before its caller learns of it."""
        self._wire.wait_for_room()
        self._wire.ring.put(_raw(call, operation, result, path, error, path2, exact=exact))
        if self._strict and operation != "READ":
            self._wire.wait_until_kept()
        elif result == "DENIED":
            self._wire.tell(now=True)

    def read_of_system(self, call: Call, path: bytes) -> None:
        """Record a read of one of the system's files, counted if that is the rule."""
        if not self._fold:
            self.record(call, "READ", "ALLOWED", path, exact=False)
            return
        self.end_of_second()
        folder = b"/proc" if path.startswith(b"/proc/") else path.rpartition(b"/")[0] or b"/"
        row = self._rows.get(folder)
        if row is not None:
            self._rows[folder] = row._replace(times=row.times + 1)
            return
        if len(self._rows) == _MOST_FOLDS:
            self.flush()
        row = _raw(call, "READ", "ALLOWED", folder, 0, None, exact=False)
        self._rows[folder] = row._replace(folded=True)
        self._second = row.time // 1_000_000_000

    def end_of_second(self) -> None:
        """Write out the rows of a second that is over."""
        if self._rows and time.time_ns() // 1_000_000_000 != self._second:
            self.flush()

    def flush(self) -> None:
        """Write out all rows."""
        rows, self._rows = self._rows, {}
        for row in rows.values():
            self._wire.wait_for_room()
            self._wire.ring.put(row)


def _raw(
    call: Call,
    operation: Operation,
    result: str,
    path: bytes,
    error: int,
    path2: bytes | None,
    *,
    exact: bool,
) -> RawRecord:
    try:
        program = os.readlink(b"/proc/%d/exe" % call.tid)  # noqa: PTH115 - bytes
        group = int(status_field(call.tid, b"Tgid"))
    except (OSError, ValueError):
        program, group = b"?", call.tid
    return RawRecord(
        operation, result == "DENIED", exact, _sys.SYSCALLS.get(call.name, 0), time.time_ns(),
        group, call.tid, error, 1, program, path, path2, False,
    )  # fmt: skip
