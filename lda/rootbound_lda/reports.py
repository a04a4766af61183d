"""What a run says: events and audit entries, into the outbox."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import Callable
from typing import Final, get_args

import msgspec

from .audit import AuditRecord, AuditUnavailable, encode_entry
from .outbox import Lane, Outbox, OutboxUnavailable, Stream, now
from .wire import (
    ErrorText,
    LogPayload,
    Notice,
    Output,
    Payload,
    PlanReport,
    Status,
    Text,
    Thinking,
    event_for,
)

COALESCE_S: Final = 0.05
MAX_TEXT: Final = 32_000
"""Characters of one event; more is split or cut, the whole is in an artifact."""

_LOG: Final = get_args(LogPayload)
MAX_SOURCE_OUTPUT: Final = 256_000
"""Characters of one command's output that become events."""


class Reporter:
    """Numbers a run's events; deltas that follow each other closely become one event.

    Parameters
    ----------
    outbox
        Where events go.
    attempt_id
        Whose events they are.
    """

    def __init__(self, outbox: Outbox, attempt_id: str) -> None:
        self._outbox = outbox
        self._stream = outbox.stream("event", attempt_id, attempt_id)
        self._kind: tuple[str, ...] | None = None
        self._parts: list[str] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._left_out = 0

    def __call__(self, payload: Payload) -> None:
        """Append an event, after any text that is still held back.

        Raises
        ------
        OutboxUnavailable
            When the disk takes no more.
        """
        self.flush()
        self._append(payload)

    def text(self, step: int, delta: str) -> None:
        """Add to the model's text."""
        self._delta(("text", str(step)), delta)

    def thinking(self, step: int, delta: str) -> None:
        """Add to the model's reasoning."""
        self._delta(("thinking", str(step)), delta)

    def output(self, source: str, stream: str, text: str) -> None:
        """Add to the output of a gate or a command."""
        self._delta(("output", source, stream), text)

    def error(self, message: str) -> None:
        """Report a problem."""
        self(ErrorText(message[:MAX_TEXT]))

    def notice(self, text: str) -> None:
        """Tell the reader something."""
        self(Notice(text[:MAX_TEXT]))

    async def status(self, status: Status) -> None:
        """Report a transition and wait until it is on the disk."""
        self(status)
        await self._outbox.sync(timeout_s=5.0)

    def end(self, status: Status) -> None:
        """Report how the run ended; nothing can follow it."""
        if self._ended:
            return
        with contextlib.suppress(OutboxUnavailable):
            self.flush()  # the end itself is taken even when the disk is full
        self._append(status, terminal=True)
        self._ended = True

    def mute(self) -> None:
        """Say nothing more: another run has taken this one's place."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._kind, self._parts, self._size = None, [], 0
        self._ended = True

    @property
    def ended(self) -> bool:
        """Whether the run's end was reported."""
        return self._ended

    async def sync(self) -> None:
        """Wait until everything said so far is on the disk."""
        self.flush()
        await self._outbox.sync()

    def _delta(self, kind: tuple[str, ...], delta: str) -> None:
        if not delta or self._ended:
            return
        if kind != self._kind:
            self.flush()
            self._kind = kind
        self._parts.append(delta)
        self._size += len(delta)
        if self._size >= MAX_TEXT:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COALESCE_S, self._flush_late)

    def _flush_late(self) -> None:
        """Flush from the timer; a full disk is met again by the next append."""
        try:
            self.flush()
        except OutboxUnavailable as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "text of a run was not stored", "exception": error}
            )

    def flush(self) -> None:
        """Append the text that is held back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._kind is None:
            return
        kind, text = self._kind, "".join(self._parts)
        self._kind, self._parts, self._size = None, [], 0
        for start in range(0, len(text), MAX_TEXT):
            self._append(_delta_payload(kind, text[start : start + MAX_TEXT]))

    def _append(self, payload: Payload, *, terminal: bool = False) -> None:
        if self._ended:
            return
        lane: Lane = "end" if terminal else "log" if isinstance(payload, _LOG) else "keep"
        if self._left_out and (lane != "log" or not self._outbox.full):
            count, self._left_out = self._left_out, 0
            self._put(Notice(f"{count} messages were left out here: the outbox was full."), "keep")
        if not self._put(payload, lane):
            self._left_out += 1

    def _put(self, payload: Payload, lane: Lane) -> bool:
        def build(seq: int, _: str) -> tuple[bytes, str]:
            return msgspec.json.encode(event_for(seq, now(), payload)), ""

        return self._outbox.append(self._stream, build, lane=lane) > 0


def _delta_payload(kind: tuple[str, ...], text: str) -> Payload:
    if kind[0] == "text":
        return Text(int(kind[1]), text)
    if kind[0] == "thinking":
        return Thinking(int(kind[1]), text)
    return Output(kind[1], "stderr" if kind[2] == "stderr" else "stdout", text)


class OutputFeed:
    """Turns the bytes of one command into output events, up to a bound.

    Parameters
    ----------
    reporter
        Where the events go.
    source
        ``gate:<name>`` or ``command:<call id>``.
    tee
        Called with every chunk, for the log. Default none.
    """

    def __init__(
        self, reporter: Reporter, source: str, tee: Callable[[bytes], None] | None = None
    ) -> None:
        self._reporter = reporter
        self._source = source
        self._tee = tee
        self._left = MAX_SOURCE_OUTPUT
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder("replace") for name in ("stdout", "stderr")}

    def __call__(self, stream: str, data: bytes) -> None:
        """Take a chunk of output."""
        if self._tee is not None:
            self._tee(data)
        if self._left <= 0:
            return
        # PostgreSQL's text and JSON cannot hold a NUL.
        text = self._decoders[stream].decode(data).replace("\0", "\ufffd")
        self._reporter.output(self._source, stream, text[: self._left])
        self._left -= len(text)
        if self._left <= 0:
            self._reporter.notice(
                f"The output of {self._source} is long; the rest is only in its log."
            )


class RunAudit:
    """The audit of one run: numbered, chained, and in the outbox before the answer.

    Parameters
    ----------
    outbox
        Where entries go.
    owner
        The attempt or decomposition.
    run_id
        Whose chain it is.
    """

    def __init__(self, outbox: Outbox, owner: str, run_id: str) -> None:
        self._outbox = outbox
        self._stream: Stream = outbox.stream("audit", owner, run_id)

    def record(self, record: AuditRecord) -> None:
        """Take a record from any thread.

        Raises
        ------
        AuditUnavailable
            When it cannot be kept; the operation must then not happen.
        """
        failure = self._outbox.failure
        if failure is not None:
            raise AuditUnavailable(failure)

        def build(seq: int, previous: str) -> tuple[bytes, str]:
            return encode_entry(record, seq=seq, prev=previous)

        try:
            self._outbox.append(self._stream, build)
        except OutboxUnavailable as error:
            raise AuditUnavailable(str(error)) from error

    def settle(self) -> None:
        """Wait until every record so far is committed.

        Raises
        ------
        AuditUnavailable
            When it did not get there.
        """
        try:
            self._outbox.settle()
        except OutboxUnavailable as error:
            raise AuditUnavailable(str(error)) from error


def post_plan(outbox: Outbox, decomposition_id: str, report: PlanReport) -> None:
    """Queue the result of a decomposition."""
    stream = outbox.stream("plan", decomposition_id, decomposition_id)
    body = msgspec.json.encode(report)
    outbox.append(stream, lambda _seq, _hash: (body, ""), lane="end")


def post_end(outbox: Outbox, session_id: str, exit_code: int | None) -> None:
    """Queue the end of a kernel."""
    stream = outbox.stream("plan", session_id, session_id)
    body = msgspec.json.encode({"exit_code": exit_code})
    outbox.append(stream, lambda _seq, _hash: (body, ""), lane="end")
