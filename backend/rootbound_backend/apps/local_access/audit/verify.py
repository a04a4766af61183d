"""Verification of the audit log: every chain is recomputed, and what is wrong is named."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from django.core import signing
from django.db import connection, transaction

from rootbound_backend.apps.local_access.audit.chain import GENESIS, Link
from rootbound_backend.apps.local_access.audit.forensics import Forensics
from rootbound_backend.apps.local_access.audit.partitions import TABLE
from rootbound_backend.apps.local_access.audit.seals import is_sealed
from rootbound_backend.apps.local_access.models import (
    AuditRetentionAnchor,
    AuditWatermark,
    FsAuditEvent,
)
from rootbound_backend.problems import InvalidInput

__all__ = ["MAX_FINDINGS", "Finding", "Report", "RunVerifier", "verify_runs"]

_CURSOR = "rootbound.audit.verify"
_FETCH = 2_000
MAX_FINDINGS = 200
"""In one report; a report that has as many goes on with `next`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    kind
        ``changed``, ``missing``, ``truncated`` (missing at the end), ``doubled``, ``reordered``,
        ``inserted``, ``moved`` (from another run), ``watermark`` or ``retention``.
    seq
        The number it concerns.
    id
        The row, None for a missing one.
    detail
        One sentence.
    """

    run_id: uuid.UUID
    seq: int
    id: int | None
    kind: str
    detail: str


@dataclass(slots=True)
class Report:
    """What was found so far; `next` goes on where it stopped."""

    runs: int = 0
    entries: int = 0
    retained_away: int = 0
    findings: list[Finding] = field(default_factory=list)
    next: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(slots=True)
class _State:
    """Where one run's verification stands between two rows."""

    before: str | None = GENESIS
    """Hash of the last genuine entry; None when it cannot be known."""
    expected: int = 1
    last_hash: str = GENESIS
    """As stored in the last entry, for the comparison with the watermark."""


class RunVerifier:
    """Walks through one run's entries and compares them with chain, watermark and retention.

    Parameters
    ----------
    run_id
        The run.
    report
        Where findings go.
    state
        Where an earlier report stopped; default the run's beginning.
    """

    def __init__(self, run_id: uuid.UUID, report: Report, state: _State | None = None) -> None:
        self.run_id = run_id
        self.report = report
        self.mark = AuditWatermark.objects.filter(pk=run_id).first()
        self.state = state or _State()
        self.forensics = Forensics(run_id)
        self._anchors = self._sealed_anchors()

    def _sealed_anchors(self) -> dict[int, AuditRetentionAnchor]:
        anchors = {}
        for anchor in AuditRetentionAnchor.objects.filter(run_id=self.run_id):
            facts = (self.run_id, anchor.last_seq, anchor.last_hash)
            if is_sealed(anchor.seal, *facts, first=anchor.first_seq):
                anchors[anchor.first_seq] = anchor
            elif self.state.expected == 1:
                self._find(
                    anchor.first_seq, None, "retention",
                    f"The record that entries {anchor.first_seq} to {anchor.last_seq} were removed "
                    "by retention is not sealed by this installation.",
                )  # fmt: skip
        return anchors

    def _find(self, seq: int, row: int | None, kind: str, detail: str) -> None:
        self.report.findings.append(Finding(self.run_id, seq, row, kind, detail))

    def walk(self, limit: int) -> bool:
        """Check up to about `limit` entries; returns whether the run's end was reached."""
        checked = 0
        for seq, group in groupby(self._links(), key=lambda link: link.seq):
            rows = list(group)
            self._up_to(seq)
            self._at(seq, rows)
            checked += len(rows)
            self.report.entries += len(rows)
            if checked >= limit or len(self.report.findings) >= MAX_FINDINGS:
                return False
        self._end()
        return True

    def _links(self) -> Iterator[Link]:
        fields = ("id", "run_id", "seq", "timestamp", "operation", "result", "path", "source",
                  "detail", "hash")  # fmt: skip
        rows = FsAuditEvent.objects.filter(run_id=self.run_id, seq__gte=self.state.expected)
        if self.mark is not None:
            # What is behind the watermark is looked at in the end.
            rows = rows.filter(seq__lte=self.mark.last_seq)
        rows = rows.order_by("seq", "timestamp", "id")
        # A cursor of the server: memory does not grow with the run.
        for row in rows.values_list(*fields).iterator(chunk_size=_FETCH):
            yield Link(*row)

    def _up_to(self, seq: int) -> None:
        """Deal with the numbers between the last entry and the next one."""
        state = self.state
        while state.expected < seq and self._skip_retained():
            pass
        if state.expected >= seq:
            return
        first, last = state.expected, seq - 1
        for number, detail in self.forensics.missing(first, last):
            self._find(number, None, "missing", detail)
        state.expected, state.before = seq, None

    def _skip_retained(self) -> bool:
        state = self.state
        anchor = self._anchors.get(state.expected)
        if anchor is None:
            return False
        self.report.retained_away += anchor.last_seq - anchor.first_seq + 1
        state.before = state.last_hash = anchor.last_hash
        state.expected = anchor.last_seq + 1
        return True

    def _at(self, seq: int, rows: list[Link]) -> None:
        """Check all rows that claim one number."""
        state = self.state
        if seq < state.expected:
            for row in rows:
                self._find(seq, row.id, "inserted", "Retention had removed this entry.")
            return
        genuine = rows[0]
        if state.before is not None:
            following = [row for row in rows if row.follows(state.before)]
            if not following:
                state.before = self._broken(seq, rows, state.before)
                state.expected, state.last_hash = seq + 1, rows[0].hash
                return
            genuine = self.forensics.continued(following)
        for row in rows:
            if row is not genuine:
                self._find(seq, row.id, *self.forensics.second(row, genuine))
        self.forensics.accept(genuine)
        state.before = state.last_hash = genuine.hash
        state.expected = seq + 1

    def _broken(self, seq: int, rows: list[Link], before: str) -> str | None:
        """Name what is wrong with rows of which none follows; returns the hash to go on with."""
        verdict = self.forensics.judge(rows[0], before)
        self._find(seq, rows[0].id, verdict.kind, verdict.detail)
        for row in rows[1:]:
            self._find(seq, row.id, *self.forensics.second(row, rows[0]))
        return verdict.go_on_with

    def _end(self) -> None:
        """Compare the end of the chain with the watermark."""
        state, mark = self.state, self.mark
        if mark is None:
            if state.expected > 1:
                self._find(
                    state.expected - 1, None, "inserted",
                    "Nobody reported this run's entries: it has no watermark.",
                )  # fmt: skip
            return
        while state.expected <= mark.last_seq and self._skip_retained():
            pass
        last = state.expected - 1
        if not is_sealed(mark.seal, self.run_id, mark.last_seq, mark.last_hash):
            self._find(
                mark.last_seq, None, "watermark",
                "The run's watermark was changed: it is not sealed by this installation.",
            )  # fmt: skip
        if last < mark.last_seq:
            for number, detail in self.forensics.missing(last + 1, mark.last_seq):
                self._find(number, None, "truncated", detail)
        elif state.last_hash != mark.last_hash and not self._known(last):
            self._find(
                last, None, "changed",
                "The hash of the last entry is not the one that was reported.",
            )  # fmt: skip
        self._behind(mark.last_seq)

    def _behind(self, last: int) -> None:
        """Look at what is behind the watermark."""
        rows = self.forensics.beyond(last)
        if not rows:
            return
        # Entries may have come in since: with them the watermark has moved.
        mark = AuditWatermark.objects.get(pk=self.run_id)
        for row in rows:
            if row.seq > mark.last_seq:
                self._find(row.seq, row.id, *self.forensics.past_the_end(row, mark.last_seq))

    def _known(self, seq: int) -> bool:
        return any(
            found.run_id == self.run_id and found.seq == seq for found in self.report.findings
        )


def verify_runs(
    runs: list[uuid.UUID] | None,
    *,
    limit: int = 100_000,
    cursor: str | None = None,
    user_id: uuid.UUID | None = None,
) -> Report:
    """Verify runs one after the other, as far as `limit` entries go.

    Parameters
    ----------
    runs
        Which; None for all runs of `user_id`, or of everybody.
    limit
        Entries to check before answering.
    cursor
        The `next` of the report before.
    user_id
        Whose runs, when `runs` is None.

    Raises
    ------
    InvalidInput
        For a cursor that is not of a report.
    """
    report = Report()
    place = _place(cursor)
    first = place[0] if place else uuid.UUID(int=0)
    with transaction.atomic():
        for run_id in _runs_from(runs, first, user_id):
            state = place[1] if place and place[0] == run_id else _State()
            if report.entries < limit and len(report.findings) < MAX_FINDINGS:
                verifier = RunVerifier(run_id, report, state)
                if verifier.walk(limit - report.entries):
                    report.runs += 1
                    continue
                state = verifier.state
            here = [str(run_id), state.expected, state.before, state.last_hash]
            report.next = signing.dumps(here, salt=_CURSOR)
            break
    return report


def _place(cursor: str | None) -> tuple[uuid.UUID, _State] | None:
    if not cursor:
        return None
    try:
        run, expected, before, last_hash = signing.loads(cursor, salt=_CURSOR)
        return uuid.UUID(run), _State(before, int(expected), last_hash)
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise InvalidInput(
            field="cursor", detail="The cursor is not one of a verification; start without one."
        ) from error


def _runs_from(
    runs: list[uuid.UUID] | None, first: uuid.UUID, user_id: uuid.UUID | None
) -> Iterator[uuid.UUID]:
    if runs is not None:
        yield from (run for run in sorted(runs) if run >= first)
        return
    while (found := _next_run(first, user_id)) is not None:
        yield found
        first = uuid.UUID(int=min(found.int + 1, (1 << 128) - 1))


def _next_run(first: uuid.UUID, user_id: uuid.UUID | None) -> uuid.UUID | None:
    """Return the lowest run from `first` on that has a watermark or entries.

    Runs that have entries and no watermark are among them: nobody reported those.
    """
    marks = AuditWatermark.objects.filter(run_id__gte=first)
    if user_id is not None:
        marks = marks.filter(user=user_id)
    marked = marks.order_by("run_id").values_list("run_id", flat=True).first()
    lowest = _lowest_run_of_entries(first, user_id)
    return min((run for run in (marked, lowest) if run is not None), default=None)


def _lowest_run_of_entries(first: uuid.UUID, user_id: uuid.UUID | None) -> uuid.UUID | None:
    # By the runs' index, one run at a time; the owner is looked at in the run's first entry.
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT run_id, user_id FROM {TABLE} WHERE run_id >= %s "  # noqa: S608
                "ORDER BY run_id, seq LIMIT 1",
                [first],
            )
            row = cursor.fetchone()
        if row is None or user_id is None or row[1] == user_id:
            return None if row is None else row[0]
        first = uuid.UUID(int=row[0].int + 1)
