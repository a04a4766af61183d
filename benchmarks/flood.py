"""A flood of file operations from one command, through the whole stack.

``python benchmarks/flood.py`` writes ``benchmarks/results/flood.md``. A real attempt runs a gate
that creates, writes, renames and deletes files as fast as it can: once with everything up, once
with the backend killed for as long as the gate runs. Then the stored audit is compared with what
the gate says it did, file by file, and its hash chain is recomputed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rootbound.testing.script import ToolCall, Turn  # noqa: E402
from tests.support.environment import wait_for  # noqa: E402
from tests.support.live import LiveStack, live_stack  # noqa: E402

FLOOD = """
import json, os, sys, time
rounds = int(sys.argv[1])
os.mkdir("flood")
began = time.time()
for number in range(rounds):
    name = f"flood/{number}"
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.close(os.open(name, os.O_WRONLY))
    os.rename(name, name + "-moved")
    os.unlink(name + "-moved")
spent = time.time() - began
os.rmdir("flood")
with open("flood.json", "w") as file:
    json.dump([4 * rounds, spent], file)
"""
OPERATIONS = 4
EACH = {"WRITE": 3, "DELETE": 2}
"""Records of one round: created, opened, renamed (from and to), deleted."""
LIMIT_MB = 300
WANTED = 1_000_000
TURNS = (
    Turn(calls=(ToolCall("write_file", {"path": "note.txt", "content": "noted\n"}),)),
    Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Done."}),)),
)


def peak_mb(pid: int) -> float:
    """Return the highest resident size that a process ever had, in MB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if match is None:
        raise RuntimeError(f"process {pid} has no memory")
    return int(match[1]) / 1024


def lda_pid(live: LiveStack) -> int:
    """Return the process of the LDA that the stack started."""
    return int(json.loads((live.home / "run" / "lda.json").read_text())["pid"])


class Outage:
    """Keeps the backend down: its guard is stopped, then it is killed."""

    def __init__(self, live: LiveStack) -> None:
        stack = json.loads((live.home / "run" / "stack.json").read_text())
        self._guard = int(stack["guard_pid"])
        os.kill(self._guard, signal.SIGSTOP)
        backend = psutil.Process(int(stack["services"]["backend"]["pid"]))
        backend.kill()
        wait_for(
            lambda: not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE,
            within_s=20, what="the backend's end",
        )  # fmt: skip

    def end(self, live: LiveStack) -> None:
        """Let the guard start it again."""
        os.kill(self._guard, signal.SIGCONT)
        wait_for(lambda: _answers(live), within_s=120, what="the backend")


def _answers(live: LiveStack) -> bool:
    try:
        return live.http.get("/api/health/").is_success
    except OSError:
        return False
    except Exception as error:
        if "httpx" in type(error).__module__ or "httpcore" in type(error).__module__:
            return False
        raise


def flood(live: LiveStack, project: Any, title: str, *, outage: bool) -> dict[str, Any]:
    """Run one attempt whose gate floods; returns what was done, recorded and used."""
    pid = lda_pid(live)
    live.replay.by_title = {title: TURNS}
    task = live.make_task(project, title)
    made = str(live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"])
    tree = live.home / "worktrees" / made
    wait_for((tree / "flood").exists, within_s=120, what="the flood")
    down = Outage(live) if outage else None
    wait_for((tree / "flood.json").exists, within_s=900, what="the end of the flood")
    operations, seconds = json.loads((tree / "flood.json").read_text())
    ended = time.monotonic()
    if down is not None:
        down.end(live)
    attempt = live.wait_for_attempt(made, "REVIEW", within_s=900)
    wanted = {name: each * operations // OPERATIONS for name, each in EACH.items()}
    found = wait_for(
        lambda: recorded(live, made, tree) if stored(live, made, tree) else None,
        within_s=900, what="the last record",
    )  # fmt: skip
    return {
        "operations": operations, "seconds": seconds, "a minute": operations / seconds * 60,
        "wanted": wanted, "found": dict(found), "stored after": time.monotonic() - ended,
        "chain": chain(live, made), "peak": peak_mb(pid), "same LDA": lda_pid(live) == pid,
        "status": attempt["status"],
    }  # fmt: skip


def stored(live: LiveStack, attempt: str, tree: Path) -> bool:
    """Whether the last thing that the gate did is in the audit: it wrote how it went."""
    query = {"attempt": attempt, "path_prefix": str(tree / "flood.json"), "operation": "WRITE"}
    answer = live.http.get("/api/audit/logs/", params=query)
    return bool(answer.json()["results"])


def recorded(live: LiveStack, attempt: str, tree: Path) -> Counter[str]:
    """Count the stored entries of the files in the flood, by operation; each file counts alike."""
    query = {"attempt": attempt, "path_prefix": f"{tree}/flood/", "format": "ndjson"}
    found: Counter[str] = Counter()
    files: Counter[str] = Counter()
    with live.http.stream("GET", "/api/audit/logs/", params=query, timeout=600) as answer:
        for line in answer.iter_lines():
            if not line:
                continue
            entry = json.loads(line)
            found[entry["operation"]] += 1
            files[Path(entry["path"]).name.partition("-")[0]] += 1
    uneven = [name for name, count in files.items() if count != sum(EACH.values())]
    if uneven:
        raise RuntimeError(f"{len(uneven)} files have records too many or too few: {uneven[:5]}")
    return found


def chain(live: LiveStack, attempt: str) -> str:
    """Recompute the attempt's hash chain; returns ``"whole"`` or what is wrong."""
    cursor: str | None = None
    while True:
        query = {"attempt": attempt, **({"cursor": cursor} if cursor else {})}
        answer = live.http.get("/api/audit/verify/", params=query, timeout=600)
        answer.raise_for_status()
        report = answer.json()
        if not report["ok"]:
            return json.dumps(report)[:300]
        cursor = report["next"]
        if not cursor:
            return "whole"


def row(name: str, seen: dict[str, Any]) -> str:
    """Return one row of the table."""
    lost = sum(seen["wanted"].values()) - sum(seen["found"].values())
    return (
        f"| {name} | {seen['operations']:,} | {seen['seconds']:.1f} s | "
        f"{seen['a minute'] / 1e6:.2f} million | {sum(seen['found'].values()):,} | "
        f"{lost if lost or seen['found'] == seen['wanted'] else 'other ones'} | {seen['chain']} | "
        f"{seen['peak']:.0f} MB | {seen['stored after']:.0f} s |"
    )


def main() -> int:
    """Measure and write the table; exit code 1 when a record is missing or memory too high."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=400_000, help="default 400,000")
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args()
    rounds = max(options.operations // OPERATIONS, 1)
    with live_stack() as live:
        project = live.make_project(
            "flood", files={"flood.py": FLOOD, ".gitignore": "flood.json\nflood/\n"},
            install_cmd="", lint_cmd="", test_cmd=f"python3 flood.py {rounds}",
            gate_timeout_s=900,
        )  # fmt: skip
        up = flood(live, project, "Flood#", outage=False)
        down = flood(live, project, "Flood unheard#", outage=True)
    text = [
        "# A flood of file operations",
        "",
        (
            f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}, "
            f"{psutil.cpu_count()} cores, Python {platform.python_version()}, load "
            f"{os.getloadavg()[0]:.1f} at the end. One command creates, opens, renames and deletes "
            "files in a gate of a real attempt; LDA, backend and database run beside it. The peak "
            "is that of the LDA's process since its start."
        ),
        "",
        (
            "| | operations | took | a minute | records stored | missing | hash chain | "
            "LDA's peak | stored after |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
        row("all up", up),
        row("backend down all the while", down),
    ]
    print("\n".join(text))
    if not options.dry:
        target = ROOT / "benchmarks" / "results" / "flood.md"
        target.write_text("\n".join(text) + "\n", encoding="utf-8")
    held = all(
        seen["found"] == seen["wanted"] and seen["chain"] == "whole" and seen["same LDA"]
        and seen["peak"] < LIMIT_MB and seen["a minute"] >= WANTED
        for seen in (up, down)
    )  # fmt: skip
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
