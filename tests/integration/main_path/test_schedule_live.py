"""A schedule on the real stack: beat or a click, Celery, the PM, an agent, gates, REVIEW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import psycopg

from rootbound_server_ext.stack import postgres, secrets
from tests.support.environment import wait_for
from tests.support.live import LiveStack, fix_calculator


def test_a_scheduled_plan_is_done_and_its_history_tells(live: LiveStack) -> None:
    live.replay.plan = {
        "summary": "Repair it",
        "tasks": [
            {
                "key": "fix",
                "title": "Repair add by night",
                "description": "It subtracts.",
                "role": "BACKEND",
                "priority": 1,
                "depends_on": [],
                "acceptance": "Tests pass.",
                "files": ["calculator.py"],
            },
        ],
    }
    live.replay.by_title["Repair add by night"] = fix_calculator()
    project = live.make_project("scheduled")
    body = {
        "name": "Nightly", "project_id": project["id"], "kind": "PLAN",
        "prompt": "Repair the calculator", "crontab": "0 3 * * *",
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

    # As after a sleep of an hour: the beat finds it due and starts it, once.
    password = secrets.read_secret(live.home, secrets.POSTGRES_PASSWORD)
    url = postgres.PostgresServer(live.home).url
    with psycopg.connect(url, password=password) as database:
        database.execute(
            "UPDATE schedules_schedule SET next_run_at = now() - interval '1 hour' WHERE id = %s",
            [schedule["id"]],
        )

    def by_the_beat() -> bool:
        runs = live.call("GET", f"{address}runs/")["results"]
        return any(run["trigger"] == "MISSED" for run in runs)

    wait_for(by_the_beat, within_s=60, what="the beat")
    live.call("POST", f"{address}pause/")
    for run in live.call("GET", f"{address}runs/")["results"]:
        if not run["ended_at"]:
            live.http.post(f"{address}runs/{run['id']}/cancel/")
    live.call("DELETE", address)


def test_a_scheduled_notebook_is_executed_and_its_report_kept(live: LiveStack) -> None:
    project = live.make_project("reported")
    notebook = Path(project["repo_path"]) / "night.ipynb"
    first = nbformat.v4.new_code_cell("wanted: str = ''", metadata={"tags": ["parameters"]})
    second = nbformat.v4.new_code_cell(
        "import rootbound as rb\nprint(rb.connect().projects.find(wanted).name)"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[first, second], metadata=kernel), notebook)
    body = {
        "name": "Report", "project_id": project["id"], "kind": "BATCH", "crontab": "@daily",
        "notebook": str(notebook), "parameters": {"wanted": "reported"},
    }  # fmt: skip
    schedule = live.call("POST", "/api/schedules/", body)
    run = live.call("POST", f"/api/schedules/{schedule['id']}/run/")

    def ended() -> Any:
        found = live.call("GET", f"/api/schedules/{schedule['id']}/runs/{run['id']}/")
        return found if found["ended_at"] else None

    done = wait_for(ended, within_s=90, what="the batch")
    log = live.home / "batches" / run["id"] / "log.txt"
    assert (done["status"], done["exit_code"]) == ("SUCCESS", 0), log.read_text()
    report = live.call("GET", done["report_url"])
    assert "reported" in str(report["cells"][-1]["outputs"])
    # The token was in the environment of that process alone.
    assert "eyJ" not in log.read_text() + str(report)
    live.call("DELETE", f"/api/schedules/{schedule['id']}/")
