"""The LDA's end of a ring: takes a command's records out and has the sink keep them."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

from rootbound_lda.audit import AuditRecord, AuditSink, AuditUnavailable, Result, encode_path
from rootbound_lda.sandbox import _ring, _sys

log = logging.getLogger(__name__)


class Keeper:
    """A ring of its own for one command.

    Parameters
    ----------
    folder
        Where its file is made; it stays there until all of it has been kept.
    audit
        Takes the records.

    Raises
    ------
    OSError
        If there is no space for it.
    """

    def __init__(self, folder: str, audit: AuditSink) -> None:
        self._path, self.fd = _ring.create(folder)
        self._ring = _ring.Ring(self.fd)
        self._audit = audit

    def keep(self) -> None:
        """Have everything kept that was recorded so far.

        Raises
        ------
        AuditUnavailable
            If the sink refuses; what it refused stays in the ring.
        ValueError
            If the ring is damaged.
        """
        _keep(self._ring, self._audit)

    def close(self) -> None:
        """Let go of the ring; its file is removed only if all of it was kept."""
        done = self._ring.tail == self._ring.head
        self._ring.close()
        os.close(self.fd)
        if done:
            with suppress(FileNotFoundError):
                os.unlink(self._path)  # noqa: PTH108 - bare


def recover(folder: str, audit: AuditSink) -> int:
    """Have the records kept that were left in a folder by commands of the past.

    Parameters
    ----------
    folder
        The run's private folder.
    audit
        The run's sink.

    Returns
    -------
    int
        How many rings are done with; one that the sink refuses, or that is damaged, stays.
    """
    done = 0
    for path, fd in _ring.abandoned(folder):
        try:
            ring = _ring.Ring(fd)
        except (OSError, ValueError):
            # Made, but not yet given its length: nothing was recorded in it.
            os.unlink(path)  # noqa: PTH108 - bare
            continue
        try:
            _keep(ring, audit)
        except (AuditUnavailable, ValueError) as error:
            log.error("The records in %s are not in the audit yet: %s", path, error)
            continue
        finally:
            ring.close()
        os.unlink(path)  # noqa: PTH108 - bare
        done += 1
    return done


def _keep(ring: _ring.Ring, audit: AuditSink) -> None:
    try:
        for raw in ring.take():
            audit.record(_record(raw))
    finally:
        # Not before: what only the LDA's memory holds would be missing if the LDA were killed.
        audit.settle()
        ring.release()


@lru_cache(maxsize=256)
def _program(raw: bytes) -> str:
    return encode_path(raw)[0]


def _record(raw: _ring.RawRecord) -> AuditRecord:
    path, detail = encode_path(raw.path)
    detail["pid"] = raw.pid
    detail["program"] = _program(raw.program)
    detail["syscall"] = _sys.NAMES.get(raw.number, str(raw.number))
    detail["exact"] = raw.exact
    if raw.error:
        detail["errno"] = raw.error
    if raw.folded:
        detail["count"] = raw.times
    if raw.path2 is not None:
        detail["path2"] = encode_path(raw.path2)[0]
    result: Result = "DENIED" if raw.denied else "ALLOWED"
    moment = datetime.fromtimestamp(raw.time / 1e9, UTC)
    return AuditRecord(raw.operation, result, path, "kernel", detail, moment)
