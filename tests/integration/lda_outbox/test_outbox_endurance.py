"""A long outage: what was reported meanwhile arrives whole, once and in order, in little memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from rootbound_lda.audit import encode_path
from tests.integration.lda.lda_support import Lda
from tests.integration.lda_outbox import outbox_feeder_process as feeder
from tests.support.environment import wait_for

ENTRIES = int(os.environ.get("ROOTBOUND_TEST_BACKLOG", "60000"))
EVENTS = ENTRIES // 20
FEEDER_GROWTH_KB = 150 * 1024
LDA_PEAK_KB = 300 * 1024


def _peak_kb(pid: int) -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


def _count(model: Any, **which: Any) -> int:
    return int(model.objects.filter(**which).count())


def test_a_backlog_arrives_after_a_long_outage(
    backend_process: Any, attempt: Any, token: str, lda_process: Lda
) -> None:
    from rootbound_backend.apps.attempts.models import AttemptEvent
    from rootbound_backend.apps.local_access.models import AuditWatermark, FsAuditEvent

    backend_process.kill()
    outbox = lda_process.home / "outbox/outbox.sqlite3"
    fed = subprocess.run(
        [sys.executable, feeder.__file__, str(outbox), backend_process.url, token,
         str(attempt.pk), str(ENTRIES), str(EVENTS)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert fed.returncode == 0, fed.stderr
    cost = json.loads(fed.stdout)
    assert cost["peak_kb"] - cost["before_kb"] < FEEDER_GROWTH_KB, cost
    lda_process.start()
    assert lda_process.process is not None
    log = lda_process.home / "lda.log"
    wait_for(lambda: "wait for the backend" in log.read_text(), what="a vain attempt to ship")
    backend_process.start()
    run = {"run_id": attempt.pk}
    wait_for(lambda: _count(FsAuditEvent, **run) >= ENTRIES // 10, within_s=120, what="a part")
    # Both are killed in the middle of it.
    first_peak = _peak_kb(lda_process.process.pid)
    lda_process.process.kill()
    lda_process.process.wait(timeout=20)
    backend_process.kill()
    backend_process.start()
    lda_process.start()
    wait_for(lambda: _count(FsAuditEvent, **run) >= ENTRIES, within_s=240, what="all entries")
    wait_for(
        lambda: _count(AttemptEvent, attempt_id=attempt.pk, type="LOG") >= EVENTS,
        within_s=240, what="all events",
    )  # fmt: skip
    peak = max(first_peak, _peak_kb(lda_process.process.pid))
    assert peak < LDA_PEAK_KB, f"{peak} kB"
    rows = FsAuditEvent.objects.filter(**run).order_by("seq").values_list("seq", "path", "hash")
    last = ""
    for number, (seq, path, digest) in enumerate(rows.iterator(chunk_size=5000), 1):
        assert (seq, path) == (number, encode_path(feeder.path_of(number))[0])
        last = digest
    assert number == ENTRIES
    assert AuditWatermark.objects.get(run_id=attempt.pk).last_hash == last
    events = AttemptEvent.objects.filter(attempt_id=attempt.pk, type="LOG").order_by("seq")
    texts = [payload["text"].split()[1] for payload in events.values_list("payload", flat=True)]
    assert texts == [str(number) for number in range(1, EVENTS + 1)]
    print(f"fed in {cost['seconds']:.1f} s, the LDA's peak was {peak // 1024} MB")
