"""Rows of the front end's table about boards: a large one against a small one, and scrolling."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser

from benchmarks.ui import Row, fresh, percentile

SMALL = 20
MOST_NODES = 2000
SMOOTH_MS = 50.0


def boards(browser: Browser, script: Path, tasks: int, rounds: int) -> Iterator[Row]:
    """Open a small and a large board in turn, then scroll the large one while tasks change."""
    took: dict[int, list[float]] = {SMALL: [], tasks: []}
    for number in range(rounds + 1):
        for count, times in took.items():
            page = fresh(browser, script)
            found = float(page.evaluate("count => bench.openBoard(count)", count))
            page.close()
            if number:  # the first round warms up
                times.append(found)
    ratio = statistics.median(b / a for a, b in zip(took[SMALL], took[tasks], strict=True))
    short, long = statistics.median(took[SMALL]), statistics.median(took[tasks])
    yield Row(
        f"First card of a board of {tasks:,} tasks, of that of {SMALL}",
        f"{long:.1f} ms to {short:.1f} ms: {ratio:.2f}", "",
    )  # fmt: skip
    page = fresh(browser, script)
    page.evaluate("count => bench.openBoard(count)", tasks)
    scrolled = page.evaluate("() => bench.scrollBoard()")
    page.close()
    middle, worst = (percentile(scrolled["frames"], share) for share in (0.5, 0.99))
    what = f"Board of {tasks:,} tasks scrolled from end to end while tasks change"
    nodes = scrolled["nodes"]
    yield Row(f"{what}: DOM nodes at most", f"{nodes:,}", "< 2,000", nodes < MOST_NODES)
    yield Row(
        f"{what}: frame", f"p50 {middle:.0f} ms, p99 {worst:.0f} ms", "p99 <= 50 ms",
        worst <= SMOOTH_MS,
    )  # fmt: skip
