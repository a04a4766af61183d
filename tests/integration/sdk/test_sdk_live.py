"""The SDK against the real stack where only the real one can tell: ends, refusals, both clients."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import rootbound as rb
from rootbound.client import Client
from rootbound.discovery import Endpoint
from tests.support.environment import clean_env, wait_for
from tests.support.live import LiveStack, fix_calculator, rootbound

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "batch.ipynb"


def test_a_project_deleted_while_followed_ends_the_stream_with_a_sentence(live: LiveStack) -> None:
    live.replay.turns = fix_calculator()
    project = live.make_project("followed")
    task = live.make_task(project, "Repair addition")
    made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
    live.wait_for_attempt(made["id"], "REVIEW")
    with rb.connect(live.url, live.token) as client:
        attempt = client.attempt(made["id"])
        seen: list[int] = []
        ended: list[str] = []

        def follow() -> None:
            try:
                for event in attempt.events(follow=True, through_review=True):
                    seen.append(event.seq)
            except rb.RootboundError as error:
                ended.append(str(error))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        wait_for(lambda: attempt.last_seq in seen, within_s=30, what="all events so far")
        live.call("DELETE", f"/api/projects/{project['id']}/")
        thread.join(30)
        sentence = "does not exist: it was deleted, perhaps with its project, or is not yours."
        assert ended == [f"Attempt {made['id']} {sentence}"]
        with pytest.raises(rb.NotFoundError):
            attempt.refresh()


def test_an_expired_token_is_one_sentence(live: LiveStack) -> None:
    token = rootbound(live.home, "token", "--ttl", "1s").stdout.strip()

    def refused() -> str:
        try:
            with Client(Endpoint(live.url, token, "headless", "a test")) as client:
                client.me()
        except rb.AuthenticationError as error:
            return str(error)
        return ""

    said = wait_for(refused, within_s=20, what="the token to expire")
    assert said == "The token has expired; run `rootbound token`."
    with pytest.raises(rb.AuthenticationError, match="may have expired"):
        rb.connect(live.url, token)


def test_schedules_from_the_command_line(live: LiveStack) -> None:
    live.replay.plan = {"summary": "Nothing.", "tasks": []}
    live.make_project("nightly")

    def run(*words: str, code: int = 0) -> Any:
        done = rootbound(live.home, "schedule", *words, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    made = run(
        "create", "Nightly", "nightly", "30 2 * * 1-5", "--prompt", "Mend it",
        "--timezone", "Europe/Berlin", "--overlap", "queue",
    )  # fmt: skip
    assert (made["kind"], made["overlap"], made["timezone"]) == ("PLAN", "QUEUE", "Europe/Berlin")
    assert made["next_run_at"]
    assert run("pause", "Nightly")["is_enabled"] is False
    assert run("resume", "Nightly")["is_enabled"] is True
    started = run("run", "Nightly")
    assert [one["id"] for one in run("runs", "Nightly")] == [started["id"]]
    assert "There is no such report of Nightly yet." in run("report", "Nightly", "x.ipynb", code=1)
    never = run("create", "Never", "nightly", "0 0 31 2 *", "--prompt", "x", code=1)
    assert never == (
        "The crontab '0 0 31 2 *' never fires, because no month of it has such a day; change the "
        "day or the month.\n"
    )
    with rb.connect(live.url, live.token) as client:
        (schedule,) = client.schedules
        wait_for(
            lambda: client.schedules.runs(schedule.id)[0].ended_at, within_s=60, what="its end"
        )
        with pytest.raises(rb.ConflictError, match="ended already"):
            client.schedules.cancel(client.schedules.runs(schedule.id)[0])
    assert run("delete", "Nightly") == {"removed": made["id"]}
    assert run("list") == []


def test_both_clients_see_the_same(live: LiveStack) -> None:
    project = live.make_project("both")
    live.make_task(project, "Repair addition")

    async def read() -> list[object]:
        async with await rb.connect_async(live.url, live.token) as client:
            found = await client.projects.find("both")
            return [found.raw, [task.raw for task in await found.tasks()], await client.me()]

    with rb.connect(live.url, live.token) as client:
        found = client.projects.find("both")
        assert client.me().version == rb.__version__
        here = [found.raw, [task.raw for task in found.tasks()], client.me()]
    assert asyncio.run(read()) == here


def test_a_batch_starts_the_stack_and_says_why_it_cannot_begin(home: Path, tmp_path: Path) -> None:
    command = ["-m", "rootbound.cli", "batch", "run", str(NOTEBOOK)]
    done = subprocess.run(
        [sys.executable, *command],
        env=clean_env(home), cwd=tmp_path, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    try:
        assert done.returncode == 1
        assert "There is no project yet" in done.stderr
        assert "Traceback" not in done.stderr
        assert rootbound(home, "status").returncode == 0, "the stack is up"
    finally:
        assert rootbound(home, "down").returncode == 0
