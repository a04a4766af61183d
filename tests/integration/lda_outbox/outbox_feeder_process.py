"""Fills an outbox as fast as it takes reports, and says what that cost in time and memory."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from rootbound_lda.audit import AuditRecord, encode_path
from rootbound_lda.outbox import Outbox, Owner
from rootbound_lda.reports import Reporter, RunAudit
from rootbound_lda.wire import Output

ODD = (
    b"/tree/not \xff\xfe utf-8", b"/tree/two\nlines\r\n", b"/tree/a\x00nul",
    b"/tree/" + b"x" * 5000, b"/tree/" + b"\xff\x00" * 700, "/tree/Grün 🌱".encode(),
    b"/tree/\\udcff \\x00",
)  # fmt: skip
ODD_EVERY = 500


def path_of(number: int) -> bytes:
    """Return the path of an entry: an odd one now and then."""
    turn, rest = divmod(number, ODD_EVERY)
    return b"/tree/folder/file-%d.py" % number if rest else ODD[turn % len(ODD)]


def feed(path: Path, url: str, token: str, attempt: str, entries: int, events: int) -> None:
    box = Outbox(path)
    box.open_owner(Owner(attempt, "attempt", 1, url, token, live=False)).result(20)
    reporter, audit = Reporter(box, attempt), RunAudit(box, attempt, attempt)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    every = entries // events if events else entries + 1
    for number in range(1, entries + 1):
        text, detail = encode_path(path_of(number))
        facts = {"pid": number, "program": "/usr/bin/python\udcff", "exact": True, **detail}
        audit.record(AuditRecord("WRITE", "ALLOWED", text, "kernel", facts))
        if number % every == 0 and number // every <= events:
            reporter(Output("command:1", "stdout", f"line {number // every} " + "o" * 200))
    box.call(lambda _: None).result(60)
    took = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": took, "before_kb": before, "peak_kb": peak}))
    box.close()


if __name__ == "__main__":
    feed(Path(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5]), int(sys.argv[6]))
