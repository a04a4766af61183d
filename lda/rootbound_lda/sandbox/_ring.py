"""Records of a command on their way to the LDA: a ring in a file that both sides have mapped.

A record is in the file before the caller learns of the operation, so that it outlives the
supervisor and the LDA. The file starts with two 64-bit words, the number of bytes ever written and
the number ever taken; the records follow as in `_native/ring.c`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections import namedtuple
from collections.abc import Iterator
from contextlib import suppress

TYPE_CHECKING = False  # `typing` takes the warm process longer to load than all its own modules
if TYPE_CHECKING:
    from typing import Literal, NamedTuple

RING_BYTES = 1 << 20
"""Size of a ring; a command waits when so many bytes of records are not yet kept."""

PREFIX, SUFFIX = "records-", ".ring"
if TYPE_CHECKING:
    Operation = Literal["READ", "WRITE", "DELETE"]
else:
    Operation = str
OPERATIONS: tuple[Operation, ...] = ("READ", "WRITE", "DELETE")

_HEADER = 64
_RECORD = struct.Struct("=IBBHQIIiIHHHH")
_SKIP = struct.Struct("=IBBH")
_SKIPPED = 255
_DENIED, _EXACT, _HAS_PATH2 = 1, 2, 4
_LARGEST = 1 << 14
_LONGEST_PATH = 4400


if TYPE_CHECKING:

    class RawRecord(NamedTuple):
        """One record as it stands in the ring; `time` is in nanoseconds since 1970."""

        operation: Operation
        denied: bool
        exact: bool
        number: int
        time: int
        pid: int
        tid: int
        error: int
        times: int
        program: bytes
        path: bytes
        path2: bytes | None
        folded: bool

else:
    RawRecord = namedtuple(
        "RawRecord",
        "operation denied exact number time pid tid error times program path path2 folded",
    )


class Ring:
    """One end of a ring; one process writes and one reads.

    Parameters
    ----------
    fd
        The file; not needed after this.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, 0)
        self._words = memoryview(self._map)[:16].cast("Q")
        self._size = len(self._map) - _HEADER & ~7
        self._taken = self._words[1]

    # Native 64-bit words are read and written in one piece.

    @property
    def head(self) -> int:
        """Bytes ever written."""
        return self._words[0]

    @property
    def tail(self) -> int:
        """Bytes ever taken."""
        return self._words[1]

    @property
    def has_room(self) -> bool:
        """Whether the next call's records fit."""
        return self._size - (self.head - self.tail) > 16 * _LARGEST

    def put(self, record: RawRecord) -> None:
        """Write a record; the caller has seen that there is room."""
        path, path2 = record.path[:_LONGEST_PATH], (record.path2 or b"")[:_LONGEST_PATH]
        program = record.program[:4096]
        length = _RECORD.size + len(program) + len(path) + len(path2) + 7 & ~7
        head = self.head
        place = head % self._size
        if self._size - place < length:
            rest = self._size - place
            _SKIP.pack_into(self._map, _HEADER + place, rest, _SKIPPED, 0, 0)
            head += rest
            place = 0
        flags = (
            _DENIED * record.denied
            | _EXACT * record.exact
            | _HAS_PATH2 * (record.path2 is not None)
        )
        start = _HEADER + place
        _RECORD.pack_into(
            self._map, start, length, OPERATIONS.index(record.operation), flags, record.number,
            record.time, record.pid, record.tid, record.error, record.times, len(program),
            len(path), len(path2), record.folded,
        )  # fmt: skip
        start += _RECORD.size
        self._map[start : start + len(program) + len(path) + len(path2)] = program + path + path2
        self._words[0] = head + length

    def take(self) -> Iterator[RawRecord]:
        """Yield what has been written; each counts as taken when the next is asked for.

        Its room is given back by `release`.

        Raises
        ------
        ValueError
            If the ring holds no proper record there.
        """
        self._taken = tail = self.tail
        while tail < self.head:
            place = tail % self._size
            start = _HEADER + place
            length, kind = _SKIP.unpack_from(self._map, start)[:2]
            if length < 8 or length % 8 or place + length > self._size:
                raise ValueError("the ring of records is damaged")
            if kind != _SKIPPED:
                yield self._record(start, length)
            tail += length
            self._taken = tail

    def release(self) -> None:
        """Forget what was taken: it is kept elsewhere by now."""
        self._words[1] = self._taken

    def _record(self, start: int, length: int) -> RawRecord:
        _, kind, flags, number, time, pid, tid, error, count, program, path, path2, folded = (
            _RECORD.unpack_from(self._map, start)
        )
        if kind >= len(OPERATIONS) or _RECORD.size + program + path + path2 > length:
            raise ValueError("the ring of records is damaged")
        start += _RECORD.size
        text = self._map[start : start + program + path + path2]
        return RawRecord(
            OPERATIONS[kind], bool(flags & _DENIED), bool(flags & _EXACT), number, time, pid, tid,
            error, count, text[:program], text[program : program + path],
            text[program + path :] if flags & _HAS_PATH2 else None, bool(folded),
        )  # fmt: skip

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._map.close()


def create(folder: str) -> tuple[str, int]:
    """Make an empty ring of its own in a folder; returns its path and locked descriptor.

    Raises
    ------
    OSError
        If there is no space for it.
    """
    path = os.path.join(folder, f"{PREFIX}{os.urandom(8).hex()}{SUFFIX}")  # noqa: PTH118 - bare
    # Under its name it would look abandoned until it is locked.
    unlocked = f"{path}.new"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(unlocked, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Space that is missing must be missed here, not by a fault while a command runs.
        os.posix_fallocate(fd, 0, RING_BYTES)
        os.rename(unlocked, path)  # noqa: PTH104 - bare
    except BaseException:
        os.close(fd)
        os.unlink(unlocked)  # noqa: PTH108 - bare
        raise
    return path, fd


def abandoned(folder: str) -> Iterator[tuple[str, int]]:
    """Yield path and descriptor of each ring in a folder that nobody uses any more."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names alone
    except FileNotFoundError:
        return
    for name in names:
        if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
            continue
        path = os.path.join(folder, name)  # noqa: PTH118 - bare
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                with suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield path, fd
            finally:
                os.close(fd)
