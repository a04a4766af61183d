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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

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
        amount = min(rows, size * 400)
        ours, copy, ratio = against_copy(services, size, amount, at_once)
        flying = ", two posts in flight" if at_once == 2 else ""
        yield (
            f"Ingestion, {size} a batch{flying}", f"{ours:,.0f} rows/s",
            f"{ratio:.2f} of COPY ({copy:,.0f} rows/s)", f">= {least}", ratio >= least,
        )  # fmt: skip
    for size in (100, 1000, 5000):
        yield against_stock(services, size)


def against_stock(services: Services, size: int) -> Line:
    """Our rows a second beside the usual serializer's: medians of rounds in turn."""
    ours, stocks, posts = [], [], max(4, 4000 // size)
    for _ in range(ROUNDS):
        stocks.append(measures.post_rate(services.stock_url, services, size, size * posts))
        ours.append(measures.post_rate(services.url, services, size, size * posts * 5))
    stock = statistics.median(stocks)
    times = statistics.median(one / other for one, other in zip(ours, stocks, strict=True))
    return (
        f"Against ListSerializer and bulk_create, {size} a batch",
        f"{statistics.median(ours):,.0f} rows/s", f"{stock:,.0f} rows/s: {times:.1f} times",
        ">= 10", times >= 10,
    )  # fmt: skip


async def first_event(services: Services) -> list[Line]:
    """How soon the first event after a pause is at its viewer: rounds, each beside raw Redis."""
    stored, posted, raw = [], [], []
    for _ in range(3):
        raw += await measures.pubsub_latency(services)
        stored += await measures.first_after_commit(services)
        posted += await measures.first_after_pause(services)
    base = statistics.median(raw)
    lines: list[Line] = []
    for what, found in (("announcement", stored), ("POST", posted)):
        ratio = statistics.median(found) / base
        lines.append(
            (f"First event after a pause, {what} to socket, p50",
             f"{statistics.median(found) * 1e3:.1f} ms",
             f"{ratio:.1f} times raw publish-subscribe ({base * 1e3:.2f} ms)", "<= 10",
             ratio <= 10)
        )  # fmt: skip
    return lines


VIEWING_ROUNDS = 3


async def crowd(services: Services, rate: int, seconds: float) -> Line:
    """A hundred viewers, and the same with a stock consumer: medians of rounds in turn.

    A stock consumer of 5,000 messages a second needs nearly a whole core, so a little less of it
    makes its delays many times as long: one round is luck.
    """
    ours, stocks = [], []
    for _ in range(VIEWING_ROUNDS):
        ours.append(await measures.watch(services, viewers=100, rate=rate, seconds=seconds))
        stocks.append(
            await measures.watch(services, viewers=100, rate=rate, seconds=seconds, stock=True)
        )
    complete = min(one["complete"] for one in ours)
    times = [stock["p50"] / own["p50"] for own, stock in zip(ours, stocks, strict=True)]
    spread = f"{min(times):.0f} to {max(times):.0f} in {len(times)} rounds"
    return (
        f"100 viewers, {rate} events/s",
        f"{complete:.0%} complete, {_delays(*ours)}",
        f"{_stock(stocks)}: {statistics.median(times):.0f} times ({spread})",
        "all complete, p50 at most 1/20",
        complete == 1 and statistics.median(times) >= 20,
    )


def _stock(rounds: list[dict[str, Any]]) -> str:
    share, total, posted = (
        statistics.median(one[name] for one in rounds) for name in ("share", "total", "posted_in")
    )
    return f"stock: {share:.0%} of {total:,.0f} events posted in {posted:.0f} s, {_delays(*rounds)}"


def _delays(*rounds: dict[str, Any]) -> str:
    p50, p99 = (statistics.median(one[name] for one in rounds) * 1e3 for name in ("p50", "p99"))
    return f"p50 {p50:.{1 if p50 < 10 else 0}f} ms, p99 {p99:.0f} ms"


def _gaps(services: Services, during: str) -> Line:
    """How late Jupyter's event loop was since it was last asked."""
    found = sorted(services.gaps())
    p99 = found[int(len(found) * 0.99)]
    return (
        f"Jupyter's event loop, gap p99, {during}", f"{p99 * 1e3:.1f} ms",
        f"p50 {found[len(found) // 2] * 1e3:.1f} ms, most {found[-1] * 1e3:.0f} ms", "< 50 ms",
        p99 < 0.05,
    )  # fmt: skip


async def endurance(services: Services, seconds: float) -> list[Line]:
    """A thousand events a second, to ten viewers of whom two are difficult."""
    services.gaps()
    got = await measures.watch(services, viewers=10, rate=1000, seconds=seconds, odd=True)
    return [
        (f"1,000 events/s for {seconds:.0f} s, 10 viewers, one slow, one reconnecting",
         f"{got['complete']:.0%} of viewers have all in order, none twice",
         f"{_delays(got)}, posted in {got['posted_in']:.0f} s", "100 %", got["complete"] == 1),
        _gaps(services, "with the ten viewers"),
    ]  # fmt: skip


async def reading(services: Services, megabytes: int) -> list[Line]:
    """A long stream: memory, and how soon its end is there."""
    services.gaps()
    await asyncio.sleep(3)
    idle = _gaps(services, "idle")
    got = await measures.big_log(services, megabytes)
    memory, end, socket = got["growth_mib"], got["end_s"], got["socket_s"]
    whole = bool(got["complete"])
    return [
        (f"{megabytes} MB read by 10 clients", f"+{memory:.0f} MiB",
         f"{'all complete' if whole else 'NOT complete'} in {got['read_s']:.0f} s", "< 150 MiB",
         whole and memory < 150),
        idle,
        _gaps(services, f"while {megabytes} MB are read through it by 10 clients"),
        (f"{megabytes} MB opened at its end, REST", f"{end * 1e3:.0f} ms", "500 events", "< 1 s",
         end < 1),
        (f"{megabytes} MB opened at its end, WebSocket", f"{socket * 1e3:.0f} ms", "first frame",
         "< 1 s", socket < 1),
        ("One step of a search (10 MB)", f"{got['search_s'] * 1e3:.0f} ms", "", "< 2 s",
         got["search_s"] < 2),
    ]  # fmt: skip


def _processor() -> str:
    """Return the processor's name."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "processor unknown")


def table(lines: list[tuple[Line, float]], before: str = "") -> str:
    """Return the results as Markdown; rows of an earlier table stay where they were not redone."""
    machine = (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores "
        f"({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB, Python "
        f"{platform.python_version()}; load generator and services share the cores. The last "
        "column is the load average of the minute in which the row was measured; the work itself "
        "makes about 1.5 of it."
    )
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in before.splitlines()
            if row.startswith("| ") and not row.startswith("| what ")}  # fmt: skip
    for (a, b, c, d, ok), load in lines:
        rows[a] = f"| {a} | {b} | {c} | {d} | {'yes' if ok else '**no**'} | {load:.1f} |"
    head = [
        "# The stream", "", machine, "",
        "| what | Rootbound | beside it | wanted | holds | load |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    return "\n".join([*head, *rows.values(), ""])


PARTS = ("ingestion", "first", "reading", "crowd", "endurance")


def measured(services: Services, parts: Sequence[str], *, quick: bool) -> Iterator[Line]:
    """Yield one result after the other."""
    if "ingestion" in parts:
        yield from ingestion(services, 20_000 if quick else 200_000)
    if "first" in parts:
        yield from asyncio.run(first_event(services))
    if "reading" in parts:
        yield from asyncio.run(reading(services, 10 if quick else 100))
    if "crowd" in parts:
        for rate in (50, 1000):
            yield asyncio.run(crowd(services, rate, 2 if quick else 5))
    if "endurance" in parts:
        yield from asyncio.run(endurance(services, 6 if quick else 60))


def main() -> int:
    """Run all, or some, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default=",".join(PARTS), help="parts to redo, with commas: " + ", ".join(PARTS)
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    options = parser.parse_args()
    quick, parts = options.quick, options.only.split(",")
    before = ""
    if set(parts) != set(PARTS) and options.output.exists():
        before = options.output.read_text(encoding="utf-8")
    lines: list[tuple[Line, float]] = []
    with running() as services:
        for line in measured(services, parts, quick=quick):
            lines.append((line, os.getloadavg()[0]))
            print(*line, sep=" | ", flush=True)
            # What is known so far, should it be stopped.
            if not quick or options.output != DEFAULT_OUTPUT:
                options.output.parent.mkdir(parents=True, exist_ok=True)
                options.output.write_text(table(lines, before), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
