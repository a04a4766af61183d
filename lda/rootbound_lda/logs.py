"""The log of a command on the disk: all of its output, or both ends of it when that is too much."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import IO, Final

__all__ = ["KeptLog"]

_CHUNK: Final = 1 << 20


class KeptLog:
    """Writes the output of one command to a file of bounded size.

    Beyond the bound the middle is left out: the beginning says what was run, the end how it went.
    Memory does not grow with the output; its end waits in an unnamed file beside the log.

    Parameters
    ----------
    path
        The file.
    limit
        Bytes of output that are kept, half of its beginning and half of its end.

    Attributes
    ----------
    size
        Bytes of output so far.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.size = 0
        self._half = limit // 2
        self._head = path.open("wb")
        self._ring: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._fault: OSError | None = None

    @property
    def left_out(self) -> int:
        """How many bytes of the output the file does not have."""
        return max(0, self.size - 2 * self._half)

    def write(self, data: bytes) -> None:
        """Take a piece of output; what the disk does not take is told by `close`."""
        position, self.size = self.size, self.size + len(data)
        self._hash.update(data)
        if self._fault is not None:
            return
        room = max(0, self._half - position)
        try:
            self._head.write(data[:room])
            if len(data) > room:
                self._keep_end(data[room:], max(0, position - self._half))
        except OSError as error:
            self._fault = error

    def _keep_end(self, data: bytes, position: int) -> None:
        """Write into the ring that holds the end, into which ``position`` bytes have gone."""
        if self._ring is None:
            self._ring = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - kept open
        skipped = max(0, len(data) - self._half)
        data, position = data[skipped:], position + skipped
        start = position % self._half
        room = self._half - start
        self._ring.seek(start)
        self._ring.write(data[:room])
        if len(data) > room:
            self._ring.seek(0)
            self._ring.write(data[room:])

    def close(self) -> str:
        """Finish the file, which takes a moment when it is long.

        Returns
        -------
        str
            Hexadecimal SHA-256 of the file: that of the whole output, unless something of it was
            left out.

        Raises
        ------
        OSError
            When the disk did not take all of it.
        """
        with self._head as head:
            if self._ring is not None:
                with self._ring as ring:
                    if self._fault is None:
                        self._append_end(head, ring)
        if self._fault is not None:
            raise self._fault
        return self._file_digest() if self.left_out else self._hash.hexdigest()

    def _append_end(self, head: IO[bytes], ring: IO[bytes]) -> None:
        start = 0
        if self.left_out:
            whole = f"SHA-256 of the whole output: {self._hash.hexdigest()}"
            head.write(f"\n[{self.left_out} bytes left out here; {whole}]\n".encode())
            start = (self.size - self._half) % self._half
        ring.seek(start)
        while piece := ring.read(_CHUNK):
            head.write(piece)
        ring.seek(0)
        while start > 0 and (piece := ring.read(min(_CHUNK, start))):
            head.write(piece)
            start -= len(piece)

    def _file_digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
