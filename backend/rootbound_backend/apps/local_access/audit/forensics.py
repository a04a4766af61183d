"""What became of an entry that is not where the chain wants it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from rootbound_backend.apps.local_access.audit.chain import GENESIS, Link
from rootbound_backend.apps.local_access.models import AuditWatermark, FsAuditEvent

__all__ = ["Forensics", "Verdict"]

WINDOW = 500
"""How far, in entries, a misplaced one is looked for in its own run."""

MAX_SEARCHES = 25
"""How often it is looked for in one report, so that a log full of faults is verified in time."""

MAX_RUNS = 2_000
"""In how many other runs of the user it is looked for."""

MAX_NAMED = 100
"""Missing numbers that are named one by one; further ones are named together."""

_FIELDS = (
    "id", "run_id", "seq", "timestamp", "operation", "result", "path", "source", "detail", "hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an entry, and the hash that the next one should follow.

    Attributes
    ----------
    go_on_with
        None when that hash is lost with the entry.
    """

    kind: str
    detail: str
    go_on_with: str | None


class Forensics:
    """Looks beyond the row at hand; used only when something is wrong.

    Parameters
    ----------
    run_id
        The run that is verified.
    """

    def __init__(self, run_id: uuid.UUID) -> None:
        self._run_id = run_id
        self._searches = 0
        self._last: Link | None = None

    def accept(self, link: Link) -> None:
        """Remember the last genuine entry."""
        self._last = link

    def continued(self, rows: list[Link]) -> Link:
        """Return the one of some equally possible entries that the next one follows."""
        if len(rows) == 1:
            return rows[0]
        after = self._at(rows[0].seq + 1)
        return next((row for row in rows if any(one.follows(row.hash) for one in after)), rows[0])

    def judge(self, row: Link, before: str) -> Verdict:
        """Say what is wrong with the one row that has a number and does not follow `before`."""
        swapped = self._belongs_here(row.seq, before)
        if swapped is not None:
            return Verdict(
                "reordered",
                f"Entry {row.seq} stands at {swapped.seq}, and another one in its place.",
                swapped.hash,
            )
        home = self._home(row)
        if home is not None:
            return Verdict("moved", f"It belongs to run {home}.", None)
        if self._last is not None and row.same_operation(self._last):
            return Verdict("doubled", f"It repeats entry {self._last.seq}.", None)
        after = self._at(row.seq + 1)
        if any(one.follows(row.hash) for one in after):
            what = row.changed_from(before) or "its path, time or detail"
            return Verdict("changed", f"What it says was changed: {what}.", row.hash)
        computed = row.hash_after(before)
        if any(one.follows(computed) for one in after):
            return Verdict("changed", "Its hash was changed.", computed)
        # Its hash may be genuine all the same: if not, the next entry is in doubt as well.
        return Verdict("changed", "It, or the hash before it, is not what was reported.", row.hash)

    def second(self, row: Link, genuine: Link) -> tuple[str, str]:
        """Say what a second row with one number is."""
        home = self._home(row)
        if home is not None:
            return "moved", f"It belongs to run {home}."
        if row.same_operation(genuine):
            return "doubled", f"It repeats row {genuine.id}."
        return "inserted", "It is not in the chain, which has another entry of this number."

    def past_the_end(self, row: Link, last: int) -> tuple[str, str]:
        """Say what a row behind the last reported number is."""
        home = self._home(row)
        if home is not None:
            return "moved", f"It belongs to run {home}."
        if self._is_repeated(row):
            return "doubled", f"It repeats an entry, behind the last reported number {last}."
        return "inserted", f"It was added behind the last reported number {last}."

    def missing(self, first: int, last: int) -> Iterator[tuple[int, str]]:
        """Say where each of some missing numbers is, as number and sentence."""
        for number in range(first, min(last, first + MAX_NAMED - 1) + 1):
            found = self._elsewhere(number)
            if found is None:
                yield number, f"Entry {number} is missing."
            elif found.run_id == self._run_id:
                yield number, f"Entry {number} was moved to {found.seq}."
            else:
                yield number, f"Entry {number} was moved to run {found.run_id}."
        if last >= first + MAX_NAMED:
            yield first + MAX_NAMED, f"Entries {first + MAX_NAMED} to {last} are missing."

    def beyond(self, last: int) -> list[Link]:
        """Return the rows behind the last reported number."""
        rows = FsAuditEvent.objects.filter(run_id=self._run_id, seq__gt=last).order_by("seq")
        return [Link(*row) for row in rows.values_list(*_FIELDS)[:MAX_NAMED]]

    def _at(self, seq: int) -> list[Link]:
        rows = FsAuditEvent.objects.filter(run_id=self._run_id, seq=seq)
        return [Link(*row) for row in rows.values_list(*_FIELDS)]

    def _belongs_here(self, seq: int, before: str) -> Link | None:
        """Find the entry that follows `before` among those that stand elsewhere in the run."""
        if self._searches >= MAX_SEARCHES:
            return None
        self._searches += 1
        rows = FsAuditEvent.objects.filter(
            run_id=self._run_id, seq__gte=seq - WINDOW, seq__lte=seq + WINDOW
        )
        near = (Link(*values) for values in rows.exclude(seq=seq).values_list(*_FIELDS))
        return next((row for row in near if row.at(seq).follows(before)), None)

    def _is_repeated(self, row: Link) -> bool:
        same = FsAuditEvent.objects.filter(
            run_id=self._run_id, seq__lt=row.seq, path=row.path, operation=row.operation,
            result=row.result, source=row.source, detail=row.detail,
        )  # fmt: skip
        return same.exists()

    def _other_runs(self) -> list[uuid.UUID]:
        mine = AuditWatermark.objects.filter(pk=self._run_id).values_list("user", flat=True)
        rows = AuditWatermark.objects.filter(user__in=mine).exclude(pk=self._run_id)
        return list(rows.order_by("-last_at").values_list("run_id", flat=True)[:MAX_RUNS])

    def _home(self, row: Link) -> uuid.UUID | None:
        """Return the other run in whose chain a row fits."""
        others = FsAuditEvent.objects.filter(run_id__in=self._other_runs())
        if row.seq == 1:
            # All runs begin alike; whose beginning it is, the second entry shows.
            if not row.follows(GENESIS):
                return None
            seconds = (Link(*values) for values in others.filter(seq=2).values_list(*_FIELDS))
            return next((one.run_id for one in seconds if one.follows(row.hash)), None)
        before = others.filter(seq=row.seq - 1).values_list("run_id", "hash")
        return next((run for run, digest in before if row.follows(digest)), None)

    def _elsewhere(self, seq: int) -> Link | None:
        """Return a missing entry from where it is now."""
        before = self._at(seq - 1)
        if not before:
            return None
        digest = before[0].hash
        if (swapped := self._belongs_here(seq, digest)) is not None:
            return swapped
        rows = FsAuditEvent.objects.filter(run_id__in=self._other_runs(), seq=seq)
        found = (Link(*values) for values in rows.values_list(*_FIELDS))
        return next((row for row in found if row.follows(digest)), None)
