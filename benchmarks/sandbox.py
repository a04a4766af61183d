"""What the sandbox and its audit cost, against the same work without it and against others.

Run it with ``python benchmarks/sandbox.py``; it writes ``benchmarks/results/sandbox.md`` and
``sandbox.json`` after each workload. Every round runs every mode of a workload once, so that a
change of the machine's load meets all of them; the figures are medians.
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

from sandbox_modes import Mode, ModeError, Sandlock, first_command, modes
from sandbox_work import Work, prepare

from rootbound_lda.outbox import Outbox
from rootbound_lda.policy import Policy, build_policy
from rootbound_lda.sandbox import Sandbox

RESULTS = Path(__file__).resolve().parent / "results"


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
    figures: dict[str, list[float]] = {mode.name: [] for mode in every}
    failed: set[str] = set()
    for number in range(rounds + 1):
        for mode in every:
            if mode.name in failed:
                continue
            try:
                spent, text = await mode.run(work.argv)
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
    return figures


def table(measured: dict[str, Any]) -> str:
    """Return the medians as one Markdown table, a row for each workload.

    In brackets stands what comes on top of plain, or the ratio to it.
    """
    names = list(dict.fromkeys(name for row in measured.values() for name in row["figures"]))
    lines = ["| " + " | ".join(["", *names, "load"]) + " |", "|" + "---|" * (len(names) + 2)]
    for work, row in measured.items():
        cells = [_cell(row["figures"].get(name), row["figures"]["plain"], row["unit"])
                 for name in names]  # fmt: skip
        lines.append(
            "| " + " | ".join([f"{work} ({row['unit']})", *cells, str(row["load"])]) + " |"
        )
    return "\n".join(lines)


def _cell(values: list[float] | None, plain: list[float], unit: str) -> str:
    if not values:
        return "-"
    value, base = statistics.median(values), statistics.median(plain)
    small = unit in ("ms", "us")
    shown = f"{value:.{1 if small else 3}f}"
    if values is plain:
        return shown
    return f"{shown} (+{value - base:.1f})" if small else f"{shown} ({value / base:.2f}x)"


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
    parser.add_argument("--only", default="", help="workloads whose name holds this")
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
        for sandbox in sandboxes.values():
            await sandbox.start()
            stack.push_async_callback(sandbox.stop)
        outbox = Outbox(base / "outbox.sqlite3")
        stack.callback(outbox.close)
        every, absent = modes(sandboxes, policy, outbox, options.sandlock)
        walls = [mode for mode in [await first_command(policy, outbox)] if mode is not None]
        for mode in every:
            if isinstance(mode, Sandlock):
                stack.callback(mode.close)
        works = prepare(policy.worktree, policy.private_tmp, options.python, options.only)
        measured: dict[str, Any] = {} if options.dry else earlier()
        for work in works:
            print(work.name, file=sys.stderr)
            # A wall of its own is put up once in a run: it is the start that it changes.
            extra = walls if work.unit == "ms" else []
            figures = await measure(work, [*every, *extra], options.rounds)
            name = f"{work.name}, in memory" if options.memory else work.name
            measured[name] = {"unit": work.unit, "rounds": options.rounds, "figures": figures,
                                   "load": round(os.getloadavg()[0], 1)}  # fmt: skip
            # Written after each: what breaks off later keeps what was measured.
            if not options.dry:
                write(measured, absent)
    print(table(measured), *absent, sep="\n")


def earlier() -> dict[str, Any]:
    """Return what was measured before on a machine like this one, workload by workload."""
    try:
        data = json.loads((RESULTS / "sandbox.json").read_text())
    except FileNotFoundError:
        return {}
    return dict(data["measured"]) if data["machine"] == machine() else {}


def write(measured: dict[str, Any], absent: list[str]) -> None:
    """Write the table and its figures."""
    facts = machine()
    rounds = sorted({row["rounds"] for row in measured.values()})
    about = (
        f"{facts['system']} {facts['kernel']}, {facts['machine']}, {facts['cores']} cores, "
        f"Python {facts['python']}. Medians of {' or '.join(map(str, rounds))} interleaved rounds; "
        "in brackets what comes on top of plain, or the ratio to it. Each row was measured side by "
        "side in one run, at the load that stands at its end."
    )
    RESULTS.mkdir(exist_ok=True)
    parts = ["# The sandbox and its audit: what they cost", about, table(measured), *absent]
    (RESULTS / "sandbox.md").write_text("\n\n".join(parts) + "\n")
    data = {"machine": facts, "absent": absent, "measured": measured}
    (RESULTS / "sandbox.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
