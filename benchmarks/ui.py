"""What the front end costs, in Chromium; ratios are of ways measured in turn in one run.

Run it with ``python benchmarks/ui.py`` after ``make install``; it writes
``benchmarks/results/ui.md``. The views are the real ones: bundled into a page of their own, over a
server that the page plays (`ui_support/page.ts`), so that nothing but the front end is measured.
Opening JupyterLab is measured with and without the extension in the page, on one server.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.lab import CHROMIUM_FLAGS, TOKEN, Lab, chromium_path, running_lab  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
UI = ROOT / "widgets" / "ui"
MOST_BYTES = 60 * 1024
CONFIG = re.compile(r'(<script id="jupyter-config-data"[^>]*>)(.*?)(</script>)', re.DOTALL)
READY = "() => window.jupyterapp && window.jupyterapp.restored.then(() => true)"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    found: str
    wanted: str
    holds: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "yes", False: "**no**", None: ""}[self.holds]
        return f"| {self.what} | {self.found} | {self.wanted} | {verdict} |"


def sizes() -> Iterator[Row]:
    """Weigh what a notebook keeps for each kind of widget."""
    for script in sorted((ROOT / "widgets/rootbound/static").glob("*.js")):
        packed = len(gzip.compress(script.read_bytes()))
        style = script.with_suffix(".css")
        packed += len(gzip.compress(style.read_bytes())) if style.is_file() else 0
        yield Row(
            f"Bundle of `{script.stem}` with its style, gzipped", f"{packed / 1024:.1f} kB",
            "<= 60 kB", packed <= MOST_BYTES,
        )  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser that tells its memory exactly."""
    flags = [*CHROMIUM_FLAGS, "--enable-precise-memory-info", "--js-flags=--expose-gc"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=flags)
        try:
            yield browser
        finally:
            browser.close()


def bundled(folder: Path) -> Path:
    """Bundle the page."""
    target = folder / "page.js"
    subprocess.run(
        [
            str(UI / "node_modules/.bin/esbuild"), str(ROOT / "benchmarks/ui_support/page.ts"),
            "--bundle", "--minify", "--format=iife", f"--outfile={target}", "--jsx=automatic",
            "--jsx-import-source=preact", "--log-level=warning",
        ],
        check=True,
        cwd=UI,
        env={**os.environ, "NODE_PATH": str(UI / "node_modules")},
    )  # fmt: skip
    return target


def fresh(browser: Browser, script: Path) -> Page:
    """Open the page anew, so that no run inherits another's memory."""
    page = browser.new_page(viewport={"width": 1100, "height": 760})
    page.goto("about:blank")
    page.add_style_tag(path=script.with_suffix(".css"))
    page.add_script_tag(path=script)
    return page


def heap(page: Page) -> float:
    """Return the bytes of the page's heap after a collection."""
    page.evaluate("() => { gc(); gc(); }")
    return float(page.evaluate("() => performance.memory.usedJSHeapSize"))


def percentile(values: list[float], share: float) -> float:
    """Return a percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def streams(browser: Browser, script: Path, lines: int, rounds: int) -> Iterator[Row]:
    """Open a short and a long stream in turn."""
    took: dict[int, list[float]] = {1000: [], lines: []}
    kept: dict[int, list[float]] = {1000: [], lines: []}
    for number in range(rounds + 1):
        for count in took:
            page = fresh(browser, script)
            found = float(page.evaluate("count => bench.openStream(count)", count))
            used = heap(page)
            page.close()
            if number:  # the first round warms up
                took[count].append(found)
                kept[count].append(used)
    for what, found, limit, unit in (
        ("First paint", took, 1.5, "ms"),
        (
            "Memory",
            {key: [one / 2**20 for one in values] for key, values in kept.items()},
            2,
            "MiB",
        ),
    ):
        short, long = statistics.median(found[1000]), statistics.median(found[lines])
        ratio = statistics.median(b / a for a, b in zip(found[1000], found[lines], strict=True))
        yield Row(
            f"{what} of {lines:,} lines of log, of that of 1,000",
            f"{long:.1f} {unit} to {short:.1f} {unit}: {ratio:.2f}", f"<= {limit}", ratio <= limit,
        )  # fmt: skip


def following(browser: Browser, script: Path, count: int, rate: int) -> Iterator[Row]:
    """Follow events that come at a rate."""
    page = fresh(browser, script)
    page.evaluate("count => bench.openStream(count)", 1000)
    found = page.evaluate("([count, rate]) => bench.follow(count, rate)", [count, rate])
    page.close()
    worst = percentile(found["frames"], 0.99)
    what = f"{count:,} events at {rate:,} a second"
    yield Row(
        f"{what}: main thread in tasks over 50 ms", f"{found['blocked']:.1%}", "< 20 %",
        found["blocked"] < 0.2,
    )  # fmt: skip
    yield Row(f"{what}: frame, p99", f"{worst:.0f} ms", "<= 100 ms", worst <= 100)


def scrolling(browser: Browser, script: Path, count: int) -> Iterator[Row]:
    """Scroll through a long audit."""
    page = fresh(browser, script)
    page.set_default_timeout(240_000)
    found = page.evaluate("count => bench.scrollAudit(count)", count)
    page.close()
    what = f"Audit scrolled through {count:,} rows"
    yield Row(f"{what}: DOM nodes at most", f"{found['nodes']:,}", "< 2,000", found["nodes"] < 2000)
    middle, worst = (percentile(found["frames"], share) for share in (0.5, 0.99))
    yield Row(f"{what}: frame", f"p50 {middle:.0f} ms, p99 {worst:.0f} ms", "")


def without_extension(route: Route) -> None:
    """Serve Lab's page as a server without Rootbound would."""
    answer = route.fetch()
    route.fulfill(response=answer, body=CONFIG.sub(_without, answer.text()))


def _without(found: re.Match[str]) -> str:
    config = json.loads(found[2])
    config.pop("rootbound")
    config["federated_extensions"] = [
        one for one in config["federated_extensions"] if one["name"] != "@rootbound/lab"
    ]
    return f"{found[1]}{json.dumps(config)}{found[3]}"


def with_extension(route: Route) -> None:
    """Serve Lab's page as it is, by the same way."""
    answer = route.fetch()
    route.fulfill(response=answer, body=answer.text())


def opening(browser: Browser, lab: Lab, rounds: int) -> Iterator[Row]:
    """Open JupyterLab with and without the extension in turn."""
    took: dict[str, list[float]] = {"without": [], "with": []}
    ways = [("without", without_extension), ("with", with_extension)]
    for number in range(rounds + 1):
        # Each goes first as often as the other: what comes second finds more in the caches.
        for way, serve in ways if number % 2 else reversed(ways):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.route(re.compile(r"/lab\?"), serve)
            began = time.perf_counter()
            page.goto(f"{lab.url}lab?token={TOKEN}&reset")
            page.wait_for_function(READY, timeout=120_000)
            spent = time.perf_counter() - began
            has = page.evaluate(
                "() => window.jupyterapp.commands.hasCommand('rootbound:open-board')"
            )
            if has is not (way == "with"):
                raise RuntimeError(f"Lab opened {way} the extension says otherwise.")
            context.close()
            if number:
                took[way].append(spent)
    ratio = statistics.median(b / a for a, b in zip(took["without"], took["with"], strict=True))
    found = f"{statistics.median(took['with']):.2f} s to {statistics.median(took['without']):.2f} s"
    yield Row(
        "Opening JupyterLab with the extension, of opening it without",
        f"{found}: {ratio:.3f}", "<= 1.05", ratio <= 1.05,
    )  # fmt: skip


def table(rows: list[Row], options: argparse.Namespace, version: str) -> str:
    """Return the results as Markdown."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    machine = (
        f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}, "
        f"{os.cpu_count()} cores, "
        f"Chromium {version} without a screen; medians of {options.rounds} rounds, of opening "
        f"JupyterLab of {3 * options.rounds}; "
        f"load average {load}."
    )
    head = [
        "# The front end\n",
        f"{machine}\n",
        "| what | found | wanted | holds |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *map(str, rows)]) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-lab", action="store_true", help="leave out opening JupyterLab")
    options = parser.parse_args()
    # It takes this module's own parts.
    from benchmarks.ui_support.board_rows import boards

    rows: list[Row] = list(sizes())
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        script = bundled(Path(folder))
        rows += streams(browser, script, options.lines, options.rounds)
        rows += following(browser, script, 10_000, 1_000)
        rows += scrolling(browser, script, options.rows)
        rows += boards(browser, script, 2000, options.rounds)
        if not options.no_lab:
            with running_lab(Path(folder) / "home", Path(folder) / "lab") as lab:
                # One opening varies by a tenth, which is more than is asked of the ratio.
                rows += opening(browser, lab, 3 * options.rounds)
        version = browser.version
    text = table(rows, options, version)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ui.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
