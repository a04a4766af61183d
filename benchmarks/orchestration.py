"""What Rootbound adds around an agent's work, as ratios of one run.

``python benchmarks/orchestration.py [--quick]`` writes ``benchmarks/results/orchestration.md``.
Machines differ, and so do their hours; so each figure stands beside one measured next to it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


from rootbound.paths import socket_dir  # noqa: E402
from rootbound.testing.script import Fault, ToolCall, Turn  # noqa: E402
from tests.support.environment import wait_for  # noqa: E402
from tests.support.live import LiveStack, live_stack  # noqa: E402
from tests.support.repos import git  # noqa: E402

Line = tuple[str, str, str, str, bool]
NO_GATES = {"install_cmd": "", "lint_cmd": "", "test_cmd": "true"}
FINISH = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Done."}),))
LATENCY_S = 2.0
SIZES = (2, 500, 5000)
"""Files of the repositories: next to nothing, a library, a large project.

The source releases that the tests repair have 101 files (sqlparse 0.5.5) to 797 (tomlkit 0.13.3).
"""


def writes(name: str, slow: float = 0.0) -> list[Turn]:
    """Return the turns of an agent that writes one file and is done."""
    late = (Fault.delay(slow),) if slow else ()
    call = ToolCall("write_file", {"path": f"{name}.txt", "content": f"{name}\n"})
    return [Turn(calls=(call,), faults=late), Turn(calls=FINISH.calls, faults=late)]


def timed(action: Callable[[], Any]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def start(live: LiveStack, project: Any, title: str) -> str:
    """Start an attempt on a new task."""
    task = live.make_task(project, title)
    return str(live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"])


def watch(live: LiveStack, attempt: str) -> None:
    """Follow an attempt as the board does, over its WebSocket, until it waits for review."""
    url = f"{live.url.replace('http', 'ws', 1)}/ws/attempts/{attempt}/?after=0"
    headers = {"Authorization": f"Bearer {live.token}"}
    with connect(url, additional_headers=headers, compression=None, proxy=None) as socket:
        for frame in socket:
            if '"REVIEW"' in str(frame):
                return
            if '"FAILED"' in str(frame):
                raise RuntimeError(f"The attempt failed: {str(frame)[-500:]}")


def plain(repository: Path, scratch: Path, number: int) -> None:
    """Make the same change with git alone: worktree, commit, merge."""
    tree = scratch / f"plain-{number}"
    git(repository, "worktree", "add", "-q", "-b", f"plain-{number}", str(tree), "main")
    (tree / f"plain-{number}.txt").write_text("plain\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "Plain")
    subprocess.run(["/bin/bash", "-c", "true"], cwd=tree, check=True)
    git(repository, "merge", "-q", "--no-ff", "-m", "Merge", f"plain-{number}")


def own_cost(live: LiveStack, rounds: int, files: int) -> Iterator[Line]:
    """An attempt with an instant model and a gate that does nothing, against git alone."""
    name = f"cost-{files}"
    content = {f"src/{n // 100:03d}/{n:05d}.py": f"VALUE = {n}\n" * 20 for n in range(files)}
    project = live.make_project(name, files=content, **NO_GATES)
    repository = Path(project["repo_path"])

    def attempt(number: int) -> None:
        live.replay.by_title = {f"Ours {number}#": writes(f"ours-{number}")}
        made = start(live, project, f"Ours {number}#")
        watch(live, made)
        live.call("POST", f"/api/attempts/{made}/approve/", {})

    attempt(0)
    ours, bare = [], []
    for number in range(1, rounds + 1):
        bare.append(timed(lambda n=number: plain(repository, live.scratch, n)))
        # Not timed: ours deletes its worktree in the background.
        git(repository, "worktree", "remove", "--force", str(live.scratch / f"plain-{number}"))
        ours.append(timed(lambda n=number: attempt(n)))
    mine, theirs = statistics.median(ours), statistics.median(bare)
    yield (
        f"An attempt from POST to merged, instant model, no-op gate, {files} files",
        f"{mine:.2f} s", f"{mine / theirs:.1f} times git alone ({theirs:.3f} s)", "<= 3",
        mine <= 3 * theirs,
    )  # fmt: skip


@contextlib.contextmanager
def bare_worker(live: LiveStack) -> Iterator[Callable[[], Any]]:
    """Start a worker of one task that does nothing on the stack's own Redis; yield a call of it."""
    os.environ["BARE_CELERY_URL"] = f"redis+socket://{socket_dir(live.home) / 'redis.sock'}"
    from benchmarks.bare_celery import QUEUE, nothing

    argv = ["-m", "celery", "-A", "benchmarks.bare_celery", "worker", "-Q", QUEUE, "-c", "1"]
    worker = subprocess.Popen([sys.executable, *argv, "-l", "ERROR"], cwd=ROOT)
    try:
        nothing.delay().get(timeout=60)
        yield lambda: nothing.delay().get(timeout=60)
    finally:
        worker.terminate()
        worker.wait(30)


def to_running(live: LiveStack, rounds: int) -> Iterator[Line]:
    """From the request to the stored transition to RUNNING, against a bare Celery round trip."""
    project = live.make_project("running", **NO_GATES)
    took, trips = [], []
    with bare_worker(live) as trip:
        for number in range(rounds):
            title = f"Start {number}#"
            live.replay.by_title = {title: writes(f"start-{number}")}
            task = live.make_task(project, title)
            trips.append(timed(trip))
            began = time.time()
            made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
            live.wait_for_attempt(made["id"])
            running = next(
                event["timestamp"]
                for event in live.events(made["id"])
                if event["payload"].get("status") == "RUNNING"
            )
            took.append(datetime.fromisoformat(running).timestamp() - began)
    p50, bare = statistics.median(took), statistics.median(trips)
    yield (
        "From POST to RUNNING, p50",
        f"{p50 * 1000:.0f} ms", f"{p50 / bare:.1f} times a bare Celery task ({bare * 1000:.1f} ms)",
        "<= 6", p50 <= 6 * bare,
    )  # fmt: skip


def side_by_side(live: LiveStack, count: int) -> Iterator[Line]:
    """Attempts with a slow model at once, against one after the other; and their memory."""
    project = live.make_project("parallel", max_parallel=count, **NO_GATES)

    def begin(group: str) -> list[str]:
        titles = [f"{group} {n}#" for n in range(count)]
        live.replay.by_title = {
            title: writes(f"{group}-{n}", LATENCY_S) for n, title in enumerate(titles)
        }
        return [start(live, project, title) for title in titles]

    def alone(title: str) -> None:
        live.replay.by_title = {title: writes(title, LATENCY_S)}
        live.wait_for_attempt(start(live, project, title))

    alone("First#")  # the first of a stack loads the model's libraries
    one = timed(lambda: alone("Alone#"))
    lda = psutil.Process(_pid(live))
    before, asked = _memory(lda), len(live.stub.requests)
    began = time.perf_counter()
    attempts = begin("Both")
    wait_for(
        lambda: len(live.stub.requests) >= asked + count, within_s=60, what="all wait for the model"
    )
    each = (_memory(lda) - before) / count / 2**20
    for attempt in attempts:
        live.wait_for_attempt(attempt)
    together = time.perf_counter() - began
    speed = one * count / together
    yield (
        f"{count} attempts with {LATENCY_S:.0f} s a model call, at once",
        f"{together:.1f} s", f"{speed:.1f} times faster than one by one ({one:.1f} s each)",
        ">= 6", speed >= 6,
    )  # fmt: skip
    yield (
        "Memory of the LDA and its processes for each waiting attempt", f"{each:.1f} MiB",
        "what no other process shares", "< 15", each < 15,
    )  # fmt: skip


def _memory(process: psutil.Process) -> int:
    """Return the bytes that a process and those below it hold for themselves."""
    return sum(one.memory_full_info().uss for one in (process, *process.children(recursive=True)))


def _pid(live: LiveStack) -> int:
    import json

    return int(json.loads((live.home / "run" / "lda.json").read_text())["pid"])


def main() -> int:
    """Measure and write the table; exit code 1 when a line misses its aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(), live_stack(ROOTBOUND_MAX_PARALLEL="16") as live:
        # First, so that no memory left over from others is counted as free.
        lines += side_by_side(live, 10)
        lines += to_running(live, 5 if quick else 20)
        for files in SIZES:
            lines += own_cost(live, 3 if quick else 10, files)
    machine = (
        f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    )
    text = [
        "# Orchestration",
        "",
        f"{machine}, load {os.getloadavg()[0]:.1f} at the end.",
        "",
        "| what | measured | beside | aim | held |",
        "|---|---|---|---|---|",
        *(f"| {a} | {b} | {c} | {d} | {'yes' if e else 'no'} |" for a, b, c, d, e in lines),
    ]
    target = ROOT / "benchmarks" / "results" / "orchestration.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))
    return 0 if all(line[4] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
