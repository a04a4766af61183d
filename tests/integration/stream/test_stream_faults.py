"""Services die at random moments of a stream; nothing is lost, doubled or out of order.

The reports come from the LDA's own outbox and shipper; the LDA of the stack gets no work, so that
what is reported is known to the last event.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
import redis
from websockets.sync.client import connect

import rootbound
from rootbound_lda.audit import verify_chain
from tests.integration.backend.backend_support import BASE, HEAD, gate, status
from tests.integration.backend.backend_support import event as made_event
from tests.integration.stream.stream_reporting import (
    Reporter,
    database,
    ingest_token,
    new_attempt,
    services,
)
from tests.support.environment import clean_env, wait_for
from tests.support.live import LiveStack, live_stack
from tests.support.live import rootbound as command_line

TOTAL = 10_000
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    """A stack of the module's own, whose services may be killed."""
    # No attempt is handed over; the tests report for them.
    with live_stack(ROOTBOUND_MAX_PARALLEL="0") as running:
        yield running


def kill(stack: LiveStack, name: str) -> None:
    """Kill a service as the kernel does when memory runs out, and wait until it is back."""
    before = services(stack)[name]["pid"]
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        now = services(stack)
        changed = now[name]["pid"] not in {before, None}
        return changed and all(one["state"] == "ready" for one in now.values())

    wait_for(is_back, within_s=60, what=f"{name} to be ready again")


def flush(stack: LiveStack, _: str) -> None:
    """Forget everything that Redis holds."""
    with contextlib.closing(redis.Redis.from_url(redis_url(stack))) as client:
        client.flushall()


def redis_url(stack: LiveStack) -> str:
    address = services(stack)["redis"]["address"]
    return address if "://" in address else f"unix://{address}"


class Viewer(threading.Thread):
    """Follows with the SDK, as a notebook does."""

    def __init__(self, stack: LiveStack, attempt_id: str, *, slow: bool = False) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.error: Exception | None = None
        self._stack, self._attempt_id, self._slow = stack, attempt_id, slow
        self._client = rootbound.connect(stack.url, stack.token)
        self._attempt = self._client.attempt(attempt_id)
        self.start()

    def run(self) -> None:
        try:
            with self._client:
                for one in self._attempt.events(follow=True, through_review=True):
                    self.seen.append(one.seq)
                    if self._slow and one.seq % 50 == 0:
                        time.sleep(0.02)
        except Exception as error:
            self.error = error


class Reconnecting(Viewer):
    """Follows over WebSockets that it leaves after every few frames."""

    def way(self) -> tuple[str, dict[str, str]]:
        return self._stack.url, {"Authorization": f"Bearer {self._stack.token}"}

    def run(self) -> None:
        base, headers = self.way()
        url = f"{base.replace('http', 'ws', 1)}/ws/attempts/{self._attempt_id}/"
        over = False
        while not over:
            # The server is away at times; that is the point.
            with contextlib.suppress(Exception):
                after = self.seen[-1] if self.seen else 0
                with connect(f"{url}?after={after}", additional_headers=headers) as socket:
                    for _ in range(random.randint(1, 8)):
                        frame = json.loads(socket.recv(timeout=5))
                        over = over or frame["type"] == "end"
                        self.seen += [one["seq"] for one in frame.get("events", [])]


class Jupyter:
    """A Jupyter server in front of the stack."""

    def __init__(self, stack: LiveStack) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/rootbound"
        self.headers = {"Authorization": "token of-the-test"}
        self._stack = stack
        self.start()

    def start(self) -> None:
        scratch = self._stack.scratch
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        own = {name: str(scratch / name.lower()) for name in names}
        with (scratch / "jupyter.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
                 f"--port={self._port}", "--port-retries=0", "--IdentityProvider.token=of-the-test",
                 "--RootboundApp.autostart=off"],
                env=clean_env(self._stack.home, **own), cwd=scratch, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self._answers, within_s=60, what=f"Jupyter; see {scratch}/jupyter.log")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/me/", headers=self.headers).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)


class ThroughJupyter(Reconnecting):
    """The same, by way of a Jupyter server that may be killed too."""

    def __init__(self, stack: LiveStack, attempt_id: str, jupyter: Jupyter) -> None:
        self._jupyter = jupyter
        super().__init__(stack, attempt_id)

    def way(self) -> tuple[str, dict[str, str]]:
        return self._jupyter.url, self._jupyter.headers


@pytest.fixture(scope="module")
def jupyter(stack: LiveStack) -> Iterator[Jupyter]:
    """A Jupyter server of the module's own."""
    server = Jupyter(stack)
    yield server
    server.kill()


def way_out() -> list[dict[str, Any]]:
    """What the LDA reports at the end of a run that goes well."""
    return [
        made_event(1, "ARTIFACT", kind="commit", commit=HEAD, base=BASE, message="Fix"),
        status(1, "GATES"),
        *(gate(1, name) for name in ("install", "lint", "test")),
        status(1, "REVIEW", head_commit=HEAD, exit_code=0),
    ]


AUDIT = """
SELECT seq, operation, result, path, source, detail, hash,
    to_char("timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM local_access_fsauditevent WHERE run_id = %s ORDER BY id
"""

FAULTS = {
    "backend": kill,
    "redis": kill,
    "postgres": kill,
    "worker": kill,
    "flushed redis": flush,
}


@pytest.mark.timeout(280)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_survives_every_service(stack: LiveStack, jupyter: Jupyter, seed: int) -> None:
    """One after the other, in an order and at moments of chance, while reports come in."""
    attempt_id = new_attempt(stack)
    reporter = Reporter(stack, attempt_id)
    viewers = [
        Viewer(stack, attempt_id),
        Viewer(stack, attempt_id, slow=True),
        Reconnecting(stack, attempt_id),
        ThroughJupyter(stack, attempt_id, jupyter),
    ]

    def kill_jupyter(*_: object) -> None:
        jupyter.kill()
        jupyter.start()

    chance = random.Random(seed)
    ways = {**FAULTS, "jupyter": kill_jupyter}
    faults = chance.sample(list(ways), len(ways))
    moments = sorted(chance.sample(range(50, TOTAL - 50), len(faults)))
    mending: threading.Thread | None = None
    for number in range(1, TOTAL + 1):
        reporter.report(made_event(number, kind="text", step=1, delta=f"line {number}"))
        reporter.record(number)
        if number in moments:
            if mending is not None:
                mending.join(70)
            fault = faults.pop()
            mending = threading.Thread(target=ways[fault], args=(stack, fault), daemon=True)
            mending.start()
        if number % 25 == 0:
            # About 1,000 a second, so that there is a stream to break into.
            time.sleep(0.02)
    assert mending is not None
    mending.join(70)
    assert faults == []
    for document in way_out():
        reporter.report(document)
    stack.wait_for_attempt(attempt_id, "REVIEW", within_s=90)
    stack.call("POST", f"/api/attempts/{attempt_id}/reject/", {"reason": "no"})
    for viewer in viewers:
        viewer.join(60)
        assert not viewer.is_alive(), f"{type(viewer).__name__} saw {len(viewer.seen)} events"
        assert viewer.error is None
    wait_for(lambda: reporter.outbox.depth() == 0, within_s=60, what="the audit rows")
    reporter.close()
    attempt = stack.attempt(attempt_id)
    assert (attempt["status"], attempt["failure"]) == ("FAILED", "REJECTED")
    with database(stack) as connection:
        rows = connection.execute(
            "SELECT seq, type, payload FROM attempts_attemptevent WHERE attempt_id = %s "
            "ORDER BY id",
            [attempt_id],
        ).fetchall()
        audit = connection.execute(AUDIT, [attempt_id]).fetchall()
    names = ("seq", "operation", "result", "path", "source", "detail", "hash", "timestamp")
    entries = [dict(zip(names, row, strict=True)) for row in audit]
    assert [entry["path"] for entry in entries] == [f"/tree/{n}" for n in range(1, TOTAL + 1)]
    assert verify_chain(entries) is None
    every = list(range(1, attempt["last_seq"] + 1))
    assert [seq for seq, _, _ in rows] == every
    lines = [payload["delta"] for _, _, payload in rows if "delta" in payload]
    assert lines == [f"line {number}" for number in range(1, TOTAL + 1)]
    statuses = [payload["status"] for _, kind, payload in rows if kind == "STATUS"]
    assert statuses == ["QUEUED", "RUNNING", "GATES", "REVIEW", "FAILED"]
    assert [gate["name"] for gate in attempt["gates"]] == ["install", "lint", "test"]
    for viewer in viewers:
        assert viewer.seen == every, type(viewer).__name__


def test_of_two_claims_only_the_later_one_writes(stack: LiveStack) -> None:
    """Both believe that the attempt is theirs and post as fast as they can."""
    attempt_id = new_attempt(stack)
    path = f"{stack.url}/api/attempts/{attempt_id}/events/"
    answers: dict[int, list[int]] = {0: [], 1: []}
    begun = threading.Event()

    def claim(generation: int) -> None:
        headers = {"Authorization": f"Bearer {ingest_token(stack, attempt_id, generation)}"}
        seq = 1
        with httpx.Client(headers=headers, trust_env=False, timeout=30) as client:
            while seq <= 400:
                rows = [
                    made_event(n, kind="text", delta=f"{generation}:{n}")
                    for n in range(seq, min(seq + 20, 401))
                ]
                answer = client.post(path, json={"lease_generation": generation, "events": rows})
                answers[generation].append(answer.status_code)
                document = answer.json()
                if document.get("code") == "fenced":
                    return
                seq = document.get("expected_seq") or document["seq"] + 1
                if seq > 100:
                    begun.set()

    older = threading.Thread(target=claim, args=(0,))
    older.start()
    assert begun.wait(30)
    with database(stack) as connection:
        connection.execute(
            "UPDATE attempts_attempt SET lease_generation = 1 WHERE id = %s", [attempt_id]
        )
    claim(1)
    older.join(30)
    writers = [
        one["payload"]["delta"].split(":")[0]
        for one in stack.events(attempt_id)
        if one["payload"].get("kind") == "text"
    ]
    assert len(writers) == 400
    # Once the later one has begun, the earlier one never writes again.
    assert writers == sorted(writers)
    if "1" in writers:
        assert answers[0][-1] == 409
    numbers = [
        int(one["payload"]["delta"].split(":")[1])
        for one in stack.events(attempt_id)
        if one["payload"].get("kind") == "text"
    ]
    assert numbers == list(range(1, 401))


def test_clients_that_never_read_cost_no_memory(stack: LiveStack) -> None:
    attempt_id = new_attempt(stack)
    token = ingest_token(stack, attempt_id)
    url = stack.url.replace("http", "ws", 1)
    headers = {"Authorization": f"Bearer {stack.token}"}
    backend = psutil.Process(services(stack)["backend"]["pid"])
    project = stack.attempt(attempt_id)["project"]
    with contextlib.ExitStack() as sockets, httpx.Client(trust_env=False, timeout=60) as client:
        for path in (f"/ws/attempts/{attempt_id}/",) * 5 + (f"/ws/projects/{project}/",) * 3:
            sockets.enter_context(
                connect(url + path, additional_headers=headers, close_timeout=1, max_queue=1)
            )
        before, seq = 0, 1
        for batch in range(60):
            rows = [made_event(n, kind="text", delta="x" * 100_000) for n in range(seq, seq + 8)]
            seq += 8
            answer = client.post(
                f"{stack.url}/api/attempts/{attempt_id}/events/",
                json={"lease_generation": 0, "events": rows},
                headers={"Authorization": f"Bearer {token}"},
            )
            assert answer.status_code == 200, answer.text
            if batch == 20:
                # What one batch of this size takes is taken by now.
                before = backend.memory_info().rss
        growth = backend.memory_info().rss - before
    # 30 MiB were stored since; held for each of five sockets they would be 150.
    assert growth < 40 * MIB, f"{growth / MIB:.0f} MiB"


def test_the_command_line_shows_an_attempt_and_the_disk(stack: LiveStack) -> None:
    attempt_id = new_attempt(stack)
    rows = [
        made_event(1, kind="output", source="gate:test", stream="stdout", text="one\n\x1b[2Jtwo\n"),
        made_event(2, "ERROR", kind="error", message="It broke."),
    ]
    headers = {"Authorization": f"Bearer {ingest_token(stack, attempt_id)}"}
    path = f"{stack.url}/api/attempts/{attempt_id}/events/"
    assert httpx.post(path, json=rows, headers=headers, trust_env=False).status_code == 200
    stack.call("POST", f"/api/attempts/{attempt_id}/cancel/")

    shown = command_line(stack.home, "logs", attempt_id, "-n", "10", "--follow")
    assert shown.returncode == 0, shown.stderr
    assert "== QUEUED" in shown.stdout
    assert "== FAILED (CANCELLED)" in shown.stdout
    assert "\x1b" not in shown.stdout
    lines = [line.split(maxsplit=2)[-1] for line in shown.stdout.splitlines()]
    assert lines.index("one") + 1 == lines.index("\ufffd[2Jtwo")
    found = command_line(stack.home, "logs", attempt_id, "--search", "broke", "--json")
    (only,) = [json.loads(line) for line in found.stdout.splitlines()]
    assert only["payload"]["message"] == "It broke."
    typed = command_line(stack.home, "logs", attempt_id, "--type", "ERROR")
    assert "ERROR It broke." in typed.stdout
    assert len(typed.stdout.splitlines()) == 1
    missing = command_line(stack.home, "logs", str(uuid.uuid4()))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no such attempt" in missing.stderr

    status_text = command_line(stack.home, "status")
    assert status_text.returncode == 0, status_text.stderr
    assert " free" in status_text.stdout.splitlines()[-1]


def test_artifacts_come_in_ranges_through_the_real_server(stack: LiveStack) -> None:
    attempt_id = new_attempt(stack)
    folder = stack.home / "artifacts" / attempt_id
    folder.mkdir(parents=True)
    data = os.urandom(3 * MIB + 17)
    (folder / "test.log").write_bytes(data)
    path = f"/api/attempts/{attempt_id}/artifacts/test.log/"
    assert stack.http.get(path).content == data
    tail = stack.http.get(path, headers={"Range": "bytes=-100"})
    assert (tail.status_code, tail.content) == (206, data[-100:])
    assert tail.headers["Content-Range"] == f"bytes {len(data) - 100}-{len(data) - 1}/{len(data)}"
    text = stack.http.get("/api/metrics/").text
    assert "rootbound_ingested_rows_total" in text
