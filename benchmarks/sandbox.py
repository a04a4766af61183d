"""What the sandbox and its audit cost, against the same work without it and against others.

Run it with ``python benchmarks/sandbox.py``; it writes ``benchmarks/results/sandbox.md`` and
``sandbox.json`` after each workload. Every round runs every mode of a workload once, so that a
change of the machine's load meets all of them; the figures are medians. Each row of the table is a
measurement of its own: a run of some workloads (``--only``) leaves the other rows as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sandbox_modes import Mode, ModeError, Sandlock, modes
from sandbox_work import Work, prepare

from rootbound_lda.outbox import Outbox
from rootbound_lda.policy import Policy, build_policy
from rootbound_lda.sandbox import Sandbox, probe

RESULTS = Path(__file__).resolve().parent / "results"
Rows = dict[str, dict[str, Any]]
"""Of each workload: unit, figures of each mode, rounds, and the load before and after."""


def world(base: Path) -> Policy:
    """Make a run's folders."""
    state = base / "state"
    tree = state / "worktrees" / "bench"
    for folder in (tree, base / "projects" / "repo" / ".git"):
        folder.mkdir(parents=True)
    return build_policy(
        run_id="bench", worktree=tree, repo_path=base / "projects" / "repo",
        git_common_dir=base / "projects" / "repo" / ".git", private_dir=state / "runs" / "bench",
        state_dir=state, writable_roots=[str(base / "projects")],
        readable_paths=[], network={}, limits={},
    )  # fmt: skip


async def measure(work: Work, every: list[Mode], rounds: int) -> dict[str, list[float]]:
    """Return the figures of each mode, in the workload's unit."""
    fitting = [mode for mode in every if mode.fits(work)]
    figures: dict[str, list[float]] = {mode.name: [] for mode in fitting}
    failed: set[str] = set()
    for number in range(rounds + 1):
        for mode in fitting:
            if mode.name in failed:
                continue
            try:
                spent, text = await mode.run(work)
            except ModeError as error:
                print(f"  {error}", file=sys.stderr)
                failed.add(mode.name)
                continue
            finally:
                work.clear()
            # The first round only warms caches.
            if number:
                figures[mode.name].append(
                    float(text) if work.printed else spent * (1e3 if work.unit == "ms" else 1)
                )
    return {name: values for name, values in figures.items() if len(values) == rounds}


def table(rows: Rows) -> str:
    """Return the medians as one Markdown table; in brackets what comes on top of plain."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row["figures"]))
    lines = ["| " + " | ".join(["", *names, "rounds, load"]) + " |"]
    lines.append("|" + "---|" * (len(names) + 2))
    for work, row in rows.items():
        small = row["unit"] in ("ms", "us")
        base = statistics.median(row["figures"][names[0]])
        cells = [f"{work} ({row['unit']})"]
        for name in names:
            values = row["figures"].get(name)
            if not values:
                cells.append("-")
                continue
            value = statistics.median(values)
            beside = f" (+{max(value - base, 0):.1f})" if small else f" ({value / base:.2f}x)"
            text = f"{value:.1f}" if small else f"{value:.3f}"
            cells.append(text if name == names[0] else text + beside)
        cells.append(f"{row['rounds']}, {row['load'][0]:.1f} to {row['load'][1]:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Describe the machine without naming it."""
    return {
        "system": platform.system(), "kernel": platform.release().split("-")[0],
        "machine": platform.machine(), "cores": os.cpu_count(),
        "python": platform.python_version(), "root": os.geteuid() == 0,
    }  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default 7)")
    parser.add_argument("--sandlock", help="an interpreter that has sandlock")
    parser.add_argument(
        "--only",
        default="",
        help="workloads whose name holds one of these words, such as clone,untar",
    )
    parser.add_argument("--python", default=sys.executable, help="an interpreter with pytest")
    parser.add_argument("--fallback", action="store_true", help="also the supervisor in Python")
    parser.add_argument(
        "--memory", help="a tmpfs to work in, as a slow disk hides what is compared; marks the rows"
    )
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args()
    os.environ.setdefault("ROOTBOUND_LDA_READABLE_PATHS", str(Path(options.python).parents[1]))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="rootbound-bench-", dir=options.memory)
        )
        base = await asyncio.to_thread(Path(folder).resolve)
        policy = world(base)
        sandboxes = {"": Sandbox()}
        if options.fallback:
            sandboxes[" (Python)"] = Sandbox(supervisor="python")
        if wall := (await probe()).wall:
            sandboxes[" behind bubblewrap"] = Sandbox(wall=wall)
        for sandbox in sandboxes.values():
            await sandbox.start()
            stack.push_async_callback(sandbox.stop)
        outbox = Outbox(base / "outbox.sqlite3")
        stack.callback(outbox.close)
        every, absent = modes(sandboxes, policy, outbox, options.sandlock, base)
        for mode in every:
            if isinstance(mode, Sandlock):
                stack.callback(mode.close)
        works = prepare(policy.worktree, policy.private_tmp, options.python, options.only)
        rows = {} if options.dry else earlier()
        for work in works:
            print(work.name, file=sys.stderr)
            load = os.getloadavg()[0]
            figures = await measure(work, every, options.rounds)
            name = f"{work.name}, in memory" if options.memory else work.name
            rows[name] = {"unit": work.unit, "figures": figures, "rounds": options.rounds,
                               "load": [load, os.getloadavg()[0]]}  # fmt: skip
            if not options.dry:
                write(rows, absent)
    print(table(rows), *absent, sep="\n")


def earlier() -> Rows:
    """Return the rows of runs before, so that a run of one workload leaves the others."""
    try:
        rows: Rows = json.loads((RESULTS / "sandbox.json").read_text())["rows"]
    except (FileNotFoundError, KeyError):
        return {}
    return rows


def write(rows: Rows, absent: list[str]) -> None:
    facts = machine()
    about = (
        f"{facts['system']} {facts['kernel']}, {facts['machine']}, {facts['cores']} cores, Python "
        f"{facts['python']}. Each row is a measurement of its own: every mode in turn, so many "
        "rounds; medians, in brackets what comes on top of plain. The load is that of the machine "
        "before and after, the measurement's own included."
    )
    RESULTS.mkdir(exist_ok=True)
    parts = ["# The sandbox and its audit: what they cost", about, table(rows), *absent]
    (RESULTS / "sandbox.md").write_text("\n\n".join(parts) + "\n")
    data = {"machine": facts, "absent": absent, "rows": rows}
    (RESULTS / "sandbox.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
