"""Posts the outbox to the backend until it is acknowledged, however long that takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec

from .backends import Backends
from .outbox import MAX_BATCH_ROWS, Outbox, Owner, Row, Stream, now
from .wire import Notice, PlanReport, event_for

log = logging.getLogger(__name__)

FIRST_BATCH_ROWS: Final = 500
MIN_BATCH_ROWS: Final = 100
BATCH_BYTES: Final = 2 * 1024 * 1024
QUICK_S: Final = 0.5
SLOW_S: Final = 3.0
MAX_POSTS: Final = 8
"""Batches under way at a time, of all owners: a long backlog must not fill the memory."""

COALESCE_S: Final = 0.05
KERNEL_COALESCE_S: Final = 0.25
"""The same for kernels: nobody follows them line by line, and one that starts has rows to send all
the while, each post of which would take processor time from it."""

HEARTBEAT_S: Final = 15.0
BACKOFF_START_S: Final = 0.2
BACKOFF_MAX_S: Final = 10.0
STUCK_S: Final = 60.0
_GONE: Final = (404, 410)
_MALFORMED: Final = (400, 413, 422)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of one post."""

    acknowledged: int | None = None
    expected: int | None = None
    fenced: bool = False
    refused: str | None = None
    retry: str | None = None


@dataclass(slots=True)
class Pace:
    """How many rows one post carries: more while the backend takes full ones quickly.

    Attributes
    ----------
    rows
        Rows of the next batch at most.
    """

    rows: int = FIRST_BATCH_ROWS

    def went(self, sent: int, took_s: float) -> None:
        """Learn from a post that was acknowledged."""
        if took_s >= SLOW_S:
            self.failed()
        elif sent >= self.rows and took_s <= QUICK_S:
            self.rows = min(2 * self.rows, MAX_BATCH_ROWS)

    def failed(self) -> None:
        """Learn from a post that was not."""
        self.rows = max(self.rows // 2, MIN_BATCH_ROWS)


class Shipper:
    """One task per owner; each sends its owner's streams in order.

    Parameters
    ----------
    outbox
        Where the rows are.
    on_fenced
        Called with the owner when the backend says that this run is not its run any more.
    heartbeat_s
        Seconds without a post after which a live owner sends an empty batch. Default 15.
    backends
        Where to post, instead of where each owner's hand-over said.
    """

    def __init__(
        self,
        outbox: Outbox,
        on_fenced: Callable[[str], None],
        *,
        heartbeat_s: float = HEARTBEAT_S,
        backends: Backends | None = None,
    ) -> None:
        self._outbox = outbox
        self._on_fenced = on_fenced
        self._heartbeat_s = heartbeat_s
        self._backends = backends
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._at_once: dict[str, asyncio.Event] = {}
        self._paces: dict[str, Pace] = {}
        self._answered = asyncio.Event()
        self._slots = asyncio.Semaphore(MAX_POSTS)
        self._stuck_until: dict[int, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Begin to send, also what an earlier process left behind."""
        self._loop = asyncio.get_running_loop()
        # Environment proxies must not see the ingest token; of an encrypted one they see nothing.
        far = self._backends is not None and self._backends.url.startswith("https:")
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(30, connect=5), trust_env=far)
        self._outbox.set_on_commit(self._committed)
        for owner in await asyncio.to_thread(self._outbox.owners):
            self.wake(owner.owner)

    def _committed(self, owners: set[str]) -> None:
        """Wake the owners' tasks; comes from the outbox's thread."""
        loop = self._loop
        # The loop may be closed by now; the next process looks for rows by itself.
        with contextlib.suppress(RuntimeError):
            if loop is not None:
                loop.call_soon_threadsafe(self._wake_all, owners)

    def _wake_all(self, owners: set[str]) -> None:
        for owner in owners:
            self.wake(owner)

    def wake(self, owner: str) -> None:
        """Make sure that an owner's task runs and looks for rows."""
        self._wakes.setdefault(owner, asyncio.Event()).set()
        task = self._tasks.get(owner)
        if task is None or task.done():
            self._tasks[owner] = asyncio.create_task(self._ship(owner), name=f"ship {owner}")

    def hasten(self, owner: str) -> None:
        """Send what there is without waiting for more: the run has ended."""
        self._at_once.setdefault(owner, asyncio.Event()).set()
        self.wake(owner)

    async def drain(self, owner: str | None = None, timeout_s: float = 5.0) -> bool:
        """Wait until everything (of one owner) is acknowledged.

        Returns
        -------
        bool
            Whether it got there in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            streams = await asyncio.to_thread(self._unsent, owner)
            if not streams:
                return True
            await asyncio.sleep(0.02)
        return False

    def _unsent(self, owner: str | None) -> bool:
        if owner is None:
            return self._outbox.depth() > 0
        streams = self._outbox.streams_of(owner)
        return any(stream.acked_seq < stream.last_seq for stream in streams)

    async def stop(self) -> None:
        """Stop sending; what is left is sent by the next process."""
        self._outbox.set_on_commit(None)
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _ship(self, name: str) -> None:
        """Send one owner's rows and heartbeats until there is nothing left to say."""
        wake = self._wakes[name]
        pace = self._paces.setdefault(name, Pace())
        # A run that begins was just handed over: its first heartbeat is not due yet.
        failures, last_post, heard, hurry = 0, 0.0, time.monotonic(), False
        owner = await asyncio.to_thread(self._outbox.owner, name)
        together_s = COALESCE_S
        if owner is not None and owner.subject == "kernel":
            together_s, last_post = KERNEL_COALESCE_S, heard
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which can swallow a cancellation.
                async with asyncio.timeout(self._heartbeat_s):
                    await wake.wait()
            wake.clear()
            if not hurry:
                # The first row after a pause leaves at once, the next ones together.
                await self._gather(name, together_s - (time.monotonic() - last_post))
            owner = await asyncio.to_thread(self._outbox.owner, name)
            if owner is None or owner.fenced:
                return
            due = owner.live and time.monotonic() - heard >= self._heartbeat_s
            try:
                sent = await self._round(owner, pace, heartbeat=due)
            except _RetryLaterError as error:
                pace.failed()
                failures += 1
                if failures in (1, 10) or failures % 100 == 0:
                    log.warning("Reports of %s wait for the backend: %s", name, error)
                ceiling = min(BACKOFF_MAX_S, BACKOFF_START_S * 2 ** min(failures, 12))
                await self._back_off(random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter
                wake.set()
                continue
            if failures:
                failures = 0
                self._answered.set()
                self._answered = asyncio.Event()
            if sent is not None:
                last_post = heard = time.monotonic()
            # A full batch is followed by the next one at once.
            hurry = sent is not None and sent >= min(pace.rows, FIRST_BATCH_ROWS)
            if sent:
                wake.set()
            elif not owner.live and not wake.is_set():
                return

    async def _gather(self, name: str, delay_s: float) -> None:
        """Let rows come together, unless they are the last ones."""
        at_once = self._at_once.setdefault(name, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, delay_s)):
                await at_once.wait()
        at_once.clear()

    async def _back_off(self, delay_s: float) -> None:
        """Wait before the next try, or until the backend answers somebody else."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._answered.wait()

    async def _round(self, owner: Owner, pace: Pace, *, heartbeat: bool) -> int | None:
        """Send one batch of each stream.

        Returns
        -------
        int or None
            Rows of the largest batch; ``None`` when nothing was sent, 0 for a heartbeat.
        """
        streams = self._outbox.streams_of(owner.owner)
        events = next((stream for stream in streams if stream.kind == "event"), None)
        async with self._slots:
            sent = 0
            batch = await self._next(events, pace) if events else []
            terminal = any(row.terminal for row in batch)
            for audit in (stream for stream in streams if stream.kind == "audit"):
                if time.monotonic() >= self._stuck_until.get(audit.id, 0.0):
                    sent = max(sent, await self._send_audit(owner, audit, pace, whole=terminal))
            if batch and events is not None and not events.closed:
                sent = max(sent, len(batch))
                await self._post(owner, events, batch, pace)
            for plan in (stream for stream in streams if stream.kind == "plan"):
                if rows := await self._next(plan, pace):
                    sent = max(sent, 1)
                    await self._post(owner, plan, rows[:1], pace)
        if sent:
            return sent
        if heartbeat and events is not None:
            await self._post(owner, events, [], pace)
            return 0
        return None

    async def _send_audit(self, owner: Owner, audit: Stream, pace: Pace, *, whole: bool) -> int:
        """Send one batch of a run's audit, or all: it is with the backend before the run's end."""
        last, sent = audit.last_seq, 0
        while rows := await self._next(audit, pace):
            sent = max(sent, len(rows))
            if not await self._post(owner, audit, rows, pace) or not whole:
                break
            if audit.acked_seq >= last:
                break
        return sent

    async def _next(self, stream: Stream, pace: Pace) -> list[Row]:
        """Return the next rows of a stream, bounded in number and size."""
        if stream.closed:
            return []
        return await asyncio.to_thread(
            self._outbox.rows, stream, limit=pace.rows, max_bytes=BATCH_BYTES,
            after_seq=stream.acked_seq,
        )  # fmt: skip

    async def _post(self, owner: Owner, stream: Stream, rows: list[Row], pace: Pace) -> bool:
        """Send rows and deal with the answer; false when the stream is to be left alone."""
        began = time.monotonic()
        answer = await self._send(owner, stream, rows)
        if answer.retry is not None:
            if rows:
                # It may have stored them: a later hand-over must not use their numbers again.
                stream.unsure_seq = max(stream.unsure_seq, rows[-1].seq)
            raise _RetryLaterError(answer.retry)
        if answer.fenced:
            waiting = sum(one.last_seq - one.acked_seq for one in self._of(owner))
            log.warning(
                "The backend does not want run %s any more (hand-over %d): %d reports are dropped.",
                owner.owner, owner.generation, waiting,
            )  # fmt: skip
            await self._give_up(owner)
            return False
        if answer.expected is not None:
            return await self._resend(owner, stream, answer.expected, pace)
        if answer.refused is not None:
            return await self._refused(owner, stream, rows, answer.refused, pace)
        pace.went(len(rows), time.monotonic() - began)
        if rows and answer.acknowledged is not None:
            seq = rows[0].seq if stream.kind == "plan" else answer.acknowledged
            await asyncio.wrap_future(self._outbox.acknowledge(stream, seq))
        return True

    def _of(self, owner: Owner) -> list[Stream]:
        return self._outbox.streams_of(owner.owner)

    async def _give_up(self, owner: Owner) -> None:
        current = await asyncio.to_thread(self._outbox.owner, owner.owner)
        if current is not None and current.generation != owner.generation:
            return  # a later hand-over is here already; the answer was for the one before
        dropped = self._outbox.drop(owner.owner)
        self._on_fenced(owner.owner)
        await asyncio.wrap_future(dropped)

    async def _resend(self, owner: Owner, stream: Stream, expected: int, pace: Pace) -> bool:
        """Go on where the backend wants it: it may have more or fewer than we think."""
        if expected > 1:
            await asyncio.wrap_future(self._outbox.acknowledge(stream, expected - 1))
        rows = await self._next(stream, pace)
        if rows and rows[0].seq > expected:
            # The backend lost what it had acknowledged; nobody can close that hole.
            log.error(
                "The backend expects %s %d of %s, which it had acknowledged; the rest is dropped.",
                stream.kind,
                expected,
                owner.owner,
            )
            await self._give_up(owner)
            return False
        return True

    async def _refused(
        self, owner: Owner, stream: Stream, rows: list[Row], why: str, pace: Pace
    ) -> bool:
        """Find the row that the backend will not take, and say so in its place."""
        if len(rows) > 1:
            pace.failed()
            return await self._post(owner, stream, rows[: len(rows) // 2], pace)
        if stream.kind == "audit":
            # Nothing may be changed or left out in a chain; the run's end must not wait for it.
            log.error("The backend refused audit entries of %s: %s", owner.owner, why)
            self._stuck_until[stream.id] = time.monotonic() + STUCK_S
            return False
        if owner.subject == "decomposition" and rows and b'"plan":null' not in rows[0].body:
            # Else it would be asked for again and again, and the user never told.
            log.error("The backend refused the plan of %s: %s", owner.owner, why)
            await asyncio.wrap_future(self._outbox.replace(stream, rows[0].seq, _unusable(why)))
            return True
        if stream.kind == "plan" or not rows or rows[0].terminal:
            raise _RetryLaterError(f"the backend refused a report: {why}")
        log.error("The backend refused event %d of %s: %s", rows[0].seq, owner.owner, why)
        notice = event_for(
            rows[0].seq, now(), Notice(f"One event could not be stored: {why[:300]}")
        )
        await asyncio.wrap_future(
            self._outbox.replace(stream, rows[0].seq, msgspec.json.encode(notice))
        )
        return True

    async def _send(self, owner: Owner, stream: Stream, rows: list[Row]) -> _Answer:
        """Post one batch."""
        path, body = _request(owner, stream, rows)
        if self._client is None:
            raise RuntimeError("The shipper was not started.")
        base_url = owner.base_url if self._backends is None else self._backends.url
        try:
            response = await self._client.post(
                base_url.rstrip("/") + path,
                content=body,
                headers={
                    "Authorization": f"Bearer {owner.token}",
                    "Content-Type": "application/json",
                },
            )
        except httpx.HTTPError as error:
            if self._backends is not None:
                self._backends.failed(base_url)
            return _Answer(retry=f"{type(error).__name__}: {error}")
        return _understand(response, stream)


def _unusable(why: str) -> bytes:
    """Return the report on a plan that the backend does not take."""
    sentence = f"The plan cannot be used: {why[:500]} Reword the request, or ask for it again."
    return msgspec.json.encode(PlanReport(failure="AGENT_BLOCKED", message=sentence))


class _RetryLaterError(Exception):
    """The backend could not take a batch now."""


def _request(owner: Owner, stream: Stream, rows: list[Row]) -> tuple[str, bytes]:
    """Return path and body of the post that carries ``rows``; the bodies are JSON already."""
    if stream.kind == "plan":
        # The one report on how it ended.
        if owner.subject == "kernel":
            return f"/api/kernels/{owner.owner}/ended/", rows[0].body
        return f"/api/decompositions/{owner.owner}/plan/", rows[0].body
    joined = b",".join(row.body for row in rows)
    if stream.kind == "event":
        head = b'{"lease_generation":%d,"events":[' % owner.generation
        return f"/api/attempts/{owner.owner}/events/", head + joined + b"]}"
    # Decompositions and kernels have audit entries too, but no attempt.
    attempt = f'"{owner.owner}"' if owner.subject == "attempt" else "null"
    opening = (
        f'{{"run_id":"{stream.name}","attempt_id":{attempt},'
        f'"lease_generation":{owner.generation},"entries":['
    )
    return "/api/audit/ingest/", opening.encode("ascii") + joined + b"]}"


def _understand(response: httpx.Response, stream: Stream) -> _Answer:
    """Read the backend's answer."""
    try:
        body: Any = response.json()
    except ValueError:
        body = None
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    code = fields.get("code")
    if response.is_success:
        seq = 1 if stream.kind == "plan" else fields.get("seq")
        if isinstance(seq, int):
            return _Answer(acknowledged=seq)
        return _Answer(retry="the backend's answer has no seq")
    expected = fields.get("expected_seq")
    if response.status_code == 409 and code == "sequence-gap" and isinstance(expected, int):
        return _Answer(expected=expected)
    if response.status_code == 409 and stream.kind == "plan":
        return _Answer(acknowledged=1)  # it was taken before, or is not wanted any more
    if (response.status_code == 409 and code == "fenced") or response.status_code in _GONE:
        return _Answer(fenced=True)
    detail = str(fields.get("detail") or f"HTTP {response.status_code}")
    if response.status_code in _MALFORMED:
        return _Answer(refused=detail)
    return _Answer(retry=detail)
