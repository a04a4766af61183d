"""What is kept of a gate's output, however much it prints: both ends, with a digest that fits."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rootbound_lda import gates
from rootbound_lda.agent import tools
from rootbound_lda.audit import MemorySink
from rootbound_lda.gates import GateKeeper
from rootbound_lda.logs import KeptLog
from rootbound_lda.policy import Policy
from rootbound_lda.reports import MAX_SOURCE_OUTPUT, Reporter
from rootbound_lda.sandbox import Sandbox
from rootbound_lda.wire import GateEvidence, Limits, Notice

COMMIT = "c" * 40
LINES, LINE = 150_000, "%06d this is what a gate prints, line after line after line\n"
LOUD = (
    "import sys\n"
    f"for n in range({LINES}): sys.stdout.write({LINE!r} % n)\n"
    "sys.stdout.buffer.write(b'\\xff\\xfe broken\\n')\n"
    "sys.exit(3)\n"
)


class Spoken(Reporter):
    """Keeps what a gate reports, in the place of the outbox."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.streamed = 0

    def __call__(self, payload: Any) -> None:
        self.said.append(payload)

    def output(self, source: str, stream: str, text: str) -> None:
        assert (source, stream) == ("gate:lint", "stdout")
        self.streamed += len(text)


@pytest.mark.asyncio
async def test_a_loud_gate_keeps_both_ends_and_its_evidence_fits_the_log(
    sandbox: Sandbox, policy: Policy, sink: MemorySink, tmp_path: Path
) -> None:
    cap = 1 << 20
    assert Limits().max_output_bytes == 16 * cap, "docs/configuration.md says so"
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (policy.worktree / "loud.py").write_text(LOUD)
    spoken, runner = Spoken(), sandbox.runner(policy, sink)
    keeper = GateKeeper(policy, runner, spoken, artifacts, Limits(max_output_bytes=cap))
    await keeper.run("lint", "true", COMMIT)  # what is imported once does not count
    tracemalloc.start()
    outcome = await keeper.run("lint", "python3 loud.py", COMMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    evidence = next(one for one in reversed(spoken.said) if isinstance(one, GateEvidence))
    assert (evidence.exit_code, evidence.commit, evidence.command) == (
        3, COMMIT, "python3 loud.py",
    )  # fmt: skip
    whole = "".join(LINE % n for n in range(LINES)).encode() + b"\xff\xfe broken\n"
    assert len(whole) > 8 * cap
    assert peak < len(whole) // 2, f"{peak} bytes: it grows with what is printed"

    assert evidence.log_artifact is not None
    kept = (artifacts / evidence.log_artifact).read_bytes()
    assert evidence.log_digest == f"sha256:{hashlib.sha256(kept).hexdigest()}"
    head, middle, tail = kept[: cap // 2], kept[cap // 2 : -cap // 2], kept[-cap // 2 :]
    assert (head, tail) == (whole[: cap // 2], whole[-cap // 2 :])
    assert middle.decode() == (
        f"\n[{len(whole) - cap} bytes left out here; SHA-256 of the whole output: "
        f"{hashlib.sha256(whole).hexdigest()}]\n"
    )
    assert sorted(path.name for path in artifacts.iterdir() if "lint" not in path.name) == []

    # The stream has its beginning and says where the rest is; the agent gets its end.
    assert spoken.streamed == MAX_SOURCE_OUTPUT
    notices = [one.text for one in spoken.said if isinstance(one, Notice)]
    assert notices == ["The output of gate:lint is long; the rest is only in its log."]
    assert outcome.report.endswith("\ufffd\ufffd broken\n")
    assert len(outcome.report) <= 2 * gates.REPORT_EDGE
    assert "149999 this is what" in outcome.report
    msgspec.json.encode(evidence)
    await runner.close()


@pytest.mark.parametrize("size", [0, 9, 10, 11, 19, 20, 21, 29, 30, 31, 47, 100])
def test_pieces_of_any_size_make_the_same_log(tmp_path: Path, size: int) -> None:
    chance = random.Random(size)
    whole = bytes(33 + n % 90 for n in range(size))
    log, rest = KeptLog(tmp_path / "log", 20), whole
    while rest:
        length = chance.randint(1, 35)
        log.write(rest[:length])
        rest = rest[length:]
    digest, kept = log.close(), (tmp_path / "log").read_bytes()
    assert (digest, log.size) == (hashlib.sha256(kept).hexdigest(), size)
    if size <= 20:
        assert (kept, log.left_out) == (whole, 0)
    else:
        assert kept.startswith(whole[:10] + b"\n[%d bytes left out here;" % (size - 20))
        assert kept.endswith(b"]\n" + whole[-10:])
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_disk_that_takes_no_more_is_told_at_the_end(tmp_path: Path) -> None:
    log = KeptLog(Path("/dev/full"), 1 << 20)
    for _ in range(3):
        log.write(b"x" * (1 << 18))
    with pytest.raises(OSError, match="No space left"):
        log.close()


def test_a_long_output_of_a_command_keeps_both_ends_too(tmp_path: Path) -> None:
    log = tools._CommandLog(tmp_path, "call/1", 20_000)
    log.write(b"begin" + b"." * 50_000 + b"end")
    name = log.close()
    assert name is not None
    kept = (tmp_path / name).read_bytes()
    assert kept.startswith(b"begin")
    assert kept.endswith(b"end")
    assert len(kept) < 20_200
    short = tools._CommandLog(tmp_path, "call 2", 20_000)
    short.write(b"short")
    assert short.close() is None
    assert [path.name for path in tmp_path.iterdir()] == [name]
