"""Audit records of file operations and the hash chain that makes a gap or an edit visible."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

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
        Who saw it: an agent's own file tool, the supervisor of a child process, or the
        provisioner of worktrees.
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


class AuditSink(Protocol):
    """Takes records from any thread and assigns their sequence number and hash."""

    def record(self, record: AuditRecord) -> None:
        """Keep one record durably.

        Raises
        ------
        AuditUnavailable
            If it cannot be kept. The caller must then refuse the operation.
        """


def encode_path(raw: bytes) -> tuple[str, dict[str, object]]:
    r"""Turn the bytes of a path into the text an audit entry holds.

    Bytes that are not UTF-8 become `\xNN`; a longer text than `MAX_PATH_CHARS` is cut and ends
    with the SHA-256 of all the bytes, so that equal paths stay equal.

    Returns
    -------
    tuple of str and dict
        The text, and what belongs in the record's `detail`: `path_length` (bytes) if it was cut.
    """
    text = raw.decode("utf-8", "backslashreplace")
    if len(text) <= MAX_PATH_CHARS:
        return text, {}
    digest = hashlib.sha256(raw).hexdigest()
    return f"{text[:_KEPT_CHARS]}…sha256:{digest}", {"path_length": len(raw)}


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
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{prev}\n{canonical}".encode()).hexdigest()


def rfc3339(moment: datetime) -> str:
    """Format an aware moment as RFC 3339 in UTC with microseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


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
    entry: dict[str, object] = {
        "seq": seq,
        "timestamp": rfc3339(record.timestamp or datetime.now(UTC)),
        "operation": record.operation,
        "result": record.result,
        "path": record.path,
        "source": record.source,
        "detail": dict(record.detail),
    }
    entry["hash"] = entry_hash(prev, entry)
    return entry


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

    def record(self, record: AuditRecord) -> None:
        """Append one record to the chain."""
        with self._lock:
            entry = make_entry(record, seq=len(self._entries) + 1, prev=self._prev)
            self._prev = str(entry["hash"])
            self._entries.append(entry)
