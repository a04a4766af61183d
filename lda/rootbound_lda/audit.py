"""Audit records of file operations and the hash chain that makes a gap or an edit visible."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec

Operation = Literal["READ", "WRITE", "DELETE"]
Result = Literal["ALLOWED", "DENIED"]
Source = Literal["tool", "kernel", "provisioner"]

GENESIS_HASH = "0" * 64
"""The previous hash of the first entry of a run."""

MAX_PATH_CHARS = 1024
"""Longest path, in characters, that an entry keeps whole."""

_KEPT_CHARS = 900


class AuditUnavailable(Exception):  # noqa: N818 - the word of the interface
    """The sink cannot keep a record; the operation it describes must be refused."""


@dataclass(frozen=True)
class AuditRecord:
    """One file operation and its verdict, before it gets its place in the chain.

    Parameters
    ----------
    operation
        What was asked for.
    result
        Whether it was allowed.
    path
        Absolute path, already in the form of `encode_path`.
    source
        Who saw it: an agent's own file tool, the supervisor of an agent's command, or that of a
        Jupyter kernel (``provisioner``).
    detail
        Facts about the operation: `pid`, `program`, `syscall`, `path2`, `errno`, `exact`, `tool`.
    timestamp
        When it happened, aware, UTC; by default the moment the sink takes it.
    """

    operation: Operation
    result: Result
    path: str
    source: Source
    detail: Mapping[str, object] = field(default_factory=dict)
    timestamp: datetime | None = None


@dataclass(frozen=True)
class AuditRule:
    """How much of what commands do is recorded, and how exactly.

    Parameters
    ----------
    trace_reads
        Record reads at all; without it programs open files about as fast as outside.
    strict_reads
        Have the supervisor carry out reads of regular files and folders too, so that their
        records are exact instead of predicted.
    record_system_reads
        Record each read of the system's own files instead of one counted row a folder and second.
    strict_audit
        Make each change wait until the sink has kept its record, so that at most one change of a
        process tree can happen after the sink refuses.
    """

    trace_reads: bool = True
    strict_reads: bool = False
    record_system_reads: bool = False
    strict_audit: bool = False

    @classmethod
    def from_limits(cls, limits: Mapping[str, object]) -> AuditRule:
        """Take the fields that a payload's limits name; anything but `True` or `False` is unset."""
        return cls(
            **{
                name: value
                for name, value in limits.items()
                if name in cls.__dataclass_fields__ and isinstance(value, bool)
            }
        )


class AuditSink(Protocol):
    """Takes records from any thread and assigns their sequence number and hash."""

    def record(self, record: AuditRecord) -> None:
        """Keep one record durably.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept. The caller must then refuse the operation.
        """

    def settle(self) -> None:
        """Wait until every record so far would outlive this process.

        Raises
        ------
        AuditUnavailable
            If that cannot be had.
        """


def encode_path(raw: bytes) -> tuple[str, dict[str, object]]:
    r"""Turn the bytes of a path into the text an audit entry holds.

    Bytes that are not UTF-8, and NUL, become `\xNN`; a longer text than `MAX_PATH_CHARS` is cut
    and ends with the SHA-256 of all the bytes, so that equal paths stay equal.

    Returns
    -------
    tuple of str and dict
        The text, and what belongs in the record's `detail`: `path_length` (bytes) if it was cut.
    """
    text = raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    if len(text) <= MAX_PATH_CHARS:
        return text, {}
    digest = hashlib.sha256(raw).hexdigest()
    return f"{text[:_KEPT_CHARS]}…sha256:{digest}", {"path_length": len(raw)}


# NUL and lone surrogates: JSON can spell them, databases cannot store them; a hash over what is
# replaced later would not hold.
_SUSPECT = re.compile(rb"\\u(?:0000|d[89a-f])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_PLAIN = frozenset({str, int, bool, type(None)})
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
_encode_quickly = msgspec.json.Encoder(order="sorted").encode


def entry_hash(prev: str, entry: Mapping[str, object]) -> str:
    """Hash one entry together with its predecessor.

    Parameters
    ----------
    prev
        Hash of the entry before, or `GENESIS_HASH`.
    entry
        The entry; its own `hash`, if present, is left out.

    Returns
    -------
    str
        Lower-case hexadecimal SHA-256.
    """
    body = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(f"{prev}\n{_encode(body)}".encode()).hexdigest()


def rfc3339(moment: datetime) -> str:
    """Format an aware moment as RFC 3339 in UTC with microseconds and `Z`."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def make_entry(record: AuditRecord, *, seq: int, prev: str) -> dict[str, object]:
    """Build the entry (version 1) for a record at its place in the chain.

    Parameters
    ----------
    record
        What happened.
    seq
        Number of the entry within its run, from 1 without holes.
    prev
        Hash of the entry before, or `GENESIS_HASH`.
    """
    entry: dict[str, object] = storable(_unsealed(record, seq))
    entry["hash"] = entry_hash(prev, entry)
    return entry


def encode_entry(record: AuditRecord, *, seq: int, prev: str) -> tuple[bytes, str]:
    """Build an entry as `make_entry` does, as JSON in the bytes that were hashed.

    Returns
    -------
    tuple of bytes and str
        The entry, and its hash.
    """
    canonical = _canonical(_unsealed(record, seq), record.detail)
    digest = hashlib.sha256(prev.encode("ascii") + b"\n" + canonical).hexdigest()
    return b'%s,"hash":"%s"}' % (canonical[:-1], digest.encode("ascii")), digest


def _canonical(entry: Mapping[str, object], detail: Mapping[str, object]) -> bytes:
    try:
        text = _encode_quickly(entry)
    except UnicodeEncodeError:
        text = b"\\"
    # Only plain ASCII surely reads the same in both encoders.
    if b"\\" not in text and text.isascii() and all(type(one) in _PLAIN for one in detail.values()):
        return text
    text = _encode(entry).encode("ascii")
    return _encode(storable(entry)).encode("ascii") if _SUSPECT.search(text) else text


def storable(value: Any) -> Any:
    r"""Return a value of JSON with NUL and lone surrogates in its texts as `\x00` and `\udcNN`."""
    if isinstance(value, str):
        return _UNSTORABLE.sub(_escaped, value)
    if isinstance(value, Mapping):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _unsealed(record: AuditRecord, seq: int) -> dict[str, object]:
    return {
        "seq": seq,
        "timestamp": rfc3339(record.timestamp or datetime.now(UTC)),
        "operation": record.operation,
        "result": record.result,
        "path": record.path,
        "source": record.source,
        "detail": dict(record.detail),
    }


def verify_chain(
    entries: Iterable[Mapping[str, object]], *, prev: str = GENESIS_HASH, first_seq: int = 1
) -> int | None:
    """Check that entries are whole, in order and unchanged.

    Parameters
    ----------
    entries
        Entries in the order of their `seq`.
    prev
        Hash before the first of them.
    first_seq
        The `seq` expected first.

    Returns
    -------
    int or None
        The `seq` at which the chain breaks, or None if it holds.
    """
    for seq, entry in enumerate(entries, first_seq):
        if entry.get("seq") != seq or entry.get("hash") != entry_hash(prev, entry):
            return seq
        prev = str(entry["hash"])
    return None


class MemorySink:
    """A sink that keeps its chain in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[dict[str, object]] = []
        self._prev = GENESIS_HASH

    @property
    def entries(self) -> list[dict[str, object]]:
        """A copy of the entries so far."""
        with self._lock:
            return list(self._entries)

    def settle(self) -> None:
        """Do nothing: what is in memory is as lasting as this sink."""

    def record(self, record: AuditRecord) -> None:
        """Append one record to the chain."""
        with self._lock:
            entry = make_entry(record, seq=len(self._entries) + 1, prev=self._prev)
            self._prev = str(entry["hash"])
            self._entries.append(entry)
