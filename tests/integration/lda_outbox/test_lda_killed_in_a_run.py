"""The LDA's process is killed while a run writes: the backend's record of the run has no hole."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from rootbound.testing.script import Steps, ToolCall, Turn
from rootbound_lda.audit import verify_chain
from tests.integration.lda.lda_support import Lda, Receiver, run_payload
from tests.integration.lda_outbox.test_outbox_faults import _entries
from tests.support.environment import wait_for

FILES = 1200
TURNS = (
    Turn(calls=(ToolCall("write_file", {
        "path": "calc.py", "content": "def add(a, b):\n    return a + b\n"}),)),
    Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Done."}),)),
)  # fmt: skip
INSTALL = f"mkdir -p made && for i in $(seq {FILES}); do echo line $i; echo x > made/$i; done"


def test_every_change_before_the_kill_is_on_record(
    seed: int, backend_up: Any, attempt: Any, token: str, lda_process: Lda, repo: Path, stub: Any
) -> None:
    from rootbound_backend.apps.attempts.models import AttemptEvent
    from rootbound_backend.apps.local_access.models import FsAuditEvent

    (repo / ".gitignore").write_text("made/\n")
    payload = run_payload(
        repo, Receiver(url=backend_up.url), stub(Steps(TURNS * 4)), attempt_id=str(attempt.pk),
        commands={"install_cmd": INSTALL, "lint_cmd": "", "test_cmd": "python3 check.py"},
    )  # fmt: skip
    payload["ingest"]["token"] = token
    lda_process.start()
    assert lda_process.process is not None
    assert lda_process.call("POST", "/run", payload).status_code == 202
    made = lda_process.home / f"worktrees/{attempt.pk}/made"
    enough = random.Random(seed).randrange(50, FILES - 200)

    def written() -> int:
        return len(list(made.iterdir())) if made.is_dir() else 0

    wait_for(lambda: written() >= enough, within_s=120, what=f"{enough} files")
    lda_process.process.kill()
    lda_process.process.wait(timeout=20)
    before = written()
    lda_process.start()

    def ended() -> bool:
        attempt.refresh_from_db()
        return attempt.status not in ("QUEUED", "RUNNING", "GATES")

    wait_for(ended, within_s=150, what=f"the end of the run (seed {seed})")
    entries = _entries(attempt)
    assert verify_chain(entries) is None, f"seed {seed}"
    # What was committed in the very moment of the kill may be there twice, as the same record.
    once = {(e["path"], e["timestamp"]): Path(e["path"]) for e in entries if _is_write(e)}
    written_paths = list(once.values())
    first, *later = _lives([int(p.name) for p in written_paths if p.parent == made])
    assert first == list(range(1, len(first) + 1)), f"seed {seed}: {before} files, {first}"
    # All but the one whose maker was killed before it could say so.
    assert len(first) >= before - 1, f"seed {seed}: {before} files, {len(first)} on record"
    for life in later:
        assert life == list(range(1, FILES + 1)), f"seed {seed}: {before} files, {life}"
    print(f"{before} files at the kill, {len(first)} on record")
    assert FsAuditEvent.objects.filter(run_id=attempt.pk).count() == len(entries)
    seqs = AttemptEvent.objects.filter(attempt_id=attempt.pk).order_by("seq")
    assert [event.seq for event in seqs] == list(range(1, attempt.last_seq + 1))


def _is_write(entry: dict[str, Any]) -> bool:
    return bool(entry["operation"] == "WRITE")


def _lives(numbers: list[int]) -> list[list[int]]:
    """Split the numbers of the files where the script began anew."""
    lives: list[list[int]] = [[]]
    for number in numbers:
        if lives[-1] and number <= lives[-1][-1]:
            lives.append([])
        lives[-1].append(number)
    return lives
