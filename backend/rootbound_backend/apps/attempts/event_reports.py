"""What an attempt's events report, as the LDA sends it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from rootbound_backend.apps.attempts.failures import Failure

__all__ = [
    "Commit",
    "CommitReport",
    "DiffReport",
    "GateReport",
    "Kind",
    "StatusReport",
    "UsageReport",
    "summary_of",
]

Commit = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}([0-9a-f]{24})?$")]


class StatusReport(msgspec.Struct):
    """Payload of a STATUS event."""

    status: Literal["RUNNING", "GATES", "REVIEW", "FAILED"]
    failure: Failure | None = None
    message: str | None = None
    head_commit: Commit | None = None
    exit_code: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None


class GateReport(msgspec.Struct):
    """Payload of an ARTIFACT event of kind ``gate``."""

    name: Literal["install", "lint", "test"]
    commit: Commit
    command: str
    duration_s: Annotated[float, msgspec.Meta(ge=0)]
    log_digest: Annotated[str, msgspec.Meta(max_length=80)]
    exit_code: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    log_artifact: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    flaky: bool = False


class DiffReport(msgspec.Struct):
    """Payload of an ARTIFACT event of kind ``diff``."""

    files: int
    additions: int
    deletions: int
    tests: list[str] = []


class CommitReport(msgspec.Struct):
    """Payload of an ARTIFACT event of kind ``commit``."""

    commit: Commit
    base: Commit
    message: str = ""


class UsageReport(msgspec.Struct):
    """Payload of a LOG event of kind ``usage``."""

    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class Kind(msgspec.Struct):
    """The part of a payload that says what it is."""

    kind: str = ""


def summary_of(message: str) -> str:
    """Return what the agent said in a commit message: without its title and its trailers."""
    parts = [part for part in message.split("\n\n")[1:] if "Rootbound-Attempt: " not in part]
    return "\n\n".join(parts).strip()[:10_000]
