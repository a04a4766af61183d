"""The measurements of the stream, each against something to compare with in the same run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from channels_redis.pubsub import RedisPubSubChannelLayer
from psycopg.types.json import Jsonb
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from .clients import FrameReader, Poster
from .services import Services, event

MIB = 1024 * 1024
MAX_POST = 500
"""Most events of one post, as the LDA's."""

BINARY = "COPY attempts_attemptevent (attempt_id, seq, timestamp, type, payload, attempt_created_at) FROM STDIN (FORMAT BINARY)"  # noqa: E501
TYPES = ["uuid", "int8", "timestamptz", "varchar", "jsonb", "timestamptz"]


def copy_rate(services: Services, size: int, rows: int) -> float:
    """Return the rows a second of binary COPY into the same table, `size` rows a time."""
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    payloads = [json.dumps(event(seq)["payload"]).encode() for seq in range(1, size + 1)]
    attempt, seq = uuid.uuid4(), 0
    with services.database() as db:
        began = time.perf_counter()
        for _ in range(max(1, rows // size)):
            with db.cursor() as cursor, cursor.copy(BINARY) as copy:
                copy.set_types(TYPES)
                for payload in payloads:
                    seq += 1
                    copy.write_row((attempt, seq, now, "LOG", Jsonb(payload, dumps=bytes), now))
        return seq / (time.perf_counter() - began)


def post_rate(url: str, services: Services, size: int, rows: int, at_once: int = 1) -> float:
    """Return the rows a second of posts over real HTTP, `at_once` in flight.

    As an agent's machine posts them: over a connection that is open already. To make a client takes
    as long as several posts (httpx loads certificates for 15 ms), and it is one post's work to
    build a request in Python; so connections are opened before the clock starts, and are plain.
    """
    posts = max(1, rows // size // at_once)
    place = httpx.URL(url)

    def prepare() -> Callable[[], None]:
        attempt = services.new_attempt()
        headers = {**services.writer(attempt), "Content-Type": "application/json"}
        bodies = [
            msgspec.json.encode(
                {"lease_generation": 1,
                 "events": [event(n) for n in range(index * size + 1, (index + 1) * size + 1)]}
            )
            for index in range(posts)
        ]  # fmt: skip
        client = http.client.HTTPConnection(place.host, place.port, timeout=120)
        client.connect()

        def post() -> None:
            with contextlib.closing(client):
                for body in bodies:
                    client.request("POST", f"/api/attempts/{attempt}/events/", body, headers)
                    answer = client.getresponse()
                    text = answer.read()
                    if answer.status not in {200, 201}:
                        raise RuntimeError(f"{answer.status}: {text[:500]!r}")

        return post

    work = [prepare() for _ in range(at_once)]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        began = time.perf_counter()
        for done in [pool.submit(one) for one in work]:
            done.result()
        taken = time.perf_counter() - began
    return posts * at_once * size / taken


PAUSE_S = 0.15
"""Between two events of which each is to be the first after a pause, in seconds."""

PUBLISHER = """
import sys, time
from redis import Redis
client = Redis.from_url(sys.argv[1])
for _ in range(int(sys.argv[2])):
    time.sleep(float(sys.argv[3]))
    client.publish("bench", repr(time.time()))
"""


async def pubsub_latency(services: Services, tries: int = 60) -> list[float]:
    """Return how long raw publish-subscribe takes from one process to another, in seconds.

    With the same pauses as `first_after_pause`: what sleeps has to be woken here as well.
    """
    client, found = Redis.from_url(services.redis_url), []
    async with client.pubsub() as listener:
        await listener.subscribe("bench")
        publisher = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PUBLISHER, services.redis_url, str(tries), str(PAUSE_S)
        )
        while len(found) < tries:
            message = await listener.get_message(timeout=1, ignore_subscribe_messages=True)
            if message is not None:
                found.append(time.time() - float(message["data"]))
        await publisher.wait()
    await client.aclose()
    return found


class _Payload(msgspec.Struct):
    at: float = 0.0


class _Event(msgspec.Struct):
    seq: int
    payload: _Payload


class _Frame(msgspec.Struct):
    events: list[_Event] = []


_FRAME = msgspec.json.Decoder(_Frame)


class Watcher:
    """One WebSocket that notes what it got and when."""

    def __init__(self, url: str, headers: dict[str, str], *, acks: bool = True) -> None:
        self.url, self.headers, self.acks = url, headers, acks
        self.seen: list[int] = []
        self.delays: list[float] = []
        self.slow_s = 0.0
        self.reconnect_s = 0.0
        self.ready = asyncio.Event()
        self.faults: list[str] = []
        self.acked = 0

    async def run(self) -> None:
        """Follow until cancelled, over lost and refused connections."""
        while True:
            try:
                await self._follow()
            except (OSError, WebSocketException) as error:
                self.faults.append(repr(error))
                await asyncio.sleep(0.2)

    async def _follow(self) -> None:
        after = self.seen[-1] if self.seen else 0
        async with connect(
            f"{self.url}?after={after}" if self.acks else self.url,
            additional_headers=self.headers, max_queue=4, compression=None, max_size=None,
            open_timeout=60,
        ) as socket:  # fmt: skip
            self.ready.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.reconnect_s or None):
                    async for text in socket:
                        await self._take(socket, text)

    async def _take(self, socket: Any, text: Any) -> None:
        answer = self._note(time.time(), text)
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if answer is not None:
            await socket.send(answer.decode())

    def _note(self, now: float, text: Any) -> bytes | None:
        """Note what a frame holds; return what to answer, if anything."""
        events = _FRAME.decode(text).events
        self.seen += [one.seq for one in events]
        self.delays += [now - one.payload.at for one in events if one.payload.at]
        # Not each frame: the window is 1,000 events wide.
        if not self.acks or not self.seen or self.seen[-1] - self.acked < 100:
            return None
        self.acked = self.seen[-1]
        return json.dumps({"type": "ack", "seq": self.acked}).encode()


class PlainWatcher(Watcher):
    """The same by a client that costs little."""

    async def _follow(self) -> None:
        after = self.seen[-1] if self.seen else 0
        url = httpx.URL(f"{self.url}?after={after}" if self.acks else self.url)
        _, reader = await asyncio.get_running_loop().create_connection(
            lambda: FrameReader(url, self.headers, self._note), url.host, url.port
        )
        try:
            await reader.opened
            self.ready.set()
            await reader.closed
        finally:
            reader.close()


def through_jupyter(services: Services, attempt: str) -> Watcher:
    """Return a viewer that comes through Jupyter, as browsers do."""
    url = f"{services.jupyter_url.replace('http', 'ws', 1)}/rootbound/ws/attempts/{attempt}/"
    return Watcher(url, services.through_jupyter())


async def watch(
    services: Services, *, viewers: int, rate: int, seconds: float, stock: bool = False,
    odd: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Let events happen at a rate before some viewers and return how they fared.

    An agent does not wait for its reports: events happen when they are due, what is due is posted
    together, one post at a time, and delays count from when an event was due. ``odd`` lets all
    come through Jupyter, makes one slow and lets another reconnect twice a second.
    """
    attempt = services.new_attempt()
    base = services.stock_url if stock else services.url
    path = f"{base}/api/attempts/{attempt}/events/" + ("tell/" if stock else "")
    socket_url = f"{base.replace('http', 'ws', 1)}/ws/attempts/{attempt}/"
    reader = services.reader()
    watchers: list[Watcher] = [
        PlainWatcher(socket_url, reader, acks=not stock) for _ in range(viewers)
    ]
    if odd:
        watchers = [through_jupyter(services, attempt) for _ in range(viewers)]
        watchers[0].slow_s, watchers[1].reconnect_s = 0.2, 0.5
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    await asyncio.gather(*(watcher.ready.wait() for watcher in watchers))
    await asyncio.sleep(0.5)
    async with Poster(path, services.writer(attempt)) as poster:
        began = time.time()
        total = await _happen(poster, began, rate, int(rate * seconds))
        posted_in = time.time() - began
    deadline = time.monotonic() + (5 if stock else 60)
    want = list(range(1, total + 1))
    while any(len(one.seen) < total for one in watchers):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    delays = sorted(delay for one in watchers if not one.slow_s for delay in one.delays)
    return {
        "total": total, "posted_in": posted_in,
        "complete": sum(one.seen == want for one in watchers) / viewers,
        "share": sum(len(set(one.seen)) for one in watchers) / (viewers * total),
        "p50": statistics.median(delays) if delays else float("nan"),
        "p99": delays[int(len(delays) * 0.99)] if delays else float("nan"),
    }  # fmt: skip


async def _happen(poster: Poster, began: float, rate: int, total: int) -> int:
    """Post `total` events as they fall due; return how many it were when patience ended."""
    posted, patience = 0, began + 3 * total / rate + 10
    while posted < total and time.time() < patience:
        due = min(total, int((time.time() - began) * rate) + 1)
        if due == posted:
            await asyncio.sleep(max(0.0, began + posted / rate - time.time()))
            continue
        rows = [event(n) for n in range(posted + 1, min(due, posted + MAX_POST) + 1)]
        for row in rows:
            row["payload"]["at"] = began + (row["seq"] - 1) / rate
        await poster.post(msgspec.json.encode({"lease_generation": 1, "events": rows}))
        posted = rows[-1]["seq"]
    return posted


async def first_after_pause(services: Services, tries: int = 60) -> list[float]:
    """Return the delays of single events after a pause, from their POST on, in seconds."""
    attempt = services.new_attempt()
    watcher = Watcher(
        f"{services.url.replace('http', 'ws', 1)}/ws/attempts/{attempt}/", services.reader()
    )
    task = asyncio.create_task(watcher.run())
    await watcher.ready.wait()
    await asyncio.sleep(0.5)
    async with httpx.AsyncClient(headers=services.writer(attempt), trust_env=False) as client:
        for seq in range(1, tries + 1):
            await asyncio.sleep(PAUSE_S)
            row = event(seq)
            row["payload"]["at"] = time.time()
            body = {"lease_generation": 1, "events": [row]}
            await client.post(f"{services.url}/api/attempts/{attempt}/events/", json=body)
        await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return watcher.delays


STORE = """
WITH taken AS (UPDATE attempts_attempt SET last_seq = last_seq + 1 WHERE id = %(id)s
    RETURNING last_seq, created_at)
INSERT INTO attempts_attemptevent
    (attempt_id, seq, "timestamp", type, payload, attempt_created_at)
SELECT %(id)s, last_seq, now(), 'LOG', jsonb_build_object('at', %(at)s::float8),
    created_at FROM taken
"""


async def first_after_commit(services: Services, tries: int = 60) -> list[float]:
    """Return the delays of single events after a pause, from their announcement on, in seconds.

    The events are stored and announced here, as by another process of the backend.
    """
    attempt = services.new_attempt()
    watcher = Watcher(
        f"{services.url.replace('http', 'ws', 1)}/ws/attempts/{attempt}/", services.reader()
    )
    task = asyncio.create_task(watcher.run())
    await watcher.ready.wait()
    await asyncio.sleep(0.5)
    layer = RedisPubSubChannelLayer(hosts=[services.redis_url], prefix="rootbound")
    stored = []
    with services.database() as db:
        for _ in range(tries):
            await asyncio.sleep(PAUSE_S)
            db.execute(STORE, {"id": attempt, "at": 1.0})
            stored.append(time.time())
            await layer.group_send(f"attempt_{attempt}", {"type": "wake", "at": stored[-1]})
        await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    # Delays are against 1.0 s since the epoch, which is when the events say that they happened.
    return [delay + 1.0 - at for delay, at in zip(watcher.delays, stored, strict=True)]


async def big_log(services: Services, megabytes: int = 100) -> dict[str, float]:
    """Read a long stream with ten clients; return memory in MiB and times in seconds."""
    attempt, seq = services.new_attempt(), 0
    url = f"{services.url}/api/attempts/{attempt}/events/"
    text = "x" * 1000
    async with httpx.AsyncClient(
        headers=services.writer(attempt), trust_env=False, timeout=120
    ) as client:
        for _ in range(megabytes):
            rows = [event(n, text) for n in range(seq + 1, seq + 1001)]
            seq += 1000
            answer = await client.post(url, json={"lease_generation": 1, "events": rows})
            answer.raise_for_status()
    async with httpx.AsyncClient(headers=services.reader(), trust_env=False, timeout=120) as client:
        began = time.perf_counter()
        page = (await client.get(f"{url}?tail=500")).json()
        end_s = time.perf_counter() - began
        assert page["results"][-1]["seq"] == seq
        began = time.perf_counter()
        await client.get(f"{url}?q=needle")
        search_s = time.perf_counter() - began
    socket_url = f"{services.url.replace('http', 'ws', 1)}/ws/attempts/{attempt}/"
    began = time.perf_counter()
    async with connect(
        f"{socket_url}?tail=2000", additional_headers=services.reader(), max_size=None
    ) as socket:
        await socket.recv()
        await socket.recv()
        socket_s = time.perf_counter() - began
    before = services.backend.memory_info().rss
    peak = 0
    watchers = [through_jupyter(services, attempt) for _ in range(10)]
    tasks = [asyncio.create_task(one.run()) for one in watchers]
    began = time.perf_counter()
    while any(len(one.seen) < seq for one in watchers):
        peak = max(peak, services.backend.memory_info().rss)
        await asyncio.sleep(0.05)
        if time.perf_counter() - began > 300:
            break
    read_s = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    complete = all(one.seen == list(range(1, seq + 1)) for one in watchers)
    return {
        "growth_mib": (peak - before) / MIB, "end_s": end_s, "socket_s": socket_s,
        "search_s": search_s, "read_s": read_s, "complete": float(complete),
    }  # fmt: skip
