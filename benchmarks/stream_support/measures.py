"""The measurements of the stream, each against something to compare with in the same run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import statistics
import time
import uuid
from typing import Any

import httpx
import msgspec
from psycopg.types.json import Jsonb
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from .services import Services, event

MIB = 1024 * 1024
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
    """Return the rows a second of posts over real HTTP, `at_once` in flight."""
    posts = max(at_once, rows // size)

    def prepare() -> tuple[str, list[bytes]]:
        attempt = services.new_attempt()
        count = posts // at_once
        return attempt, [
            msgspec.json.encode(
                {"lease_generation": 1,
                 "events": [event(n) for n in range(index * size + 1, (index + 1) * size + 1)]}
            )
            for index in range(count)
        ]  # fmt: skip

    def post(attempt: str, bodies: list[bytes]) -> None:
        headers = {**services.writer(attempt), "Content-Type": "application/json"}
        with httpx.Client(headers=headers, trust_env=False, timeout=120) as client:
            for body in bodies:
                answer = client.post(f"{url}/api/attempts/{attempt}/events/", content=body)
                answer.raise_for_status()

    work = [prepare() for _ in range(at_once)]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        began = time.perf_counter()
        for done in [pool.submit(post, *one) for one in work]:
            done.result()
        taken = time.perf_counter() - began
    return sum(len(bodies) for _, bodies in work) * size / taken


async def pubsub_latency(services: Services) -> list[float]:
    """Return latencies in seconds of raw Redis publish and subscribe."""
    client = Redis.from_url(services.redis_url)
    found = []
    async with client.pubsub() as listener:
        await listener.subscribe("bench")
        await listener.get_message(timeout=1)
        for _ in range(200):
            began = time.perf_counter()
            await client.publish("bench", b"x")
            while await listener.get_message(timeout=1, ignore_subscribe_messages=True) is None:
                pass
            found.append(time.perf_counter() - began)
    await client.aclose()
    return found


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
        frame = msgspec.json.decode(text)
        now = time.time()
        for one in frame.get("events", ()):
            self.seen.append(one["seq"])
            sent = one["payload"].get("at")
            if sent:
                self.delays.append(now - sent)
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        # Not each frame: the window is 1,000 events wide.
        if self.acks and self.seen and self.seen[-1] - self.acked >= 100:
            self.acked = self.seen[-1]
            await socket.send(json.dumps({"type": "ack", "seq": self.acked}))


async def watch(
    services: Services, *, viewers: int, rate: int, seconds: float, stock: bool = False,
    batch: int | None = None, odd: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Post events at a rate to some viewers and return how they fared.

    ``odd`` makes one viewer slow and lets another reconnect twice a second.
    """
    attempt = services.new_attempt()
    base = services.stock_url if stock else services.url
    path = f"{base}/api/attempts/{attempt}/events/" + ("tell/" if stock else "")
    socket_url = f"{base.replace('http', 'ws', 1)}/ws/attempts/{attempt}/"
    watchers = [Watcher(socket_url, services.reader(), acks=not stock) for _ in range(viewers)]
    if odd:
        watchers[0].slow_s, watchers[1].reconnect_s = 0.2, 0.5
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    await asyncio.gather(*(watcher.ready.wait() for watcher in watchers))
    await asyncio.sleep(0.5)
    size = batch or max(1, rate // 50)
    total = int(rate * seconds) // size * size
    async with httpx.AsyncClient(
        headers=services.writer(attempt), trust_env=False, timeout=120
    ) as client:
        began = time.perf_counter()
        for first in range(1, total + 1, size):
            rows = [event(n) for n in range(first, first + size)]
            for row in rows:
                row["payload"]["at"] = time.time()
            answer = await client.post(path, json={"lease_generation": 1, "events": rows})
            answer.raise_for_status()
            early = began + (first + size - 1) / rate - time.perf_counter()
            if early > 0:
                await asyncio.sleep(early)
            if time.perf_counter() - began > 3 * seconds + 10:
                # It cannot keep up with the rate; what it took so far is what is compared.
                total = first + size - 1
                break
        posted_in = time.perf_counter() - began
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


async def first_after_pause(services: Services, tries: int = 30) -> list[float]:
    """Return the delays of single events that come after a pause, in seconds."""
    attempt = services.new_attempt()
    watcher = Watcher(
        f"{services.url.replace('http', 'ws', 1)}/ws/attempts/{attempt}/", services.reader()
    )
    task = asyncio.create_task(watcher.run())
    await watcher.ready.wait()
    await asyncio.sleep(0.5)
    async with httpx.AsyncClient(headers=services.writer(attempt), trust_env=False) as client:
        for seq in range(1, tries + 1):
            await asyncio.sleep(0.15)
            row = event(seq)
            row["payload"]["at"] = time.time()
            body = {"lease_generation": 1, "events": [row]}
            await client.post(f"{services.url}/api/attempts/{attempt}/events/", json=body)
        await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return watcher.delays


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
    watchers = [Watcher(socket_url, services.reader()) for _ in range(10)]
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
