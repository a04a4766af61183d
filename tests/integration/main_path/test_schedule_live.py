"""A schedule on the real stack: beat or a click, Celery, the PM, an agent, gates, REVIEW."""

from __future__ import annotations

from typing import Any

from tests.support.environment import wait_for
from tests.support.live import LiveStack, fix_calculator


def test_a_scheduled_plan_is_done_and_its_history_tells(live: LiveStack) -> None:
    live.replay.plan = {
        "summary": "Repair it",
        "tasks": [{"key": "fix", "title": "Repair add by night", "role": "BACKEND"}],
    }
    live.replay.by_title["Repair add by night"] = fix_calculator()
    project = live.make_project("scheduled")
    body = {
        "name": "Every minute", "project_id": project["id"], "kind": "PLAN",
        "prompt": "Repair the calculator", "crontab": "* * * * *",
    }  # fmt: skip
    schedule = live.call("POST", "/api/schedules/", body)
    address = f"/api/schedules/{schedule['id']}/"
    live.call("POST", f"{address}run/")

    def manual() -> Any:
        runs = live.call("GET", f"{address}runs/")["results"]
        return next((r for r in runs if r["trigger"] == "MANUAL" and r["ended_at"]), None)

    run = wait_for(manual, within_s=120, what="the run by hand")
    assert (run["status"], run["message"]) == ("SUCCESS", "")
    tasks = live.call("GET", f"/api/projects/{project['id']}/tasks/")["results"]
    assert {task["status"] for task in tasks} <= {"REVIEW", "IN_PROGRESS", "TODO"}
    assert "REVIEW" in {task["status"] for task in tasks}

    # The beat fires it within the minute; a run at work at that moment is a SKIPPED one.
    def by_the_beat() -> bool:
        runs = live.call("GET", f"{address}runs/")["results"]
        return any(run["trigger"] == "CRON" for run in runs)

    wait_for(by_the_beat, within_s=90, what="the beat")
    live.call("POST", f"{address}pause/")
    for run in live.call("GET", f"{address}runs/")["results"]:
        if not run["ended_at"]:
            live.http.post(f"{address}runs/{run['id']}/cancel/")
    live.call("DELETE", address)
