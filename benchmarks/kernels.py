"""What a confined kernel costs: its start, and cells, against a plain kernel of the same Python.

Run it with ``python benchmarks/kernels.py``; it starts a stack of its own and writes
``benchmarks/results/kernels.md``. Every round runs a plain and a confined kernel one after the
other, so that a change of the machine's load meets both; the figures are medians, the ratios those
of the rounds' pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from rootbound import connect, rooted
from rootbound_server_ext.stack import api

RESULTS = Path(__file__).resolve().parent / "results"
CPU = """
import time
began = time.perf_counter()
total = 0
for number in range(6_000_000):
    total += number * number % 7
print(time.perf_counter() - began)
"""
FILES = """
import time
began = time.perf_counter()
for number in range(2000):
    with open('bench.txt', 'w') as file:
        file.write('x')
print(time.perf_counter() - began)
"""
ROWS = {
    "start, from the request to the first answer": "start",
    "a cell that computes": "cpu",
    "2,000 files opened for writing": "files",
    "round trip of an empty cell": "trip",
}


async def measure(make: Any, folder: Path) -> dict[str, float]:
    """Start one kernel, run the cells, and return seconds."""
    manager = make(kernel_name="python3")
    began = time.perf_counter()
    await manager.start_kernel(cwd=str(folder))
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        figures = {"start": time.perf_counter() - began}
        for name, code in (("cpu", CPU), ("files", FILES)):
            said: list[str] = []
            await client.execute_interactive(
                code, output_hook=lambda m, said=said: said.append(m["content"].get("text", ""))
            )
            figures[name] = float("".join(said))
        trips = []
        for _ in range(50):
            at = time.perf_counter()
            await client.execute_interactive("", output_hook=lambda _: None)
            trips.append(time.perf_counter() - at)
        figures["trip"] = statistics.median(trips)
        return figures
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def rounds(count: int, folder: Path) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return plain and confined figures of each round; the first one only warms caches."""
    found = []
    for number in range(count + 1):
        # Who is first has the colder caches: they take turns.
        kinds = [AsyncKernelManager, rooted.manager_class()]
        order = kinds if number % 2 else kinds[::-1]
        one, two = [await measure(kind, folder) for kind in order]
        pair = (one, two) if number % 2 else (two, one)
        if number:
            found.append(pair)
    return found


def table(found: list[tuple[dict[str, float], dict[str, float]]]) -> str:
    """Return the medians as a Markdown table."""
    lines = ["| | plain | confined | ratio | lowest to highest |", "|---|---|---|---|---|"]
    for title, name in ROWS.items():
        ratios = sorted(confined[name] / plain[name] for plain, confined in found)
        plain = statistics.median(one[name] for one, _ in found) * 1e3
        confined = statistics.median(one[name] for _, one in found) * 1e3
        lines.append(
            f"| {title} | {plain:.1f} ms | {confined:.1f} ms | {statistics.median(ratios):.2f} "
            f"| {ratios[0]:.2f} to {ratios[-1]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rb-bench-") as base:
        folder = Path(base).resolve() / "work"
        folder.mkdir()
        os.environ["ROOTBOUND_HOME"] = str(Path(base) / "home")
        api.start(None)
        try:
            connect(home=os.environ["ROOTBOUND_HOME"]).roots.add(str(folder))
            load = os.getloadavg()[0]
            found = asyncio.run(rounds(options.rounds, folder))
            load = max(load, os.getloadavg()[0])
        finally:
            api.down(None)
    text = (
        "# Confined kernels\n\n"
        f"Medians of {len(found)} rounds, plain and confined in turn; Python "
        f"{platform.python_version()}, Linux {platform.release().split('-')[0]}, "
        f"{os.cpu_count()} cores, load up to {load:.1f}. `python benchmarks/kernels.py`\n\n"
        f"{table(found)}\n"
    )
    (RESULTS / "kernels.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
