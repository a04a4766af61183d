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

from .outbox import Outbox, Owner, Row, Stream, now
from .wire import Notice, event_for

log = logging.getLogger(__name__)

BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 1024 * 1024
COALESCE_S: Final = 0.05
HEARTBEAT_S: Final = 15.0
BACKOFF_START_S: Final = 0.2
BACKOFF_MAX_S: Final = 30.0
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
    """

    def __init__(
        self,
        outbox: Outbox,
        on_fenced: Callable[[str], None],
        *,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._outbox = outbox
        self._on_fenced = on_fenced
        self._heartbeat_s = heartbeat_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._stuck_until: dict[int, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Begin to send, also what an earlier process left behind."""
        self._loop = asyncio.get_running_loop()
        # Environment proxies must not see the ingest token.
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(30, connect=5), trust_env=False)
        self._outbox.on_commit = self._committed
        for owner in await asyncio.to_thread(self._outbox.owners):
            self.wake(owner.owner)

    def _committed(self, owners: set[str]) -> None:
        """Wake the owners' tasks; comes from the outbox's thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
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
        self._outbox.on_commit = None
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _ship(self, name: str) -> None:
        """Send one owner's rows and heartbeats until there is nothing left to say."""
        wake = self._wakes[name]
        failures, last_post = 0, 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which can swallow a cancellation.
                async with asyncio.timeout(self._heartbeat_s):
                    await wake.wait()
            wake.clear()
            # The first row after a pause leaves at once, the next ones together.
            await asyncio.sleep(max(0.0, COALESCE_S - (time.monotonic() - last_post)))
            owner = await asyncio.to_thread(self._outbox.owner, name)
            if owner is None:
                return
            due = owner.live and time.monotonic() - last_post >= self._heartbeat_s
            try:
                more = await self._round(owner, heartbeat=due)
            except _RetryLaterError as error:
                failures += 1
                if failures in (1, 10) or failures % 100 == 0:
                    log.warning("Reports of %s wait for the backend: %s", name, error)
                ceiling = min(BACKOFF_MAX_S, BACKOFF_START_S * 2 ** min(failures, 12))
                await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter
                wake.set()
                continue
            failures = 0
            if more is not None:
                last_post = time.monotonic()
            if more:
                wake.set()
            elif not owner.live and not wake.is_set():
                return

    async def _round(self, owner: Owner, *, heartbeat: bool) -> bool | None:
        """Send one batch of each stream.

        Returns
        -------
        bool or None
            Whether there may be more; ``None`` when nothing was sent.
        """
        streams = self._outbox.streams_of(owner.owner)
        events = next((stream for stream in streams if stream.kind == "event"), None)
        batch = await self._next(events) if events else []
        terminal = next((row.id for row in batch if row.terminal), None)
        sent = False
        for audit in (stream for stream in streams if stream.kind == "audit"):
            if time.monotonic() < self._stuck_until.get(audit.id, 0.0):
                continue
            # A run's audit is with the backend before the run's end is.
            while rows := await self._next(audit, before_id=terminal):
                sent = True
                if not await self._post(owner, audit, rows) or terminal is None:
                    break
        if batch and events is not None:
            sent = True
            await self._post(owner, events, batch)
        for plan in (stream for stream in streams if stream.kind == "plan"):
            if rows := await self._next(plan):
                sent = True
                await self._post(owner, plan, rows[:1])
        if sent:
            return True
        if heartbeat and events is not None:
            await self._post(owner, events, [])
            return False
        return None

    async def _next(self, stream: Stream, *, before_id: int | None = None) -> list[Row]:
        """Return the next rows of a stream, bounded in number and size."""
        rows = await asyncio.to_thread(
            self._outbox.rows, stream, limit=BATCH_ROWS, before_id=before_id
        )
        size = 0
        for index, row in enumerate(rows):
            size += len(row.body)
            if size > BATCH_BYTES and index:
                return rows[:index]
        return rows

    async def _post(self, owner: Owner, stream: Stream, rows: list[Row]) -> bool:
        """Send rows and deal with the answer; false when the stream is to be left alone."""
        answer = await self._send(owner, stream, rows)
        if answer.retry is not None:
            raise _RetryLaterError(answer.retry)
        if answer.fenced:
            log.warning("The backend refused run %s: it has another run for it.", owner.owner)
            dropped = self._outbox.drop(owner.owner)
            self._on_fenced(owner.owner)
            await asyncio.wrap_future(dropped)
            return False
        if answer.expected is not None:
            return await self._resend(owner, stream, answer.expected)
        if answer.refused is not None:
            return await self._refused(owner, stream, rows, answer.refused)
        if rows and answer.acknowledged is not None:
            seq = rows[0].seq if stream.kind == "plan" else answer.acknowledged
            await asyncio.wrap_future(self._outbox.acknowledge(stream, seq))
        return True

    async def _resend(self, owner: Owner, stream: Stream, expected: int) -> bool:
        """Go on where the backend wants it: it may have more or fewer than we think."""
        if expected > 1:
            await asyncio.wrap_future(self._outbox.acknowledge(stream, expected - 1))
        rows = await self._next(stream)
        if rows and rows[0].seq > expected:
            # The backend lost what it had acknowledged; nobody can close that hole.
            log.error(
                "The backend expects %s %d of %s, which it had acknowledged; the rest is dropped.",
                stream.kind,
                expected,
                owner.owner,
            )
            dropped = self._outbox.drop(owner.owner)
            self._on_fenced(owner.owner)
            await asyncio.wrap_future(dropped)
            return False
        return True

    async def _refused(self, owner: Owner, stream: Stream, rows: list[Row], why: str) -> bool:
        """Find the row that the backend will not take, and say so in its place."""
        if len(rows) > 1:
            return await self._post(owner, stream, rows[: len(rows) // 2])
        if stream.kind == "audit":
            # Nothing may be changed or left out in a chain; the run's end must not wait for it.
            log.error("The backend refused audit entries of %s: %s", owner.owner, why)
            self._stuck_until[stream.id] = time.monotonic() + STUCK_S
            return False
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
        try:
            response = await self._client.post(
                owner.base_url.rstrip("/") + path,
                content=body,
                headers={
                    "Authorization": f"Bearer {owner.token}",
                    "Content-Type": "application/json",
                },
            )
        except httpx.HTTPError as error:
            return _Answer(retry=f"{type(error).__name__}: {error}")
        return _understand(response, stream)


class _RetryLaterError(Exception):
    """The backend could not take a batch now."""


def _request(owner: Owner, stream: Stream, rows: list[Row]) -> tuple[str, bytes]:
    """Return path and body of the post that carries ``rows``; the bodies are JSON already."""
    if stream.kind == "plan":
        return f"/api/decompositions/{owner.owner}/plan/", rows[0].body
    joined = b",".join(row.body for row in rows)
    if stream.kind == "event":
        head = b'{"lease_generation":%d,"events":[' % owner.generation
        return f"/api/attempts/{owner.owner}/events/", head + joined + b"]}"
    # A decomposition has audit entries too, but no attempt.
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
