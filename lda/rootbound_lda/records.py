"""What the LDA remembers of a run, and how a run fails."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from .config import write_atomic
from .wire import Failure, RunPayload

MAX_RESUMES: Final = 5
"""How often a run goes on after the LDA died under it."""

Stage = Literal["new", "install", "agent", "gates"]


class RunFailed(Exception):  # noqa: N818 - a run that fails is no error of the program
    """The run ends in FAILED.

    Attributes
    ----------
    failure
        Reason from the closed vocabulary.
    exit_code
        Of the gate that failed, if one did.
    """

    def __init__(self, failure: Failure, sentence: str, exit_code: int | None = None) -> None:
        super().__init__(sentence)
        self.failure: Failure = failure
        self.exit_code = exit_code


class RunRecord(msgspec.Struct):
    """What the LDA remembers of a run, in ``run.json``.

    Attributes
    ----------
    state
        ``RUNNING``, ``GATES``, ``REVIEW`` or ``FAILED``.
    stage
        How far a live run has come: what was begun last.
    rounds
        How often a failed gate went back to the agent.
    resumes
        How often the run went on after a restart.
    notes
        Messages of the user from before the agent's conversation began.
    merged
        Whether the attempt is in its base branch.
    user_id
        Whose run it is.
    ended_at
        When it ended, in seconds since the epoch; 0 while it is live.
    """

    attempt_id: str
    run_id: str
    lease_generation: int
    repo_path: str
    base_ref: str
    boot_id: str
    started_at: str
    title: str = ""
    task_id: str | None = None
    state: str = "RUNNING"
    failure: str | None = None
    base_branch: str | None = None
    base_commit: str | None = None
    head_commit: str | None = None
    discarded: bool = False
    stage: Stage = "new"
    rounds: int = 0
    resumes: int = 0
    notes: list[str] = []
    conflicts: list[str] = []
    merged: bool = False
    user_id: str = ""
    ended_at: float = 0.0

    @property
    def live(self) -> bool:
        """Whether the run goes on."""
        return self.state in ("RUNNING", "GATES")


def save_payload(folder: Path, payload: RunPayload) -> None:
    """Keep what a run was started with, so that it can go on after a restart."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(folder / "payload.json", msgspec.json.encode(payload))


def load_payload(folder: Path) -> RunPayload | None:
    """Return what a run was started with; ``None`` when it cannot be read any more."""
    try:
        return msgspec.json.decode((folder / "payload.json").read_bytes(), type=RunPayload)
    except (OSError, msgspec.MsgspecError):
        return None
