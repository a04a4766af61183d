"""What the stream does per second, how late it is, and what it takes, as ratios of one run.

``python benchmarks/stream.py [--quick]`` writes ``benchmarks/results/stream.md``. Machines differ,
and so do their hours; so each figure stands beside one that was measured next to it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.stream_support import measures  # noqa: E402
from benchmarks.stream_support.services import Services, running  # noqa: E402

DEFAULT_OUTPUT = ROOT / "benchmarks/results/stream.md"
Line = tuple[str, str, str, str, bool]


ROUNDS = 5


def against_copy(
    services: Services, size: int, rows: int, at_once: int = 1
) -> tuple[float, float, float]:
    """Return our rows a second, COPY's, and the ratio: medians of rounds of COPY, ours, COPY."""
    ours, copies, ratios = [], [], []
    for _ in range(ROUNDS):
        before = measures.copy_rate(services, size, rows // ROUNDS)
        rate = measures.post_rate(services.url, services, size, rows // ROUNDS, at_once)
        after = measures.copy_rate(services, size, rows // ROUNDS)
        beside = statistics.geometric_mean([before, after])
        ours.append(rate)
        copies.append(beside)
        ratios.append(rate / beside)
    return statistics.median(ours), statistics.median(copies), statistics.median(ratios)


def ingestion(services: Services, rows: int) -> Iterator[Line]:
    """Rows a second through HTTP as a share of binary COPY in batches of the same size."""
    for size, at_once, least in ((100, 1, 0.1), (1000, 1, 0.35), (5000, 1, 0.5), (5000, 2, 0.65)):
        amount = min(rows, size * 100)
        ours, copy, ratio = against_copy(services, size, amount, at_once)
        flying = ", two posts in flight" if at_once == 2 else ""
        yield (
            f"Ingestion, {size} a batch{flying}", f"{ours:,.0f} rows/s",
            f"{ratio:.2f} of COPY ({copy:,.0f} rows/s)", f">= {least}", ratio >= least,
        )  # fmt: skip
    stock = measures.post_rate(services.stock_url, services, 1000, rows // 10)
    rate = measures.post_rate(services.url, services, 1000, rows)
    yield (
        "Against ListSerializer and bulk_create, 1000 a batch",
        f"{rate:,.0f} rows/s", f"{stock:,.0f} rows/s: {rate / stock:.1f} times", ">= 10",
        rate >= 10 * stock,
    )  # fmt: skip


async def first_event(services: Services) -> Line:
    """How soon the first event after a pause is at its viewer."""
    raw = statistics.median(await measures.pubsub_latency(services))
    first = statistics.median(await measures.first_after_pause(services))
    return (
        "First event after a pause, POST to socket, p50", f"{first * 1e3:.1f} ms",
        f"{first / raw:.1f} times raw publish-subscribe ({raw * 1e3:.2f} ms)", "<= 10",
        first <= 10 * raw,
    )  # fmt: skip


async def crowd(services: Services, rate: int, seconds: float) -> Line:
    """A hundred viewers, and the same with a stock consumer."""
    ours = await measures.watch(services, viewers=100, rate=rate, seconds=seconds)
    stock = await measures.watch(services, viewers=100, rate=rate, seconds=seconds, stock=True)
    return (
        f"100 viewers, {rate} events/s",
        f"{ours['complete']:.0%} complete, {_delays(ours)}",
        f"stock: {stock['share']:.0%} of events, {_delays(stock)}",
        "all complete, p50 at most 1/20",
        ours["complete"] == 1 and stock["p50"] >= 20 * ours["p50"],
    )  # fmt: skip


def _delays(got: dict[str, Any]) -> str:
    return f"p50 {got['p50'] * 1e3:.0f} ms, p99 {got['p99'] * 1e3:.0f} ms"


async def endurance(services: Services, seconds: float) -> Line:
    """A thousand events a second, to ten viewers of whom two are difficult."""
    got = await measures.watch(services, viewers=10, rate=1000, seconds=seconds, odd=True)
    return (
        f"1,000 events/s for {seconds:.0f} s, 10 viewers, one slow, one reconnecting",
        f"{got['complete']:.0%} of viewers have all in order, none twice",
        f"{_delays(got)}, posted in {got['posted_in']:.0f} s",
        "100 %", got["complete"] == 1,
    )  # fmt: skip


async def reading(services: Services, megabytes: int) -> list[Line]:
    """A long stream: memory, and how soon its end is there."""
    got = await measures.big_log(services, megabytes)
    memory, end, socket = got["growth_mib"], got["end_s"], got["socket_s"]
    whole = bool(got["complete"])
    return [
        (f"{megabytes} MB read by 10 clients in {got['read_s']:.0f} s", f"+{memory:.0f} MiB",
         "all complete" if whole else "NOT complete", "< 150 MiB", whole and memory < 150),
        (f"{megabytes} MB opened at its end", f"{end * 1e3:.0f} ms", "REST, 500 events", "< 1 s",
         end < 1),
        (f"{megabytes} MB opened at its end", f"{socket * 1e3:.0f} ms", "WebSocket, first frame",
         "< 1 s", socket < 1),
        ("One step of a search (10 MB)", f"{got['search_s'] * 1e3:.0f} ms", "", "< 2 s",
         got["search_s"] < 2),
    ]  # fmt: skip


def table(lines: list[Line]) -> str:
    """Return the results as Markdown."""
    load = os.getloadavg()
    machine = (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; load generator and services share the cores; load "
        f"average at the end {load[0]:.1f}, of 15 minutes {load[2]:.1f}."
    )
    head = [
        "# The stream", "", machine, "",
        "| what | Rootbound | beside it | wanted | holds |", "|---|---|---|---|---|",
    ]  # fmt: skip
    rows = [f"| {a} | {b} | {c} | {d} | {'yes' if ok else '**no**'} |" for a, b, c, d, ok in lines]
    return "\n".join([*head, *rows, ""])


def measured(services: Services, *, quick: bool) -> Iterator[Line]:
    """Yield one result after the other."""
    yield from ingestion(services, 20_000 if quick else 200_000)
    yield asyncio.run(first_event(services))
    yield from asyncio.run(reading(services, 10 if quick else 100))
    for rate in (50, 1000):
        yield asyncio.run(crowd(services, rate, 2 if quick else 10))
    yield asyncio.run(endurance(services, 6 if quick else 60))


def main() -> int:
    """Run all and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    options = parser.parse_args()
    quick = options.quick
    lines: list[Line] = []
    with running() as services:
        for line in measured(services, quick=quick):
            lines.append(line)
            print(*line, sep=" | ", flush=True)
            # What is known so far, should it be stopped.
            if not quick or options.output != DEFAULT_OUTPUT:
                options.output.parent.mkdir(parents=True, exist_ok=True)
                options.output.write_text(table(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
