"""The hash chain of a run, recomputed from what is stored."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

__all__ = ["GENESIS", "UNSTORABLE_KEY", "Link", "keep_unstorable"]

GENESIS = "0" * 64
"""What the first entry of a run follows."""

UNSTORABLE_KEY = "unstorable"
"""Member of a stored ``detail`` that holds the reported path and detail as escaped JSON."""

# NUL and surrogates, which JSON can spell and PostgreSQL cannot store.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Link:
    """What one stored entry contributes to its run's chain."""

    id: int
    run_id: uuid.UUID
    seq: int
    timestamp: datetime
    operation: str
    result: str
    path: str
    source: str
    detail: dict[str, Any]
    hash: str

    def follows(self, before: str) -> bool:
        """Return whether this entry is unchanged and comes right after the hash `before`."""
        return any(digest == self.hash for digest in self._hashes(before))

    def hash_after(self, before: str) -> str:
        """Return the hash that this entry would have right after the hash `before`."""
        return next(self._hashes(before), GENESIS)

    def _hashes(self, before: str) -> Iterator[str]:
        path, detail = self._reported()
        if path is None:
            return
        facts = {
            "seq": self.seq,
            "operation": self.operation,
            "result": self.result,
            "path": path,
            "source": self.source,
            "detail": detail,
        }
        # The first spelling is the LDA's; the others are what the wire format allows as well.
        for text in _spellings(self.timestamp):
            yield _digest(before, {**facts, "timestamp": text})

    def at(self, seq: int) -> Link:
        """Return the same entry in another place."""
        return replace(self, seq=seq)

    def changed_from(self, before: str) -> str | None:
        """Name the field, of those with few values, that was changed, and what it was.

        Returns
        -------
        str or None
            Such as ``result, from DENIED to ALLOWED``; None when another field was changed.
        """
        for name, values in _CLOSED.items():
            now = getattr(self, name)
            for was in values:
                other: dict[str, Any] = {name: was}
                if was != now and replace(self, **other).follows(before):
                    return f"{name}, from {was} to {now}"
        return None

    def same_operation(self, other: Link) -> bool:
        """Return whether two entries say the same, but for number, time and hash."""
        names = ("operation", "result", "path", "source", "detail")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def _reported(self) -> tuple[str | None, Any]:
        kept = self.detail.get(UNSTORABLE_KEY)
        if not isinstance(kept, str):
            return self.path, self.detail
        try:
            reported = json.loads(kept)
            path, detail = reported["path"], reported["detail"]
        except (ValueError, TypeError, KeyError):
            return None, None
        rest = {name: value for name, value in self.detail.items() if name != UNSTORABLE_KEY}
        if clean(path) != self.path or clean(detail) != rest:
            return None, None
        return path, detail


_CLOSED = {
    "result": ("ALLOWED", "DENIED"),
    "operation": ("READ", "WRITE", "DELETE"),
    "source": ("tool", "kernel", "provisioner"),
}


def _digest(before: str, entry: dict[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def _spellings(moment: datetime) -> list[str]:
    utc = moment.astimezone(UTC)
    bare = utc.strftime("%Y-%m-%dT%H:%M:%S")
    micro = f"{utc.microsecond:06d}"
    texts = [f"{bare}.{micro}Z"]
    texts += [f"{bare}.{micro[:digits]}Z" for digits in range(5, 0, -1) if not int(micro[digits:])]
    return texts if utc.microsecond else [*texts, f"{bare}Z"]


def clean(value: Any) -> Any:
    """Return JSON with the characters replaced that PostgreSQL cannot store."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(name): clean(item) for name, item in value.items()}
    return value


def keep_unstorable(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a reported entry in a form that can be stored and from which its hash follows.

    Parameters
    ----------
    entry
        As decoded from JSON.
    """
    storable = clean(entry)
    if storable == entry or not isinstance(storable.get("detail", {}), dict):
        return dict(storable)
    reported = {"path": entry.get("path"), "detail": entry.get("detail", {})}
    detail = {**storable.get("detail", {}), UNSTORABLE_KEY: json.dumps(reported)}
    return {**storable, "detail": detail}
