"""What an exception that ended a run means: a typed reason and one sentence."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from .audit import AuditUnavailable
from .git import GitError
from .keys import KeyMissing
from .outbox import OutboxUnavailable
from .policy import PolicyError
from .records import RunFailed, RunRecord
from .sandbox import SandboxUnavailable
from .wire import Failure, Status
from .worktrees import RepoRefused

__all__ = ["status_of"]

log = logging.getLogger(__name__)


def status_of(error: BaseException, record: RunRecord, home: Path) -> Status:
    """Return the end of a run that an exception brought about.

    Parameters
    ----------
    error
        What was raised.
    record
        The run.
    home
        The state folder.
    """
    exit_code = error.exit_code if isinstance(error, RunFailed) else None
    failure, sentence = _meaning(error, record, home)
    return Status("FAILED", failure, sentence, record.head_commit, exit_code)


def _meaning(error: BaseException, record: RunRecord, home: Path) -> tuple[Failure, str]:
    # The agent's own end has its reason with it, and comes from a module that is imported late.
    failure: Failure | None = getattr(error, "failure", None)
    if failure is not None:
        return failure, str(error)
    if isinstance(error, RepoRefused | PolicyError):
        return "REPO_INVALID", str(error)
    if isinstance(error, KeyMissing):
        return "PROVIDER_AUTH", str(error)
    outside = isinstance(error, GitError | SandboxUnavailable)
    if outside and not Path(record.repo_path).is_dir():
        return "REPO_INVALID", (
            f"There is no folder {record.repo_path} any more: it was moved or deleted during the "
            "run. Put it back, or correct the project's path, and retry the task."
        )
    if outside and record.base_commit and not (home / "worktrees" / record.attempt_id).is_dir():
        return "LDA_LOST", (
            "The attempt's worktree was removed during the run; what was committed is on its "
            "branch. Retry the task."
        )
    if isinstance(error, SandboxUnavailable):
        return "POLICY_UNENFORCEABLE", str(error)
    if isinstance(error, AuditUnavailable | OutboxUnavailable | GitError):
        return "INTERNAL", str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "INTERNAL", (f"There is no disk space left; free some under {home} and start again.")
    log.error("Run %s failed", record.attempt_id, exc_info=error)
    return "INTERNAL", (
        f"The LDA met an error of its own ({type(error).__name__}: {error}); see its log."
    )
