"""kill -9 in the middle of reporting: what was kept arrives once and in order, in the backend."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rootbound_lda.audit import verify_chain
from tests.integration.lda_outbox import outbox_writer_process

COUNT = 10_000
KILLS = 6


class Writer:
    """One life of the reporting process."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, outbox_writer_process.__file__, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.kept = (0, 0)

    def lines(self) -> Iterator[str]:
        """Yield what it is doing, and remember how much it promised."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith("\n"):
                return  # killed in the middle of the word: nothing was promised
            word, events, entries = line.split()
            if word == "kept":
                self.kept = int(events), int(entries)
            yield line

    def kill(self) -> None:
        self.process.kill()
        for _ in self.lines():
            continue  # what it said before it died counts
        self.process.wait(timeout=20)


def _stored(attempt: Any) -> tuple[list[str], list[dict[str, Any]]]:
    from rootbound_backend.apps.attempts.models import AttemptEvent
    from rootbound_backend.apps.local_access.models import FsAuditEvent

    events = AttemptEvent.objects.filter(attempt_id=attempt.pk, type="LOG").order_by("seq")
    texts = [payload["text"] for payload in events.values_list("payload", flat=True)]
    rows = FsAuditEvent.objects.filter(run_id=attempt.pk).order_by("seq").values()
    return texts, list(rows)


def test_killed_at_random_moments(
    seed: int, backend_up: Any, attempt: Any, token: str, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    arguments = (tmp_path / "outbox.sqlite3", backend_up.url, token, attempt.pk, COUNT)
    promised = (0, 0)
    for _ in range(KILLS):
        writer = Writer(*arguments)
        left = chance.randrange(1, 2 * COUNT // outbox_writer_process.SYNC_EVERY // KILLS)
        for line in writer.lines():
            if line.startswith("found"):
                found = tuple(map(int, line.split()[1:]))
                assert found >= promised, f"seed {seed}: {promised} was kept, {found} was found"
            left -= line.startswith("kept")
            if not left:
                threading.Event().wait(chance.random() * 0.05)  # at any moment of what follows
                break
        writer.kill()
        promised = max(promised, writer.kept)
    last = Writer(*arguments)
    for _ in last.lines():
        continue
    assert last.process.wait(timeout=120) == 0, last.process.stderr.read() + backend_up.log()
    texts, rows = _stored(attempt)
    assert texts == [f"line {number}" for number in range(1, COUNT + 1)], f"seed {seed}"
    assert [row["path"] for row in rows] == [f"/tree/{number}" for number in range(1, COUNT + 1)]
    attempt.refresh_from_db()
    assert (attempt.status, attempt.failure) == ("FAILED", "AGENT_BLOCKED")
    assert verify_chain(list(_entries(rows))) is None


def _entries(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        entry = {key: row[key] for key in ("seq", "operation", "result", "path", "source", "detail",
                                           "hash")}  # fmt: skip
        yield {**entry, "timestamp": row["timestamp"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
