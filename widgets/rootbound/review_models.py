"""What reviews and housekeeping answer, for both clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import models

__all__ = [
    "AgentTest",
    "Comment",
    "Comparison",
    "Key",
    "MergePreview",
    "Removed",
    "Worktree",
]


@dataclass(frozen=True, kw_only=True)
class Comment(models.Model):
    """What a reviewer says about a line, a file (no line) or the attempt (no path)."""

    id: str
    attempt: str = ""
    author: str = ""
    path: str = ""
    side: str = "new"
    line: int | None = None
    commit: str | None = None
    text: str = ""
    created_at: datetime | None = field(default=None, metadata={"parse": models.parse_time})


@dataclass(frozen=True, kw_only=True)
class MergePreview(models.Model):
    """What merging would do now; `files` are in conflict, `behind` counts missing commits."""

    base_branch: str = ""
    base: str = ""
    head: str = ""
    behind: int = 0
    clean: bool = False
    merged: bool = False
    files: tuple[str, ...] = field(default=(), metadata={"parse": tuple})
    checkout: str | None = None
    checkout_dirty: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison(models.Model):
    """One attempt beside the others of its task."""

    id: str
    number: int = 0
    status: str = ""
    failure: str | None = None
    agent: str = ""
    model: str = ""
    continues: str | None = None
    diff_stats: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)
    cost_usd: float | None = None
    steps: int = 0
    tokens: int = 0
    seconds: float | None = None
    denied_count: int = 0
    comments: int = 0
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Worktree(models.Model):
    """The worktree of an attempt; `reason` says why it may go, "" when it has to stay."""

    attempt_id: str
    path: str = ""
    repo_path: str = ""
    title: str = ""
    state: str = ""
    live: bool = False
    bytes: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Removed(models.Model):
    """Attempts whose worktree was removed."""

    removed: tuple[str, ...] = field(default=(), metadata={"parse": tuple})


@dataclass(frozen=True, kw_only=True)
class AgentTest(models.Model):
    """What came of trying an agent profile."""

    ok: bool = False
    failure: str | None = None
    message: str = ""
    seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    price_known: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Key(models.Model):
    """A key's name and where it comes from: ``environment``, ``keyring`` or ``none``."""

    name: str
    source: str = "none"
