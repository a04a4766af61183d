"""The whole path from REST to a merge, on real PostgreSQL, Redis, Celery, Daphne and LDA."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rootbound.testing.script import ToolCall, Turn
from tests.support.environment import wait_for
from tests.support.live import LiveStack, fix_calculator
from tests.support.repos import git

FINISH = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Done."}),))


def start(live: LiveStack, task: dict[str, object]) -> str:
    return str(live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"])


def test_attempt_runs_passes_its_gates_and_merges(live: LiveStack) -> None:
    project = live.make_project("merges")
    repository = Path(project["repo_path"])
    before = git(repository, "rev-parse", "main")
    task = live.make_task(project, "Repair addition")
    live.replay.turns = fix_calculator()

    attempt = live.wait_for_attempt(start(live, task))

    assert attempt["status"] == "REVIEW", attempt
    assert attempt["base_commit"] == before
    assert attempt["agent"]["is_replay"] is True
    gates = {gate["name"]: gate for gate in attempt["gates"]}
    assert set(gates) == {"install", "lint", "test"}
    assert all(gate["exit_code"] == 0 for gate in gates.values())
    assert {gate["commit"] for gate in gates.values()} == {attempt["head_commit"]}
    assert git(repository, "rev-parse", "main") == before, "nothing is merged before approval"
    assert git(repository, "status", "--porcelain") == "", "the checkout is untouched"

    diff = live.call("GET", f"/api/attempts/{attempt['id']}/diff/")
    assert diff["stats"] == {"files": 1, "additions": 1, "deletions": 1}
    assert "+    return a + b" in diff["files"][0]["patch"]

    approved = live.call("POST", f"/api/attempts/{attempt['id']}/approve/", {})
    assert approved["status"] == "SUCCESS"
    assert "return a + b" in (repository / "calculator.py").read_text()
    assert live.call("GET", f"/api/tasks/{task['id']}/")["status"] == "DONE"
    message = git(repository, "log", "-1", "--format=%B", "main")
    assert attempt["id"] in message and task["id"] in message

    events = live.events(attempt["id"])
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    statuses = [e["payload"]["status"] for e in events if e["type"] == "STATUS"]
    assert statuses == ["QUEUED", "RUNNING", "GATES", "REVIEW", "SUCCESS"]


def test_gate_evidence_names_the_log_by_its_digest(live: LiveStack) -> None:
    project = live.make_project("evidence")
    live.replay.turns = fix_calculator()
    attempt = live.wait_for_attempt(start(live, live.make_task(project, "Repair addition")))
    for gate in attempt["gates"]:
        assert gate["log_artifact"], gate
        log = live.home / "artifacts" / attempt["id"] / Path(gate["log_artifact"]).name
        assert gate["log_digest"] == "sha256:" + hashlib.sha256(log.read_bytes()).hexdigest()


def test_forbidden_writes_are_refused_and_on_record(live: LiveStack) -> None:
    """Once over the file tool and once through a shell redirect."""
    project = live.make_project("forbidden")
    outside = live.scratch / "outside.txt"
    live.replay.turns = [
        Turn(calls=(ToolCall("write_file", {"path": str(outside), "content": "x"}),)),
        Turn(calls=(ToolCall("run_command", {"command": f"echo x > {outside}; exit 0"}),)),
        *fix_calculator(),
    ]
    attempt = live.wait_for_attempt(start(live, live.make_task(project, "Try the fence")))

    assert attempt["status"] == "REVIEW", attempt
    assert not outside.exists()
    query = f"/api/audit/logs/?attempt={attempt['id']}&operation=WRITE&result=DENIED"
    rows = wait_for(lambda: live.call("GET", query)["results"], what="the denied writes")
    assert {(row["source"], row["path"]) for row in rows} >= {
        ("tool", str(outside)), ("kernel", str(outside)),
    }  # fmt: skip
    assert live.attempt(attempt["id"])["denied_count"] >= 2


def test_failing_test_gate_ends_the_attempt_with_its_reason(live: LiveStack) -> None:
    project = live.make_project("still-broken")
    note = {"path": "NOTES.md", "content": "I looked at it.\n"}
    live.replay.turns = [Turn(calls=(ToolCall("write_file", note),)), *[FINISH] * 5]
    attempt = live.wait_for_attempt(start(live, live.make_task(project, "Pretend to repair")))

    assert (attempt["status"], attempt["failure"]) == ("FAILED", "GATE_TEST"), attempt
    assert attempt["failure_message"]
    live.call("POST", f"/api/attempts/{attempt['id']}/approve/", {}, expect=409)


def test_no_change_is_no_review(live: LiveStack) -> None:
    project = live.make_project("unchanged")
    live.replay.turns = [FINISH]
    attempt = live.wait_for_attempt(start(live, live.make_task(project, "Claim to be done")))
    assert (attempt["status"], attempt["failure"]) == ("FAILED", "NO_CHANGES")


def test_plan_becomes_tasks_that_start_in_dependency_order(live: LiveStack) -> None:
    project = live.make_project("planned", auto_start=True)
    live.replay.plan = {
        "summary": "Repair, then note it.",
        "tasks": [
            {"key": "fix", "title": "Repair addition", "description": "Make add() add.",
             "role": "BACKEND", "priority": 1, "depends_on": [], "acceptance": "Tests pass.",
             "files": ["calculator.py"]},
            {"key": "note", "title": "Write the changelog", "description": "Say what changed.",
             "role": "QA", "priority": 0, "depends_on": ["fix"], "acceptance": "An entry.",
             "files": ["CHANGELOG.md"]},
        ],
    }  # fmt: skip
    entry = {"path": "CHANGELOG.md", "content": "- add() adds.\n"}
    live.replay.by_title = {
        "Repair addition": fix_calculator(),
        "Write the changelog": [Turn(calls=(ToolCall("write_file", entry),)), FINISH],
    }
    made = live.call(
        "POST",
        f"/api/projects/{project['id']}/decompositions/",
        {"prompt": "Make the failing tests pass", "auto_approve": True},
    )
    plan = wait_for(
        lambda: (
            (d := live.call("GET", f"/api/decompositions/{made['id']}/"))["status"] != "PENDING"
            and d
        ),
        within_s=60,
    )
    assert plan["status"] == "APPROVED", plan
    fix, note = (live.call("GET", f"/api/tasks/{task}/") for task in plan["tasks_created"])
    assert note["dependencies"] == [fix["id"]]

    def first_attempt(task: str) -> str | None:
        results = live.call("GET", f"/api/tasks/{task}/attempts/")["results"]
        return results[0]["id"] if results else None

    try:
        first = start(live, fix)
        live.wait_for_attempt(first, "REVIEW")
        assert first_attempt(note["id"]) is None, "its dependency is not done yet"
        live.call("POST", f"/api/tasks/{note['id']}/attempts/", {}, expect=409)
        live.call("POST", f"/api/attempts/{first}/approve/", {})
        second = wait_for(lambda: first_attempt(note["id"]), what="the dependant to start")
        live.wait_for_attempt(second, "REVIEW")
        live.call("POST", f"/api/attempts/{second}/approve/", {})
    finally:
        live.replay.by_title = {}
    repository = Path(project["repo_path"])
    assert (repository / "CHANGELOG.md").read_text() == "- add() adds.\n"
    assert "return a + b" in (repository / "calculator.py").read_text()


def test_a_grant_for_one_project_is_none_for_anothers_agents(live: LiveStack) -> None:
    neighbour = Path(live.make_project("neighbour")["repo_path"])
    project = live.make_project("curious")
    target = neighbour / "calculator.py"
    before = target.read_text()
    live.replay.turns = [
        Turn(calls=(ToolCall("write_file", {"path": str(target), "content": "x"}),)),
        Turn(calls=(ToolCall("run_command", {"command": f"echo x > {target}; exit 0"}),)),
        *fix_calculator(),
    ]
    attempt = live.wait_for_attempt(start(live, live.make_task(project, "Look next door")))
    assert attempt["status"] == "REVIEW", attempt
    assert target.read_text() == before
    assert attempt["denied_count"] == 2
