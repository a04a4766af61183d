"""A denial asks the user, and the decision holds in the run that goes on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import rootbound as rb
from rootbound.testing.script import ToolCall, Turn
from tests.support.environment import wait_for
from tests.support.live import LiveStack, fix_calculator, rootbound
from tests.support.repos import CALCULATOR_COMMANDS, make_repository

# A promise of a second, on a machine that may be busy with other tests.
STOPPED_WITHIN_S = 3.0
FINISH = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Done."}),))


def run(command: str) -> Turn:
    return Turn(calls=(ToolCall("run_command", {"command": command}),))


def start(live: LiveStack, task: dict[str, Any]) -> str:
    return str(live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"])


def requests_of(live: LiveStack, attempt: str, status: str = "PENDING") -> list[dict[str, Any]]:
    path = f"/api/attempts/{attempt}/access-requests/?status={status}"
    return list(live.call("GET", path)["results"])


def asked(live: LiveStack, attempt: str, operation: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        found = [one for one in requests_of(live, attempt) if one["operation"] == operation]
        return found[0] if found else None

    request = wait_for(probe, within_s=60, what=f"a request to {operation}")
    assert request is not None
    return request


def results(live: LiveStack, attempt: str) -> list[dict[str, Any]]:
    payloads = [event["payload"] for event in live.events(attempt)]
    return [payload for payload in payloads if payload.get("kind") == "tool_result"]


def kinds(live: LiveStack, attempt: str, kind: str) -> list[dict[str, Any]]:
    payloads = [event["payload"] for event in live.events(attempt)]
    return [payload for payload in payloads if payload.get("kind") == kind]


def roots(live: LiveStack) -> dict[str, str]:
    rows = live.call("GET", "/api/local-access/roots/?limit=200")["results"]
    return {row["canonical_path"]: row["id"] for row in rows}


@pytest.fixture
def outside(live: LiveStack, request: pytest.FixtureRequest) -> Path:
    """A folder that no run may write in."""
    folder = live.scratch / f"outside-{request.node.name}"
    folder.mkdir()
    return folder.resolve()


def test_grant_for_the_task_holds_for_the_next_command(
    live: LiveStack, outside: Path, hold: Any
) -> None:
    project = live.make_project("asks")
    task = live.make_task(project, "Write outside")
    target = outside / "file.txt"
    held = hold(run(f"echo two > {target}"))
    by_tool = Turn(calls=(ToolCall("write_file", {"path": f"{outside}/tool.txt", "content": "x"}),))
    live.replay.turns = [run(f"echo one > {target}"), held, by_tool, *fix_calculator()]
    attempt = start(live, task)

    request = asked(live, attempt, "WRITE")
    assert (request["folder"], request["path"]) == (str(outside), str(target))
    assert request["program"].endswith("bash")
    assert request["task"] == task["id"]
    assert not target.exists()
    client = rb.connect(live.url, live.token)
    (pending,) = client.attempt(attempt).access_requests(status="PENDING")
    granted = pending.grant("task")
    assert (granted.status, granted.scope, granted.granted_folder) == (
        "GRANTED", "TASK", str(outside),
    )  # fmt: skip
    held.let_go()

    done = live.wait_for_attempt(attempt)
    assert done["status"] == "REVIEW", (done["failure_message"], results(live, attempt))
    assert target.read_text() == "two\n"
    assert (outside / "tool.txt").read_text() == "x"
    access = kinds(live, attempt, "access")
    assert [event["status"] for event in access] == ["PENDING", "GRANTED"]
    assert access[1]["by"] == done_by(live)
    assert [str(outside) in event["writable"] for event in kinds(live, attempt, "enforcement")] == [
        False, True,
    ]  # fmt: skip
    told = json.dumps([r.body for r in live.stub.requests if r.body], default=str)
    assert "You may now write in" in told, "the agent is told"
    assert str(outside) not in roots(live), "a grant for a task makes no root"
    with pytest.raises(rb.ConflictError) as conflict:
        granted.grant("always")
    assert conflict.value.code == "request-decided"

    live.replay.turns = [run(f"echo three > {target}"), FINISH]
    again = live.call("POST", f"/api/attempts/{attempt}/retry/", {"feedback": "Again."})
    live.wait_for_attempt(again["id"])
    assert target.read_text() == "three\n", "later attempts of the task have the grant"

    other = live.make_task(project, "Write outside as well")
    live.replay.turns = [run(f"echo four > {target}"), FINISH]
    third = start(live, other)
    live.wait_for_attempt(third)
    assert target.read_text() == "three\n", "other tasks do not"
    assert asked(live, third, "WRITE")["folder"] == str(outside)


def done_by(live: LiveStack) -> str:
    return str(live.call("GET", "/api/me/")["username"])


def test_root_withdrawn_kills_what_was_started_with_it(
    live: LiveStack, outside: Path, hold: Any
) -> None:
    project = live.make_project("withdraws")
    log = outside / "log"
    endless = f"while true; do date +%s.%N >> {log}; sleep 0.02; done"
    held, after = hold(run(endless)), hold(run(f"echo after >> {log}"))
    live.replay.turns = [run(f"date > {log}"), held, after, *fix_calculator()]
    attempt = start(live, live.make_task(project, "Write for ever"))
    request = asked(live, attempt, "WRITE")
    live.call("POST", f"/api/access-requests/{request['id']}/grant/", {"scope": "always"})
    assert str(outside) in roots(live)
    held.let_go()
    wait_for(lambda: log.exists() and log.stat().st_size > 300, what="the command to write")

    # A project in it, and a grant for another project, take nothing from what runs, nor add to it.
    repository = make_repository(outside / "repo")
    facts = {"name": "inside", "repo_path": str(repository), "config": CALCULATOR_COMMANDS}
    live.call("POST", "/api/projects/", facts)
    live.make_project("made-meanwhile")
    size = log.stat().st_size
    wait_for(lambda: log.stat().st_size > size, what="the command to go on")
    assert not any("made-meanwhile" in told["text"] for told in kinds(live, attempt, "notice"))

    root = roots(live)[str(outside)]
    withdrawn_at = time.time()
    live.call("DELETE", f"/api/local-access/roots/{root}/", expect=204)

    last = float(log.read_text().split()[-1])
    print(f"the last write came {last - withdrawn_at:.3f} s after the root was withdrawn")
    assert last - withdrawn_at < STOPPED_WITHIN_S
    size = log.stat().st_size
    wait_for(lambda: len(results(live, attempt)) > 1, what="the command to end")
    killed = results(live, attempt)[1]
    assert not killed["ok"]
    assert "was withdrawn" in killed["text"], "the agent is told why"
    assert not writers_of(log)
    after.let_go()
    done = live.wait_for_attempt(attempt)
    assert done["status"] == "REVIEW", (done["failure_message"], results(live, attempt))
    assert log.stat().st_size == size, "nothing was written after the answer to DELETE"
    assert any("withdrawn" in event["text"] for event in kinds(live, attempt, "notice"))
    # What was granted and taken back is asked for again.
    assert asked(live, attempt, "WRITE")["folder"] == str(outside)


def test_a_gate_that_a_withdrawal_ended_runs_again(live: LiveStack, outside: Path) -> None:
    """It has every root of the user's, so taking one back ends it, whatever it was doing."""
    root = live.call("POST", "/api/local-access/roots/", {"path": str(outside)})["id"]
    began = outside / "began"
    # Where it may write no more it does not wait.
    test = f"if date >> {began}; then sleep 600; fi; {CALCULATOR_COMMANDS['test_cmd']}"
    project = live.make_project("ended-gate", test_cmd=test)
    live.replay.turns = fix_calculator()
    attempt = start(live, live.make_task(project, "Repair beside a root"))
    wait_for(began.exists, within_s=60, what="the gate to run")
    live.call("DELETE", f"/api/local-access/roots/{root}/", expect=204)

    done = live.wait_for_attempt(attempt)
    assert done["status"] == "REVIEW", done["failure_message"]
    (gate,) = [one for one in kinds(live, attempt, "gate") if one["name"] == "test"]
    assert (gate["exit_code"], gate["flaky"]) == (0, False), "no evidence of the one that was ended"
    notices = " ".join(event["text"] for event in kinds(live, attempt, "notice"))
    assert "The test gate runs again, as that withdrawal ended it." in notices


def writers_of(file: Path) -> list[str]:
    """Return the processes whose command line names a file."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(file) in line and "pytest" not in line:
            found.append(line)
    return found


def test_project_root_switched_off_ends_the_run(live: LiveStack, outside: Path, hold: Any) -> None:
    project = live.make_project("loses-ground")
    live.replay.turns = [
        Turn(calls=(ToolCall("run_command", {"command": "touch begun; sleep 300"}),)),
    ]
    attempt = start(live, live.make_task(project, "Lose the ground"))
    worktree = live.home / "worktrees" / attempt
    wait_for((worktree / "begun").exists, within_s=60, what="the command to begin")
    root = roots(live)[project["repo_path"]]

    live.call("PATCH", f"/api/local-access/roots/{root}/", {"is_enabled": False})

    assert not writers_of(Path("sleep 300")), "its processes are gone when the answer is there"
    ended = live.wait_for_attempt(attempt)
    assert (ended["status"], ended["failure"]) == ("FAILED", "REPO_INVALID")
    assert "granted" in ended["failure_message"]


def test_read_is_granted_by_the_command_line(live: LiveStack, outside: Path, hold: Any) -> None:
    project = live.make_project("reads")
    (outside / "notes.txt").write_text("the notes\n")
    look = Turn(calls=(ToolCall("read_file", {"path": f"{outside}/notes.txt"}),))
    held = hold(run(f"cat {outside}/notes.txt"))
    live.replay.turns = [look, held, look, *fix_calculator()]
    attempt = start(live, live.make_task(project, "Read outside"))
    request = asked(live, attempt, "READ")
    assert request["folder"] == str(outside)

    listed = rootbound(live.home, "access", "list")
    assert f"READ {outside}" in listed.stdout, listed.stderr
    granted = rootbound(live.home, "access", "grant", request["id"][:13], "--always")
    assert granted.returncode == 0, granted.stderr
    assert str(outside) in granted.stdout
    held.let_go()

    done = live.wait_for_attempt(attempt)
    assert done["status"] == "REVIEW", (done["failure_message"], results(live, attempt))
    first, by_command, by_tool = results(live, attempt)[:3]
    assert not first["ok"]
    assert "the notes" in by_command["text"]
    assert "the notes" in by_tool["text"]
    config = live.call("GET", f"/api/projects/{project['id']}/")["config"]
    assert config["readable_paths"] == [str(outside)]
    assert str(outside) not in roots(live), "what is granted for reading cannot be written"


def test_what_is_protected_is_never_asked_for(live: LiveStack, outside: Path, hold: Any) -> None:
    project = live.make_project("protected")
    home = Path("~").expanduser()
    places = [
        "/etc/rootbound-was-here", f"{live.home}/secrets/new", f"{home}/.ssh/authorized_keys2",
        ".git/hooks/pre-commit", f"{project['repo_path']}/calculator.py",
        f"{home}/rootbound-was-here", "/usr/local/bin/rootbound-was-here",
    ]  # fmt: skip
    reads = [f"{live.home}/secrets/django.key", "/etc/shadow", f"{home}/.ssh/id_ed25519"]
    (outside / "x").write_text("x")
    attacks = [f"echo x >> {place}" for place in places] + [f"cat {place}" for place in reads]
    held = hold(run(f"echo x >> {outside}/y"))
    live.replay.turns = [run("; ".join(attacks)), held, *fix_calculator()]
    attempt = start(live, live.make_task(project, "Ask for everything"))
    held.let_go()

    request = asked(live, attempt, "WRITE")  # what came before it has been looked at
    live.wait_for_attempt(attempt)
    found = requests_of(live, attempt)
    folders = [one["folder"] for one in found]
    assert folders == [str(outside)], folders
    denied = live.call("GET", f"/api/audit/logs/?attempt={attempt}&result=DENIED&limit=200")
    advice = {row["path"]: row["detail"]["grant"] for row in denied["results"]}
    for place in ("/etc/rootbound-was-here", f"{home}/rootbound-was-here"):
        assert "refused" in advice[place], (place, advice)
    assert "copy" in advice[f"{project['repo_path']}/calculator.py"]["refused"]
    for folder in (str(live.home), "/etc", str(home), project["repo_path"]):
        url = f"/api/access-requests/{request['id']}/grant/"
        live.call("POST", url, {"scope": "task", "folder": folder}, expect=422)
    assert os.path.realpath(live.home) not in roots(live)
    assert requests_of(live, attempt)[0]["status"] == "PENDING", "nothing was half-granted"
    refused = live.call("POST", f"/api/access-requests/{request['id']}/refuse/", {})
    assert refused["status"] == "REFUSED"
