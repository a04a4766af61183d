"""What the SDK costs over what it stands on, as ratios of one run.

``python benchmarks/sdk.py [--quick]`` writes ``benchmarks/results/sdk.md``: calls against the same
calls of httpx, imports against the imports of httpx and anywidget, a long stream followed against
the same socket read bare, and a batch of tasks against the same changes made with git alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import rootbound as rb  # noqa: E402
from benchmarks.orchestration import NO_GATES, plain, writes  # noqa: E402
from benchmarks.stream_support.services import Services, event, running  # noqa: E402
from rootbound.client import Client  # noqa: E402
from rootbound.discovery import Endpoint, http_options  # noqa: E402
from tests.support.live import LiveStack, live_stack  # noqa: E402
from tests.support.repos import git  # noqa: E402

OUTPUT = ROOT / "benchmarks/results/sdk.md"
Line = tuple[str, str, str, float, float, bool]
ROUNDS = 7
LONG_ROUNDS = 3
"""Of what takes a quarter of a minute and more each time."""
BATCH = 5000


def _seconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def _beside(ours: Callable[[], object], theirs: Callable[[], object], times: int) -> list[float]:
    """Return our median, theirs, and the median ratio of rounds that alternate."""
    ours(), theirs()
    pairs = [(_seconds(ours, times), _seconds(theirs, times)) for _ in range(ROUNDS)]
    return [
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(mine / other for mine, other in pairs),
    ]


def calls(services: Services, client: Client, times: int) -> Iterator[Line]:
    """One object, a list of 50, and a page of the audit log, against bare httpx and its JSON."""
    attempt = services.new_attempt()
    project = client.projects.list()[0]
    for number in range(50):
        project.create_task(f"Task {number}")
    task = project.tasks()[0]
    cases: tuple[tuple[str, Callable[[], object], str], ...] = (
        ("me()", client.me, "/api/me/"),
        ("attempt(id)", lambda: client.attempt(attempt), f"/api/attempts/{attempt}/"),
        ("task(id)", lambda: client.task(task.id), f"/api/tasks/{task.id}/"),
        ("project.tasks(), 51 of them", project.tasks, f"/api/projects/{project.id}/tasks/"),
    )
    options = http_options(services.url, 30.0)
    with httpx.Client(**options) as bare:
        headers = {**services.reader(), "Accept": "application/json"}
        for name, ours, path in cases:
            url = services.url + path

            def theirs(url: str = url) -> object:
                return bare.get(url, headers=headers).json()

            mine, other, ratio = _beside(ours, theirs, times)
            yield (f"`{name}`", f"{mine * 1e3:.2f} ms", f"httpx {other * 1e3:.2f} ms", ratio, 1.3,
                   ratio <= 1.3)  # fmt: skip


def imports() -> Iterator[Line]:
    """Wall time of fresh interpreters, less that of an empty one."""
    least = "import httpx, anywidget"
    for name, code in (
        ("`import rootbound`", "import rootbound"),
        ("`import rootbound`, then `connect` and `TaskBoard`",
         "import rootbound; rootbound.connect, rootbound.TaskBoard"),
    ):  # fmt: skip
        rounds = [(_start(code), _start(least), _start("pass")) for _ in range(ROUNDS)]
        mine = statistics.median(one[0] - one[2] for one in rounds)
        other = statistics.median(one[1] - one[2] for one in rounds)
        ratio = statistics.median((a - c) / (b - c) for a, b, c in rounds)
        yield (name, f"{mine * 1e3:.0f} ms", f"httpx and anywidget {other * 1e3:.0f} ms", ratio, 2,
               ratio <= 2)  # fmt: skip


def _start(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def stream(services: Services, client: Client, amount: int) -> Line:
    """Events a second through `events(follow=True)`, and through the socket itself."""
    attempt = services.new_attempt()
    headers = {**services.writer(attempt), "Content-Type": "application/json"}
    with httpx.Client(headers=headers, trust_env=False, timeout=120) as posting:
        for first in range(1, amount + 1, BATCH):
            rows = [event(seq) for seq in range(first, first + BATCH)]
            body = msgspec.json.encode({"lease_generation": 1, "events": rows})
            url = f"{services.url}/api/attempts/{attempt}/events/"
            posting.post(url, content=body).raise_for_status()
    with services.database() as db:
        db.execute(
            "UPDATE attempts_attempt SET status = 'FAILED', failure = 'CANCELLED', "
            "completed_at = now() WHERE id = %s",
            [attempt],
        )

    def follow() -> None:
        got = sum(1 for _ in client.attempt(attempt).events(follow=True))
        if got != amount:
            raise RuntimeError(f"{got} events of {amount}")

    def bare() -> None:
        got = 0
        address = f"{client.endpoint.ws_url}/ws/attempts/{attempt}/?after=0"
        options = {"additional_headers": services.reader(), "max_size": 2**25, "proxy": None}
        with connect(address, **options) as socket:
            while True:
                frame = json.loads(socket.recv())
                if frame["type"] == "end":
                    break
                if frame["type"] == "events":
                    got += len(frame["events"])
                    seq = frame["events"][-1]["seq"]
                    with contextlib.suppress(ConnectionClosed):
                        socket.send(json.dumps({"type": "ack", "seq": seq}))
        if got != amount:
            raise RuntimeError(f"{got} events of {amount}")

    pairs = [(_spent(follow), _spent(bare)) for _ in range(LONG_ROUNDS)]
    mine, mine_cpu = (statistics.median(pair[0][i] for pair in pairs) for i in (0, 1))
    other, other_cpu = (statistics.median(pair[1][i] for pair in pairs) for i in (0, 1))
    pace = statistics.median(pair[1][0] / pair[0][0] for pair in pairs)
    # The server sets the pace for both; what the SDK itself takes is the client's CPU time.
    beside = f"{amount / other:,.0f} events/s, {other_cpu:.2f} s"
    return (
        f"{amount:,} events followed",
        f"{amount / mine:,.0f} events/s, {mine_cpu:.2f} s of the client's CPU",
        f"the bare socket, decoded and acknowledged: {beside}", pace, 0.5, pace >= 0.5,
    )  # fmt: skip


def _spent(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that something takes, and those of this process' CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def batches(live: LiveStack, count: int, rounds: int) -> Iterator[Line]:
    """A batch with an instant model and a gate that does nothing, against git alone, in turn."""
    with rb.connect(live.url, live.token) as client:

        def batch(name: str, at_once: int) -> float:
            project = live.make_project(name, max_parallel=at_once, **NO_GATES)
            titles = [f"{name} {number}#" for number in range(count)]
            live.replay.by_title = {one: writes(one.strip("#")) for one in titles}
            for title in titles:
                live.make_task(project, title)
            work = rb.Batch(client.projects.get(project["id"]), max_parallel=at_once)
            began = time.perf_counter()
            work.run(progress=False).raise_for_failures()
            return time.perf_counter() - began

        def alone(name: str) -> float:
            repository = Path(live.make_project(name, **NO_GATES)["repo_path"])
            (live.scratch / f"{name}-trees").mkdir()
            began = time.perf_counter()
            for number in range(count):
                plain(repository, live.scratch / f"{name}-trees", number)
            took = time.perf_counter() - began
            git(repository, "worktree", "prune")
            return took

        batch("warm", 1)
        for at_once in (1, 4):
            pairs = [
                (batch(f"ours-{at_once}-{number}", at_once), alone(f"git-{at_once}-{number}"))
                for number in range(rounds)
            ]
            mine, other = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
            ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
            yield (
                f"a batch of {count} tasks, {at_once} at a time, instant model, no-op gate",
                f"{mine:.2f} s", f"git alone, one after the other: {other:.2f} s", ratio, 3,
                ratio <= 3,
            )  # fmt: skip


def measured(*, quick: bool) -> Iterator[Line]:
    """Yield one result after the other."""
    yield from imports()
    with running() as services:
        token = services.reader()["Authorization"].removeprefix("Bearer ")
        with Client(Endpoint(services.url, token, "headless", "the benchmark")) as client:
            yield from calls(services, client, 20 if quick else 200)
            yield stream(services, client, 10_000 if quick else 100_000)
    with live_stack(ROOTBOUND_MAX_PARALLEL="16") as live:
        yield from batches(live, 5 if quick else 20, 1 if quick else LONG_ROUNDS)


def table(lines: list[Line]) -> str:
    """Return the results as Markdown."""
    load = os.getloadavg()
    machine = (
        f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; medians of {ROUNDS} alternating rounds, of "
        f"{LONG_ROUNDS} for the stream and the batches; client and server share the cores; load "
        f"average at the end {load[0]:.1f}."
    )
    head = ["# The SDK", "", machine, "",
            "| what | Rootbound | beside it | ratio | wanted | holds |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    rows = []
    for what, ours, beside, ratio, limit, holds in lines:
        wanted = f"{'>=' if 'events' in what else '<='} {limit:g}"
        word = "yes" if holds else "**no**"
        rows.append(f"| {what} | {ours} | {beside} | {ratio:.2f} | {wanted} | {word} |")
    return "\n".join([*head, *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything, no file")
    quick = parser.parse_args().quick
    lines = []
    for line in measured(quick=quick):
        print(line, flush=True)
        lines.append(line)
        if not quick:  # what is known so far, should it be stopped
            OUTPUT.write_text(table(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
