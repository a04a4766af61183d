"""Typed, immutable results. Unknown fields are ignored and kept in ``raw``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from . import _html as html
from .errors import ServerError

LIVE_STATUSES = frozenset({"QUEUED", "RUNNING", "GATES"})
TERMINAL_STATUSES = frozenset({"SUCCESS", "FAILED"})


def parse_time(value: Any) -> datetime | None:
    """Return an RFC 3339 text as an aware `datetime`, None as None."""
    return None if value is None else datetime.fromisoformat(str(value))


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Base of all results.

    Attributes
    ----------
    raw : dict
        The server's JSON object, complete and unchanged.
    """

    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _client: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: Any, client: Any = None) -> Self:
        """Build the result from a decoded JSON object.

        Parameters
        ----------
        raw : dict
            The server's answer.
        client : Client or AsyncClient or None, default None
            The client that the result's own methods use.

        Returns
        -------
        Self
            The result; fields the class does not know stay in `raw` only.

        Raises
        ------
        ServerError
            If `raw` is not an object, lacks a required field or has one of the wrong form.
        """
        if not isinstance(raw, dict):
            raise ServerError(
                f"The server sent {type(raw).__name__} where a {cls.__name__} is due."
            )
        values: dict[str, Any] = {}
        for item in dataclasses.fields(cls):
            if item.name in ("raw", "_client") or raw.get(item.name) is None:
                continue
            parse = item.metadata.get("parse")
            try:
                values[item.name] = parse(raw[item.name]) if parse else raw[item.name]
            except (TypeError, ValueError, KeyError) as error:
                raise ServerError(
                    f"The server sent a {cls.__name__} whose field {item.name!r} is unreadable."
                ) from error
        try:
            return cls(raw=raw, _client=client, **values)
        except TypeError as error:
            raise ServerError(f"The server sent an incomplete {cls.__name__}: {error}.") from error

    def _repr_html_(self) -> str:
        """Show the fields as a small two-column table."""
        shown = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.repr and getattr(self, item.name) not in (None, (), {}, "")
        }
        return html.facts(html.words(type(self).__name__), shown)


@dataclass(frozen=True, kw_only=True)
class Me(Model):
    """The user that the server takes you for, and the server's version."""

    username: str
    name: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Gate(Model):
    """The evidence of one gate: what ran, at which commit, with what result.

    Attributes
    ----------
    duration_s : float
        Wall time in seconds.
    log_digest : str or None
        ``sha256:`` and the hexadecimal digest of the gate's whole output.
    """

    name: str
    commit: str = ""
    command: str = ""
    exit_code: int | None = None
    duration_s: float = 0.0
    log_digest: str | None = None
    log_artifact: str | None = None
    flaky: bool = False

    @property
    def passed(self) -> bool:
        """Whether the command ended with exit code 0."""
        return self.exit_code == 0


class Gates(tuple[Gate, ...]):
    """The gates of an attempt, shown as a table."""

    __slots__ = ()

    @classmethod
    def from_json(cls, raw: Any) -> Gates:
        """Build the gates from a JSON list, or from ``{"results": [...]}``."""
        rows = raw.get("results", []) if isinstance(raw, Mapping) else raw
        return cls(Gate.from_json(row) for row in rows)

    def _repr_html_(self) -> str:
        return html.gates(self)


@dataclass(frozen=True, kw_only=True)
class Event(Model):
    """One entry of an attempt's stream; `seq` counts from 1 without holes."""

    seq: int
    type: str
    payload: dict[str, Any] = field(default_factory=dict)
    timestamp: datetime | None = field(default=None, metadata={"parse": parse_time})

    @classmethod
    def from_json(cls, raw: Any, client: Any = None) -> Self:
        """Build the event without looking at the class: streams have a hundred thousand."""
        if cls is not Event or not isinstance(raw, dict):
            return super().from_json(raw, client)
        try:
            seq, kind, moment = raw["seq"], raw["type"], raw.get("timestamp")
            when = None if moment is None else datetime.fromisoformat(moment)
        except (KeyError, TypeError, ValueError):
            return super().from_json(raw, client)
        event = object.__new__(cls)
        # A frozen class sets its fields one slow call each; its instances are plain objects.
        event.__dict__.update(
            raw=raw, _client=client, seq=seq, type=kind,
            payload=raw.get("payload") or {}, timestamp=when,
        )  # fmt: skip
        return event

    @property
    def kind(self) -> str | None:
        """The payload's kind, such as ``"tool_call"``; None for STATUS events."""
        kind = self.payload.get("kind")
        return None if kind is None else str(kind)

    def _repr_html_(self) -> str:
        return html.events([self])


@dataclass(frozen=True, kw_only=True)
class BaseAttempt(Model):
    """The data of an attempt; `Attempt` and `AsyncAttempt` add the verbs."""

    id: str
    task: str | None = None
    task_title: str = ""
    project: str | None = None
    task_version: int = 0
    number: int = 0
    status: str = "QUEUED"
    branch_name: str = ""
    base_commit: str | None = None
    head_commit: str | None = None
    started_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    completed_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    exit_code: int | None = None
    failure: str | None = None
    failure_message: str | None = None
    agent: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    first_seq: int = 1
    last_seq: int = 0
    event_bytes: int = 0
    file_bytes: int = 0
    queue_place: int | None = None
    continues: str | None = None
    summary: str = ""
    diff_stats: dict[str, Any] = field(default_factory=dict)
    denied_count: int = 0
    gate_list: Gates = field(default_factory=Gates, repr=False)

    @classmethod
    def from_json(cls, raw: Any, client: Any = None) -> Self:
        """Build the attempt; the JSON's ``gates`` become `gate_list`."""
        attempt = super().from_json(raw, client)
        return dataclasses.replace(attempt, gate_list=Gates.from_json(raw.get("gates") or []))

    @property
    def is_live(self) -> bool:
        """Whether it is queued or at work."""
        return self.status in LIVE_STATUSES

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended for good; an attempt in REVIEW has not."""
        return self.status in TERMINAL_STATUSES

    def _repr_html_(self) -> str:
        return html.attempt(self)


@dataclass(frozen=True, kw_only=True)
class BaseTask(Model):
    """The data of a task; `Task` and `AsyncTask` add the verbs."""

    id: str
    title: str = ""
    project: str | None = None
    description: str = ""
    status: str = "TODO"
    priority: int = 0
    agent_role: str = ""
    dependencies: tuple[str, ...] = field(default=(), metadata={"parse": _strings})
    blocked_by: tuple[str, ...] = field(default=(), metadata={"parse": _strings})
    failed_dependencies: tuple[str, ...] = field(default=(), metadata={"parse": _strings})
    waiting_reason: str = ""
    queue_place: int | None = None
    assigned_agent_id: str | None = None
    auto_start: bool | None = None
    version: int = 0
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})

    def _repr_html_(self) -> str:
        return html.board([self.raw])


@dataclass(frozen=True, kw_only=True)
class BaseProject(Model):
    """The data of a project; `Project` and `AsyncProject` add the verbs."""

    id: str
    name: str = ""
    repo_path: str = ""
    default_branch: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    task_counts: dict[str, int] = field(default_factory=dict)
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})


@dataclass(frozen=True, kw_only=True)
class BaseDecomposition(Model):
    """The PM agent's plan for a prompt.

    Attributes
    ----------
    status : str
        ``PENDING``, ``READY`` (waits for approval), ``APPROVED`` or ``FAILED``.
    plan : dict
        ``{"summary", "tasks": [...]}`` once there is one, else empty.
    """

    id: str
    project: str | None = None
    user_prompt: str = ""
    pm_response: str = field(default="", repr=False)
    plan: dict[str, Any] = field(default_factory=dict)
    status: str = "PENDING"
    failure: str | None = None
    failure_message: str | None = None
    tasks_created: tuple[str, ...] = field(default=(), metadata={"parse": _strings})
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})

    def _repr_html_(self) -> str:
        return html.plan(self)


@dataclass(frozen=True, kw_only=True)
class Root(Model):
    """A folder that agents may write in."""

    id: str
    path: str
    canonical_path: str = ""
    is_enabled: bool = True
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})


@dataclass(frozen=True, kw_only=True)
class Agent(Model):
    """An agent profile: provider, model and instructions. It never holds a key."""

    id: str
    name: str = ""
    provider: str = ""
    model: str = ""
    system_prompt: str = field(default="", repr=False)
    role: str = ""
    base_url: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    is_replay: bool = False


@dataclass(frozen=True, kw_only=True)
class AuditEntry(Model):
    """One file operation of a run: what, where, ALLOWED or DENIED."""

    id: int | str | None = None
    run_id: str | None = None
    attempt: str | None = None
    seq: int = 0
    timestamp: datetime | None = field(default=None, metadata={"parse": parse_time})
    operation: str = ""
    result: str = ""
    path: str = ""
    source: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    hash: str = ""

    def _repr_html_(self) -> str:
        return html.audit([self])


@dataclass(frozen=True, kw_only=True)
class AuditSummary(Model):
    """Counts of audit entries by operation and result."""

    counts: tuple[dict[str, Any], ...] = field(default=(), metadata={"parse": tuple})

    def count(self, operation: str | None = None, result: str | None = None) -> int:
        """Return how many entries match.

        Parameters
        ----------
        operation : str or None, default None
            ``READ``, ``WRITE`` or ``DELETE``; None counts all.
        result : str or None, default None
            ``ALLOWED`` or ``DENIED``; None counts both.

        Returns
        -------
        int
            The number of entries.
        """
        return sum(
            int(row["count"])
            for row in self.counts
            if operation in (None, row["operation"]) and result in (None, row["result"])
        )

    def _repr_html_(self) -> str:
        return html.audit_summary(self)


def _roots(value: Any) -> tuple[Root, ...]:
    return tuple(Root.from_json(item) for item in value)


@dataclass(frozen=True, kw_only=True)
class Health(Model):
    """The server's own health; `services` is filled for a known user."""

    status: str = ""
    services: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Status(Model):
    """What the Local Desktop Agent can enforce here, and the granted roots."""

    lda: dict[str, Any] = field(default_factory=dict)
    roots: tuple[Root, ...] = field(default=(), metadata={"parse": _roots})

    def _repr_html_(self) -> str:
        return html.status(self.raw)
