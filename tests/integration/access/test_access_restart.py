"""Requests that wait for a decision outlive the LDA and the backend, and so does their effect."""

from __future__ import annotations

import os
import signal
from typing import Any

from rootbound.testing.script import ToolCall, Turn
from rootbound_server_ext.stack import api
from tests.support.environment import wait_for
from tests.support.live import LiveStack, fix_calculator

KILLED = ("lda", "backend")


def pids(live: LiveStack) -> dict[str, int]:
    """Return the process numbers of what is to be killed, nothing while the stack is not ready."""
    info = api.status(live.home)
    if info is None or not info.ready:
        return {}
    return {name: pid for name in KILLED if (pid := info.services[name].pid) is not None}


def requests_of(live: LiveStack, attempt: str) -> dict[str, dict[str, Any]]:
    rows = live.call("GET", f"/api/attempts/{attempt}/access-requests/")["results"]
    return {row["operation"]: row for row in rows}


def test_requests_outlive_a_kill_of_the_lda_and_the_backend(live: LiveStack, hold: Any) -> None:
    outside, cache = live.scratch / "restart-out", live.scratch / "restart-cache"
    target, old = outside / "file.txt", cache / "old.bin"
    for folder in (outside, cache):
        folder.mkdir()
    old.write_text("kept")
    deeds = Turn(calls=(ToolCall("run_command", {"command": f"echo one > {target}; rm {old}"}),))
    again = Turn(calls=(ToolCall("run_command", {"command": f"echo two > {target}; rm {old}"}),))
    held = hold(again)
    live.replay.turns = [deeds, held, *fix_calculator()]
    task = live.make_task(live.make_project("restarts"), "Write outside")
    attempt = str(live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"])
    wait_for(
        lambda: requests_of(live, attempt).keys() == {"WRITE", "DELETE"}, within_s=60,
        what="both requests",
    )  # fmt: skip
    before, asked = pids(live), requests_of(live, attempt)
    wait_for(lambda: held.seen, what="the next turn to be asked for")
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def both_are_back() -> bool:
        now = pids(live)
        return bool(now) and all(now[name] != before[name] for name in KILLED)

    wait_for(both_are_back, within_s=60, what="the guard to start them again")
    found = requests_of(live, attempt)
    for operation, row in asked.items():
        assert (found[operation]["id"], found[operation]["status"]) == (row["id"], "PENDING")
    grant = f"/api/access-requests/{asked['WRITE']['id']}/grant/"
    assert live.call("POST", grant, {"scope": "task"})["status"] == "GRANTED"
    refuse = f"/api/access-requests/{asked['DELETE']['id']}/refuse/"
    assert live.call("POST", refuse, {})["status"] == "REFUSED"
    held.let_go()

    done = live.wait_for_attempt(attempt)
    assert done["status"] == "REVIEW", done["failure_message"]
    assert target.read_text() == "two\n", "the decision holds for the command after the restart"
    assert old.read_text() == "kept"
    told = [event["payload"] for event in live.events(attempt)]
    decisions = [
        (event["operation"], event["status"]) for event in told if event.get("kind") == "access"
    ]
    assert sorted(decisions) == [
        ("DELETE", "PENDING"), ("DELETE", "REFUSED"), ("WRITE", "GRANTED"), ("WRITE", "PENDING"),
    ]  # fmt: skip
    assert all(event["by"] for event in told if event.get("status") in ("GRANTED", "REFUSED"))
