"""The disk under the database is full in the middle of a run, which goes on when there is room."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.backend.backend_support import event as made_event
from tests.integration.stream.stream_reporting import (
    Reporter,
    database,
    new_attempt,
    services,
)
from tests.support.environment import wait_for
from tests.support.live import LiveStack, live_stack, rootbound

TOTAL = 6000
PAUSE_AT = 1000
PAD = "x" * 900


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 400 MiB for the state folder."""
    with tempfile.TemporaryDirectory(prefix="rb-disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a small file system")
        yield Path(folder)
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def stack(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveStack]:
    """A stack of which everything but the LDA's outbox lies on the small disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with live_stack(ROOTBOUND_MAX_PARALLEL="0") as running:
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield running


def _fill(ballast: Path) -> None:
    """Write until there is no room for another page."""
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 4096:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2


def _stored(stack: LiveStack, attempt_id: str) -> list[str]:
    with database(stack) as connection:
        rows = connection.execute(
            "SELECT payload->>'delta' FROM attempts_attemptevent "
            "WHERE attempt_id = %s AND payload ? 'delta' ORDER BY id",
            [attempt_id],
        ).fetchall()
    return [line for (line,) in rows]


@pytest.mark.timeout(240)
def test_a_full_disk_under_the_database_loses_nothing(stack: LiveStack, small_disk: Path) -> None:
    attempt_id = new_attempt(stack)
    with tempfile.TemporaryDirectory() as elsewhere:
        reporter = Reporter(stack, attempt_id, Path(elsewhere))

        def report(first: int, last: int) -> None:
            for number in range(first, last + 1):
                reporter.report(
                    made_event(number, kind="text", delta=f"line {number} " + "x" * 900)
                )
                reporter.record(number)

        report(1, PAUSE_AT)
        wait_for(lambda: reporter.outbox.depth() == 0, within_s=60, what="the first part")
        ballast = small_disk / "ballast"
        _fill(ballast)
        report(PAUSE_AT + 1, TOTAL)
        # 5 MB of rows do not fit into what is left of the log's files for long.
        with pytest.raises(psycopg.Error), database(stack) as connection:
            connection.execute("CREATE TABLE more AS SELECT generate_series(1, 1000000)")
        # The fault is as long as this: the database meets checkpoints and retries in it.
        full_until = time.monotonic() + 5
        while time.monotonic() < full_until:
            _fill(small_disk / "more")
            time.sleep(0.1)
        assert reporter.outbox.depth() > 0, "the disk was not full"
        ballast.unlink()
        (small_disk / "more").unlink()
        # Where the guard gave up for want of room, `up` is what a person says next.
        if any(one["state"] != "ready" for one in services(stack).values()):
            again = rootbound(stack.home, "up")
            assert again.returncode == 0, again.stderr
        wait_for(lambda: reporter.outbox.depth() == 0, within_s=90, what="the rest of the reports")
        reporter.close()
    lines = [line.removesuffix(f" {PAD}") for line in _stored(stack, attempt_id)]
    assert lines == [f"line {number}" for number in range(1, TOTAL + 1)]
    with database(stack) as connection:
        paths = connection.execute(
            "SELECT path FROM local_access_fsauditevent WHERE run_id = %s ORDER BY id",
            [attempt_id],
        ).fetchall()
    assert [path for (path,) in paths] == [f"/tree/{n}" for n in range(1, TOTAL + 1)]
    assert stack.attempt(attempt_id)["status"] == "RUNNING"
