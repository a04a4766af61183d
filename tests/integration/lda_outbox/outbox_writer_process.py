"""A process that reports a run as the LDA does, made to be killed at any moment.

Every number up to the last is reported once as an event and once as an audit entry. After each
``sync`` it says on its output how far it is; what it said so may never be lost.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from rootbound_lda.audit import AuditRecord
from rootbound_lda.outbox import Outbox, Owner
from rootbound_lda.reports import Reporter, RunAudit
from rootbound_lda.shipper import Shipper
from rootbound_lda.wire import Notice, Status

SYNC_EVERY = 100


async def report(path: Path, url: str, token: str, attempt: str, count: int) -> None:
    box = Outbox(path)
    await asyncio.wrap_future(box.open_owner(Owner(attempt, "attempt", 1, url, token, live=True)))
    reporter, audit = Reporter(box, attempt), RunAudit(box, attempt, attempt)
    events = box.stream("event", attempt, attempt)
    entries = box.stream("audit", attempt, attempt)
    shipper = Shipper(box, lambda owner: sys.exit(f"{owner} was fenced"))
    await shipper.start()
    print("found", events.last_seq, entries.last_seq, flush=True)
    while events.last_seq < count or entries.last_seq < count:
        for _ in range(SYNC_EVERY):
            if events.last_seq < count:
                reporter(Notice(f"line {events.last_seq + 1}"))
            if entries.last_seq < count:
                number = entries.last_seq + 1
                detail = {"pid": number, "exact": True}
                audit.record(AuditRecord("WRITE", "ALLOWED", f"/tree/{number}", "kernel", detail))
        await reporter.sync()
        print("kept", events.last_seq, entries.last_seq, flush=True)
    reporter.end(Status("FAILED", "AGENT_BLOCKED", "It ends here."))
    await reporter.sync()
    await asyncio.wrap_future(box.set_live(attempt, live=False))
    shipper.wake(attempt)
    if not await shipper.drain(attempt, 60):
        sys.exit("the backend did not take everything")
    await shipper.stop()
    box.close()
    print("done", events.acked_seq, entries.acked_seq, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(report(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])))
