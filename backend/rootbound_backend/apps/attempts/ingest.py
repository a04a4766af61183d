"""Ingestion of an attempt's events: validated whole, stored once, in order, without holes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from django.db import transaction
from django.utils import timezone

from rootbound_backend import metrics
from rootbound_backend.announce import announce_attempt, attempt_group, is_heard
from rootbound_backend.apps.attempts.event_reports import (
    CommitReport,
    DiffReport,
    GateReport,
    Kind,
    StatusReport,
    UsageReport,
    summary_of,
)
from rootbound_backend.apps.attempts.event_rows import (
    EventColumns,
    copy_events,
    copy_events_after,
)
from rootbound_backend.apps.attempts.events import page_of
from rootbound_backend.apps.attempts.failures import Failure
from rootbound_backend.apps.attempts.models import (
    LIVE_STATUSES,
    Attempt,
    AttemptStatus,
    EventType,
    Gate,
)
from rootbound_backend.apps.attempts.selectors import gates_of_attempt
from rootbound_backend.apps.attempts.transitions import (
    ATTEMPT_TRANSITIONS,
    LEASE_S,
    append_event,
    lock_attempt,
    move_locked_attempt,
    status_payload,
    touch_task_of,
)
from rootbound_backend.bodies import RowDecoders
from rootbound_backend.problems import Problem
from rootbound_backend.statements import fetch, update_row
from rootbound_backend.wire import decode_part, refusing_unstorable

__all__ = [
    "MAX_BATCH",
    "MAX_PAYLOAD_BYTES",
    "EventBatch",
    "check_fence",
    "decode_events",
    "ingest_events",
    "review_obstacle",
    "sequence_gap",
]

MAX_BATCH = 5000
MAX_PAYLOAD_BYTES = 256 * 1024

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
Seq = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class EventIn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One event as the LDA reports it."""

    seq: Seq
    timestamp: Timestamp
    type: Literal["LOG", "ERROR", "ARTIFACT", "STATUS"]
    payload: msgspec.Raw


class _BatchIn(msgspec.Struct, forbid_unknown_fields=True):
    lease_generation: Annotated[int, msgspec.Meta(ge=0)]
    events: Annotated[list[EventIn], msgspec.Meta(max_length=MAX_BATCH)]


@dataclass(frozen=True, slots=True)
class EventBatch:
    """A validated batch of events; an empty one is a heartbeat.

    Attributes
    ----------
    lease_generation
        Of the hand-over that the sender belongs to.
    events
        In the order of the batch.
    payloads
        Of `events`, encoded: each look at a raw member copies it, so it is done once.
    """

    lease_generation: int
    events: list[EventIn]
    payloads: list[bytes]


_DECODERS: RowDecoders[_BatchIn, EventIn] = RowDecoders(
    batch=msgspec.json.Decoder(_BatchIn),
    rows=msgspec.json.Decoder(list[EventIn]),
    row=msgspec.json.Decoder(EventIn),
    name="events",
    max_rows=MAX_BATCH,
)
_STATUS = msgspec.json.Decoder(StatusReport)
_GATE = msgspec.json.Decoder(GateReport)
_COMMIT = msgspec.json.Decoder(CommitReport)
_DIFF = msgspec.json.Decoder(DiffReport)
_USAGE = msgspec.json.Decoder(UsageReport)
_KIND = msgspec.json.Decoder(Kind)

_PLAIN_TYPES = frozenset({"LOG", "ERROR"})
_OPENING_BRACE = ord("{")

FEW = 10
"""Up to so many events are stored by one statement; from there on COPY is quicker."""

# Takes the row's lock, checks fence and watermark, and moves it, in one statement.
_TAKE = """
UPDATE attempts_attempt SET
    last_source_seq = %(last)s, last_seq = last_seq + %(count)s,
    event_bytes = event_bytes + %(bytes)s, lease_expires_at = %(lease)s
WHERE id = %(id)s AND lease_generation = %(generation)s AND last_source_seq = %(first)s::bigint - 1
    AND status IN ('RUNNING', 'GATES') AND handed_over_at IS NOT NULL
RETURNING last_seq - %(count)s AS base, created_at, status, last_seq, first_seq
"""

# The same with the events themselves: one round trip, and a transaction by itself. It answers with
# what a reader of the stream would find.
_TAKE_FEW = (
    "WITH taken AS ("
    + _TAKE
    + """), stored AS (
INSERT INTO attempts_attemptevent
    (attempt_id, seq, "timestamp", type, payload, attempt_created_at)
SELECT %(id)s, taken.base + event.place, event.moment, event.type, event.payload::jsonb,
    taken.created_at
FROM taken, unnest(%(moments)s::timestamptz[], %(types)s::text[], %(payloads)s::text[])
    WITH ORDINALITY AS event (moment, type, payload, place)
RETURNING seq, "timestamp", type, CASE WHEN %(heard)s THEN payload::text END AS body)
SELECT taken.status, taken.last_seq, taken.first_seq, taken.created_at, stored.*
FROM taken, stored ORDER BY stored.seq
"""
)


def decode_events(
    body: bytes, content_type: str = "", *, lease_generation: int | None = None
) -> EventBatch:
    """Decode and validate a batch.

    Parameters
    ----------
    body
        An object with ``lease_generation`` and ``events``, a JSON array of events, or NDJSON.
    content_type
        Of the request.
    lease_generation
        What the sender's token says; stands for the missing one of bare rows.

    Raises
    ------
    Problem
        400 that names index and field.
    """
    decoded = _DECODERS.decode(body, content_type)
    if isinstance(decoded, _BatchIn):
        generation, events = decoded.lease_generation, decoded.events
    else:
        generation, events = lease_generation or 0, decoded
    payloads = [bytes(event.payload) for event in events]
    _check_payloads(payloads)
    return EventBatch(generation, events, payloads)


def _check_payloads(payloads: Sequence[bytes]) -> None:
    # All at once, and one by one only to name the culprit: there are thousands in a batch.
    if {payload[0] for payload in payloads} - {_OPENING_BRACE}:
        index = next(i for i, payload in enumerate(payloads) if payload[0] != _OPENING_BRACE)
        raise _bad(f"events[{index}].payload", "must be an object")
    if max(map(len, payloads), default=0) > MAX_PAYLOAD_BYTES:
        index = next(i for i, payload in enumerate(payloads) if len(payload) > MAX_PAYLOAD_BYTES)
        what = f"is larger than {MAX_PAYLOAD_BYTES} bytes; use an artifact file"
        raise _bad(f"events[{index}].payload", what)


def _bad(where: str, what: str) -> Problem:
    return Problem(
        status=400,
        code="invalid",
        title="Invalid input",
        detail=f"{where}: {what}.",
        extras={"errors": {where: [what]}},
    )


def check_fence(*, reported: int, current: int) -> None:
    """Refuse reports of another hand-over than the current one.

    Raises
    ------
    Problem
        409 with code ``fenced``.
    """
    if reported != current:
        raise Problem(
            status=409,
            code="fenced",
            detail=(
                f"These reports belong to hand-over {reported}, but {current} is in force; "
                "stop this run."
            ),
            extras={"lease_generation": current},
        )


def sequence_gap(expected: int) -> Problem:
    """Return the refusal of a batch that leaves a hole."""
    return Problem(
        status=409,
        code="sequence-gap",
        detail=f"Numbers are missing before this batch; send again from {expected}.",
        extras={"expected_seq": expected},
    )


def ingest_events(*, attempt_id: uuid.UUID, batch: EventBatch) -> int:
    """Store what is new of a batch and apply what it reports, in one transaction.

    Parameters
    ----------
    attempt_id
        The attempt, which the caller has authorised.
    batch
        A validated batch.

    Returns
    -------
    int
        The highest contiguous number of the LDA that is stored.

    Raises
    ------
    Problem
        404 when the attempt is gone; 409 ``fenced`` or ``sequence-gap``; 400 for a value that
        cannot be stored.
    """
    plain = _plain_bytes(batch)
    if plain is not None and _take_plain(attempt_id, batch, plain):
        stored, contiguous = len(batch.events), batch.events[-1].seq
    else:
        stored, contiguous = _take_reports(attempt_id, batch)
    metrics.note_ingested("event", stored, batch.events[0].timestamp if stored else None)
    return contiguous


def _take_reports(attempt_id: uuid.UUID, batch: EventBatch) -> tuple[int, int]:
    """Store what is new and apply it; return how many are new, and the watermark."""
    with transaction.atomic():
        attempt = lock_attempt(attempt_id)
        check_fence(reported=batch.lease_generation, current=attempt.lease_generation)
        last = attempt.last_source_seq
        new = [(index, event) for index, event in enumerate(batch.events) if event.seq > last]
        for offset, (_, event) in enumerate(new, start=1):
            if event.seq != last + offset:
                raise sequence_gap(last + offset)
        _Application(attempt).run(new)
    return len(new), batch.events[-1].seq if new else last


def _take_plain(attempt_id: uuid.UUID, batch: EventBatch, size: int) -> bool:
    """Store a batch that only has text to tell, without loading the attempt.

    Most batches are such: no transition, no evidence, nothing seen before. Returns False, having
    done nothing, for any other.
    """
    events = batch.events
    facts: dict[str, Any] = {
        "id": attempt_id, "generation": batch.lease_generation, "first": events[0].seq,
        "last": events[-1].seq, "count": len(events), "bytes": size,
        "lease": timezone.now() + timedelta(seconds=LEASE_S),
    }  # fmt: skip
    if len(events) <= FEW:
        return _store_few(attempt_id, batch, facts)
    if not _store_many(attempt_id, batch, facts):
        return False
    announce_attempt(attempt_id)
    return True


def _store_few(attempt_id: uuid.UUID, batch: EventBatch, facts: dict[str, Any]) -> bool:
    heard = is_heard(attempt_group(attempt_id))
    facts |= {
        "heard": heard,
        "moments": [event.timestamp for event in batch.events],
        "types": [event.type for event in batch.events],
        "payloads": [payload.decode() for payload in batch.payloads],
    }
    with refusing_unstorable():
        rows = fetch(_TAKE_FEW, facts)
    if not rows:
        return False
    # Readers of this process are handed what they would have to read.
    announce_attempt(attempt_id, page_of(rows) if heard else None)
    return True


def _store_many(attempt_id: uuid.UUID, batch: EventBatch, facts: dict[str, Any]) -> bool:
    columns = EventColumns(
        [event.timestamp for event in batch.events],
        [event.type for event in batch.events],
        batch.payloads,
    )
    return copy_events_after(_TAKE, facts, attempt_id, columns)


def _plain_bytes(batch: EventBatch) -> int | None:
    """Return the payloads' bytes if the events are consecutive and change nothing but the stream.

    Whole lists at a time, because it is run for each of tens of thousands of events a second.
    """
    events = batch.events
    if not events:
        return None
    first = events[0].seq
    if [event.seq for event in events] != list(range(first, first + len(events))):
        return None
    if not {event.type for event in events} <= _PLAIN_TYPES:
        return None
    joined = b"".join(batch.payloads)
    return None if b'"usage"' in joined else len(joined)


class _Application:
    """Applies the new events of one batch to a locked attempt."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.rows: list[tuple[datetime, str, bytes]] = []
        self.board_changed = False

    def run(self, new: list[tuple[int, EventIn]]) -> None:
        attempt = self.attempt
        now = timezone.now()
        if attempt.handed_over_at is None:
            # It reports, so the LDA has it, even if the answer to the hand-over got lost.
            attempt.handed_over_at = now
        if attempt.status == AttemptStatus.QUEUED:
            move_locked_attempt(attempt, to=AttemptStatus.RUNNING)
            append_event(attempt, EventType.STATUS, status_payload(attempt))
        for index, event in new:
            handler = self._handlers.get(event.type)
            payload = handler(self, index, event) if handler else None
            self._store(event, payload)
        if new:
            first = attempt.last_seq + 1 - len(self.rows)
            columns = EventColumns(*zip(*self.rows, strict=True))
            copy_events(attempt.pk, attempt.created_at, first, columns)
            attempt.last_source_seq = new[-1][1].seq
            announce_attempt(attempt.pk)
        if attempt.status in LIVE_STATUSES:
            attempt.lease_expires_at = now + timedelta(seconds=LEASE_S)
        update_row(attempt)
        if self.board_changed:
            touch_task_of(attempt)

    def _store(
        self, event: EventIn, payload: dict[str, Any] | None, type_: str | None = None
    ) -> None:
        self.attempt.last_seq += 1
        raw = bytes(event.payload) if payload is None else msgspec.json.encode(payload)
        kind = type_ or event.type
        if payload is not None and payload.get("kind") == "notice":
            kind = EventType.LOG.value
        self.attempt.event_bytes += len(raw)
        self.rows.append((event.timestamp, kind, raw))

    def _log(self, index: int, event: EventIn) -> None:
        raw = bytes(event.payload)
        # Most log lines are text; only usage is looked at.
        if b'"usage"' not in raw:
            return
        where = f"events[{index}].payload"
        if decode_part(raw, _KIND, where).kind == "usage":
            usage = decode_part(raw, _USAGE, where)
            self.attempt.usage = msgspec.to_builtins(usage)
            self.board_changed = True

    def _artifact(self, index: int, event: EventIn) -> None:
        where = f"events[{index}].payload"
        kind = decode_part(event.payload, _KIND, where).kind
        if kind == "gate":
            self._gate(decode_part(event.payload, _GATE, where))
        elif kind == "commit":
            report = decode_part(event.payload, _COMMIT, where)
            if not self.attempt.is_terminal:
                self.attempt.head_commit = report.commit
                self.attempt.base_commit = report.base
                self.attempt.summary = summary_of(report.message)
        elif kind == "diff":
            self.attempt.diff_stats = msgspec.to_builtins(decode_part(event.payload, _DIFF, where))
            self.board_changed = True

    def _gate(self, report: GateReport) -> None:
        names = ("command", "exit_code", "duration_s", "log_digest", "log_artifact", "flaky")
        facts = {name: getattr(report, name) for name in names}
        Gate.objects.bulk_create(
            [Gate(attempt=self.attempt, name=report.name, commit=report.commit, **facts)],
            update_conflicts=True,
            unique_fields=["attempt", "name", "commit"],
            update_fields=list(facts),
        )
        self.attempt.exit_code = report.exit_code
        self.board_changed = True

    def _status(self, index: int, event: EventIn) -> dict[str, Any] | None:
        report = decode_part(event.payload, _STATUS, f"events[{index}].payload")
        attempt = self.attempt
        if report.status == attempt.status:
            return None
        if report.status not in ATTEMPT_TRANSITIONS[attempt.status]:
            return {
                "kind": "notice",
                "text": (
                    f"The run reported {report.status}, but the attempt is {attempt.status}; "
                    "the report changes nothing."
                ),
            }
        obstacle = None
        if report.status == AttemptStatus.REVIEW:
            obstacle = review_obstacle(attempt, report.head_commit)
        if obstacle is not None:
            move_locked_attempt(
                attempt, to=AttemptStatus.FAILED, failure=Failure.INTERNAL, message=obstacle
            )
            return status_payload(attempt)
        failed = report.status == AttemptStatus.FAILED
        move_locked_attempt(
            attempt,
            to=report.status,
            failure=(report.failure or Failure.INTERNAL) if failed else None,
            message=report.message,
            head_commit=report.head_commit,
            exit_code=report.exit_code,
        )
        return status_payload(attempt) if failed else None

    _handlers: dict[str, Callable[[_Application, int, EventIn], dict[str, Any] | None]] = {
        "LOG": _log,
        "ARTIFACT": _artifact,
        "STATUS": _status,
    }


def review_obstacle(attempt: Attempt, head_commit: str | None) -> str | None:
    """Return why an attempt may not be reviewed, or None when its evidence is complete.

    Parameters
    ----------
    attempt
        The attempt with its snapshot of the project's commands.
    head_commit
        The commit that is to be reviewed.
    """
    if head_commit is None:
        return "The run reported REVIEW without a commit; nothing can be reviewed."
    if head_commit == attempt.base_commit:
        return "The run reported REVIEW without any change; nothing can be reviewed."
    gates = gates_of_attempt(attempt.pk)
    at_head = {gate.name: gate for gate in gates if gate.commit == head_commit}
    if not at_head:
        return f"No gate ran at {head_commit[:12]}; without evidence there is no review."
    red = next((gate for gate in at_head.values() if gate.exit_code != 0), None)
    if red is not None:
        return f"The {red.name} gate is not green at {head_commit[:12]}; there is no review."
    required = [name for name in ("lint", "test") if attempt.commands.get(f"{name}_cmd")]
    missing = next((name for name in required if name not in at_head), None)
    if missing is not None:
        return f"The {missing} gate did not run at {head_commit[:12]}; there is no review."
    if attempt.commands.get("install_cmd"):
        installs = [gate for gate in gates if gate.name == "install"]
        if not installs or installs[-1].exit_code != 0:
            return "The install gate is not green; there is no review."
    return None
