"""What the sandbox and its audit cost, against the same work without it and against others.

Run it with ``python benchmarks/sandbox.py``; it writes ``benchmarks/results/sandbox.md`` and
``sandbox.json``. Every round runs every mode of a workload once, so that a change of the
machine's load meets all of them; the figures are medians.
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
from rootbound_lda.sandbox import Sandbox

RESULTS = Path(__file__).resolve().parent / "results"
Figures = dict[str, dict[str, list[float]]]


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


def table(works: list[Work], figures: Figures, names: list[str]) -> str:
    """Return the medians as one Markdown table; in brackets the ratio to the first mode."""
    lines = ["| " + " | ".join(["", *(f"{w.name} ({w.unit})" for w in works)]) + " |"]
    lines.append("|" + "---|" * (len(works) + 1))
    for name in names:
        cells = [name]
        for work in works:
            values = figures[work.name].get(name)
            base = statistics.median(figures[work.name][names[0]])
            if not values:
                cells.append("-")
                continue
            value = statistics.median(values)
            beside = f" (+{value - base:.1f})" if work.unit in ("ms", "us") else (
                f" ({value / base:.2f}x)")  # fmt: skip
            digits = 1 if work.unit in ("ms", "us") else 3
            cells.append(f"{value:.{digits}f}" + ("" if name == names[0] else beside))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Describe the machine without naming it."""
    return {
        "system": platform.system(), "kernel": platform.release().split("-")[0],
        "machine": platform.machine(), "cores": os.cpu_count(),
        "python": platform.python_version(), "root": os.geteuid() == 0,
        "load": [round(value, 1) for value in os.getloadavg()],
    }  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default 7)")
    parser.add_argument("--sandlock", help="an interpreter that has sandlock")
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with pytest")
    parser.add_argument("--fallback", action="store_true", help="also the supervisor in Python")
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args()
    os.environ.setdefault("ROOTBOUND_LDA_READABLE_PATHS", str(Path(options.python).parents[1]))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rootbound-bench-"))
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
        for mode in every:
            if isinstance(mode, Sandlock):
                stack.callback(mode.close)
        works = prepare(policy.worktree, policy.private_tmp, options.python, options.only)
        figures: Figures = {}
        for work in works:
            print(work.name, file=sys.stderr)
            figures[work.name] = await measure(work, every, options.rounds)
    text = table(works, figures, [mode.name for mode in every])
    print(text, *absent, sep="\n")
    if not options.dry:
        write(text, figures, absent, options.rounds)


def write(text: str, figures: Figures, absent: list[str], rounds: int) -> None:
    facts = machine()
    about = (
        f"{facts['system']} {facts['kernel']}, {facts['machine']}, {facts['cores']} cores shared "
        f"with other work (load {facts['load'][0]} at the end), Python {facts['python']}. "
        f"Medians of {rounds} interleaved rounds; in brackets what comes on top of plain."
    )
    RESULTS.mkdir(exist_ok=True)
    parts = ["# The sandbox and its audit: what they cost", about, text, *absent]
    (RESULTS / "sandbox.md").write_text("\n\n".join(parts) + "\n")
    data = {"machine": facts, "rounds": rounds, "absent": absent, "figures": figures}
    (RESULTS / "sandbox.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
