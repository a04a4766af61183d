"""Where an attempt's work is done."""

from __future__ import annotations

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.lda_client import LdaPlace

__all__ = ["place_of"]


def place_of(attempt: Attempt) -> LdaPlace:
    """Return whose LDA has an attempt's run, and the repository that says which one it is."""
    project = attempt.task.project
    return {"user_id": project.owner_id, "path": project.repo_path}
