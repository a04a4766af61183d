"""Runs that do not end well end with a typed reason, soon, and leave nothing behind."""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest

from rootbound.testing.script import Conversation, Fault, Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Done."}),))


def write(text: str) -> Turn:
    return Turn(calls=(ToolCall("write_file", {"path": "calc.py", "content": text}),))


GOOD = write("def add(a, b):\n    return a + b\n")


def run(lda: Any, receiver: Any, payload: dict[str, Any]) -> dict[str, Any]:
    answer = lda.call("POST", "/run", payload)
    assert answer.status_code == 202, answer.text
    attempt = payload["attempt_id"]
    return wait_for(lambda: receiver.status(attempt), "the end of the run")


def processes(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if mark in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_failing_gate_goes_back_to_the_agent(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    model = stub(Steps([write("def add(a, b):\n    return 7\n"), DONE, GOOD, DONE]))
    payload = run_payload(repo, receiver, model)
    status = run(lda, receiver, payload)
    assert status["status"] == "REVIEW"
    attempt = payload["attempt_id"]
    gates = [(g["name"], g["exit_code"]) for g in receiver.payloads(attempt, "gate")]
    assert gates[-4:] == [("test", 1), ("install", 0), ("lint", 0), ("test", 0)]
    last = model.requests[-1].body["messages"]
    assert "AssertionError: 7" in next(
        m["content"] for m in last if m["role"] == "user" and "test command ran" in m["content"]
    )
    states = [e["payload"]["status"] for e in receiver.events[attempt] if e["type"] == "STATUS"]
    assert states == ["GATES", "REVIEW"]


@pytest.mark.parametrize(
    ("turns", "changes", "failure", "says"),
    [
        ([DONE], {}, "NO_CHANGES", "without changing"),
        (
            [Turn(calls=(ToolCall("finish", {"status": "blocked", "summary": "No spec."}),))],
            {},
            "AGENT_BLOCKED",
            "No spec.",
        ),
        (
            [GOOD, DONE],
            {"commands": {"test_cmd": "nonexistent-tester"}, "limits": {"gate_retries": 0}},
            "GATE_TEST",
            "correct test_cmd in the project's settings",
        ),
        ([], {"commands": {"install_cmd": "echo no; exit 3"}}, "GATE_INSTALL", "exit code 3"),
        (
            [GOOD, DONE],
            {
                "commands": {"test_cmd": "(setsid sleep 61.5 &) ; sleep 60"},
                "limits": {"gate_timeout_s": 0.5, "gate_retries": 0},
            },
            "GATE_TIMEOUT",
            "gate_timeout_s",
        ),
        ([GOOD] * 9, {"limits": {"max_steps": 2}}, "AGENT_LIMIT_STEPS", "2 steps"),
        ([GOOD] * 9, {"limits": {"max_tokens": 5}}, "AGENT_LIMIT_TOKENS", "limit of 5"),
        ([GOOD] * 9, {}, "AGENT_BLOCKED", "same arguments"),
        (
            [Turn(calls=(ToolCall("run_command", {"command": "sleep 60"}),))],
            {"limits": {"max_seconds": 1.5}},
            "AGENT_LIMIT_TIME",
            "time limit",
        ),
        ([Turn(faults=(Fault.http(401),))], {}, "PROVIDER_AUTH", "GLM_API_KEY"),
        ([Turn(faults=(Fault.rate_limited(code="1113"),))], {}, "PROVIDER_QUOTA", "balance"),
        ([Turn(text="x", finish="blocked")], {}, "PROVIDER_REFUSED", "content rules"),
        ([DONE], {"base_ref": "nowhere"}, "REPO_INVALID", "nowhere"),
        ([DONE], {"repo_path": "/nonexistent"}, "REPO_INVALID", "no folder"),
        ([DONE], {"writable_roots": []}, "REPO_INVALID", "no granted folder"),
    ],
)
def test_typed_failures(
    turns: list[Turn], changes: dict[str, Any], failure: str, says: str,
    lda: Any, repo: Path, receiver: Any, stub: Any,
) -> None:  # fmt: skip
    model = stub(Steps(turns))
    payload = run_payload(repo, receiver, model, **changes)
    status = run(lda, receiver, payload)
    assert (status["status"], status["failure"]) == ("FAILED", failure), status
    assert says in status["message"]
    assert "\n" not in status["message"]
    if failure == "GATE_TIMEOUT":
        assert processes("sleep 61.5") == [], "nothing of its tree is left"
    if says == "same arguments":
        told = [m["content"] for m in model.requests[-1].body["messages"] if m["role"] == "tool"]
        assert ["[You made this same call before." in text for text in told] == [
            False, False, True, True,
        ]  # fmt: skip
    if failure.startswith("AGENT_LIMIT_STEPS"):
        kept = git(repo, "show", f"attempt/{payload['attempt_id']}:calc.py")
        assert "a + b" in kept, "what the agent did is kept on its branch"


def test_a_missing_key_says_how_to_set_it(lda: Any, repo: Path, receiver: Any, stub: Any) -> None:
    model = stub(Steps([DONE]))
    payload = run_payload(repo, receiver, model, provider="GEMINI")
    payload["agent_config"]["settings"] = {}
    status = run(lda, receiver, payload)
    assert status["failure"] == "PROVIDER_AUTH"
    assert "GEMINI_API_KEY" in status["message"]
    assert model.requests == ()


def test_cancel_ends_the_whole_tree_within_a_second(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    mark = f"31{time.time_ns() % 10**9}"
    command = f"(setsid sleep {mark} &) ; nohup sleep {mark} & sleep {mark}"
    model = stub(Steps([Turn(calls=(ToolCall("run_command", {"command": command}),))]))
    payload = run_payload(repo, receiver, model)
    lda.call("POST", "/run", payload)
    wait_for(lambda: len(processes(mark)) >= 3, "the processes")
    began = time.monotonic()
    attempt = payload["attempt_id"]
    assert lda.call("POST", f"/runs/{attempt}/cancel").status_code == 202
    status = wait_for(lambda: receiver.status(attempt), "the end of the run")
    took = time.monotonic() - began
    assert status["failure"] == "CANCELLED"
    assert processes(mark) == []
    assert took < 1.5, f"{took:.2f} s"
    assert lda.call("GET", f"/runs/{attempt}").json()["live"] is False


def stalled(mark: str) -> Steps:
    command = f"echo started; sleep {mark}"
    return Steps([GOOD, Turn(calls=(ToolCall("run_command", {"command": command}),))])


def test_a_fenced_run_is_killed(lda: Any, repo: Path, receiver: Any, stub: Any) -> None:
    mark = f"34{time.time_ns() % 10**9}"
    payload = run_payload(repo, receiver, stub(stalled(mark)))
    lda.call("POST", "/run", payload)
    wait_for(lambda: processes(mark), "the command")
    receiver.fenced.add(payload["attempt_id"])
    lda.call("POST", f"/runs/{payload['attempt_id']}/cancel")  # makes it report something
    wait_for(lambda: not processes(mark), "the end of its processes")
    url = f"/runs/{payload['attempt_id']}"
    wait_for(lambda: not lda.call("GET", url).json()["live"], "the end of the run")


def test_a_plan_is_made_by_the_pm(lda: Any, repo: Path, receiver: Any, stub: Any) -> None:
    def tasks(*edges: tuple[str, list[str]], role: str = "backend") -> list[dict[str, Any]]:
        common = {"description": "Do it.", "role": role}
        return [{"key": k, "title": k, "depends_on": d, **common} for k, d in edges]

    def submit(value: Any) -> Turn:
        return Turn(calls=(ToolCall("submit_plan", {"summary": "Two steps.", "tasks": value}),))

    seen: list[str] = []

    def cyclic(conversation: Conversation) -> Turn:
        seen.extend(conversation.tool_names)
        return submit(tasks(("a", ["b"]), ("b", ["a"])))

    model = stub(
        Steps(
            [
                Turn(calls=(ToolCall("read_file", {"path": "calc.py"}),)),
                cyclic,
                submit(str(tasks(("a", []), ("b", ["c"]))).replace("'", '"')),
                submit([{**tasks(("a", []), role="wizard")[0], "priority": 10**9}]),
                submit(tasks(("a", []), ("a", []))),
                submit(tasks(("a\0", []), ("b", ["a\0"]))),
            ]
        )
    )
    run_like = run_payload(repo, receiver, model)
    key = str(uuid.uuid4())
    names = ("version", "project_id", "user_id", "repo_path", "agent_config", "writable_roots")
    payload = {
        **{name: run_like[name] for name in names},
        "decomposition_id": key,
        "prompt": "Make it right",
        "ingest": {"base_url": receiver.url, "token": "plan"},
        "lease_generation": 1,
    }
    assert lda.call("POST", "/plans", payload).status_code == 202
    report = wait_for(lambda: receiver.plans.get(key), "the plan")
    assert report["failure"] is None
    assert [(t["key"], t["role"], t["depends_on"]) for t in report["plan"]["tasks"]] == [
        ("a\ufffd", "BACKEND", []),
        ("b", "BACKEND", ["a\ufffd"]),
    ]
    assert {"read_file", "list_files", "search_files", "submit_plan"} == set(seen)
    assert any(entry["path"].endswith("calc.py") for entry in receiver.audit[key])
    assert git(repo, "status", "--porcelain") == ""
    told = str(model.requests[-1].body["messages"])
    for fault in ("form a cycle", "wizard", "is used twice", "less than or equal to 1000000"):
        assert fault in told, "what is wrong with a plan goes back to the model"

    # What the backend does not take is told to it as a failure, not sent for ever.
    receiver.refusing = True
    fine = stub(Steps([submit(tasks(("a", [])))]))
    other = {**payload, "decomposition_id": str(uuid.uuid4())}
    other["agent_config"] = run_payload(repo, receiver, fine)["agent_config"]
    assert lda.call("POST", "/plans", other).status_code == 202
    report = wait_for(lambda: receiver.plans.get(other["decomposition_id"]), "the end of the plan")
    assert (report["plan"], report["failure"]) == (None, "AGENT_BLOCKED")
    assert report["message"].startswith("The plan cannot be used: The report does not fit.")
    assert len(receiver.refused_plans) == 1

    # Boundedly: then the plan fails with a sentence.
    stubborn = stub(Steps([], exhausted=submit(tasks(("a", []), ("a", [])))))
    again = {**payload, "decomposition_id": str(uuid.uuid4())}
    again["agent_config"] = run_payload(repo, receiver, stubborn)["agent_config"]
    assert lda.call("POST", "/plans", again).status_code == 202
    report = wait_for(lambda: receiver.plans.get(again["decomposition_id"]), "the end of the plan")
    assert (report["plan"], report["failure"]) == (None, "PROVIDER_REFUSED")
    assert "no valid plan in 5 tries" in report["message"]
    assert "(Value error, the key 'a' is used twice; keys must be unique)" in report["message"]


def test_validation_and_health(lda: Any, repo: Path) -> None:
    health = wait_for(
        lambda: (h := lda.call("GET", "/health").json())["sandbox"]["tier"] != "F" and h, "probe"
    )
    assert health["id"] == lda.facts["id"]
    good = lda.call(
        "POST", "/repos/validate", {"path": str(repo), "writable_roots": [str(repo.parent)]}
    )
    assert good.json()["default_branch"] == "main"
    outside = lda.call("POST", "/repos/validate", {"path": str(repo), "writable_roots": []})
    assert (outside.status_code, outside.json()["code"]) == (422, "repo-outside-roots")
    for path, code in {"/": "root-is-filesystem-root", "x": "root-not-absolute"}.items():
        refused = lda.call("POST", "/roots/validate", {"path": path})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert lda.call("POST", "/roots/validate", {"path": str(repo)}).status_code == 200
    assert lda.call("GET", "/runs/unknown").json()["code"] == "run-unknown"
    bad = lda.call("POST", "/run", {"version": 1})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid")
    git(repo, "checkout", "-q", "--detach")
    where = {"path": str(repo), "writable_roots": [str(repo.parent)]}
    detached = lda.call("POST", "/repos/validate", where)
    assert (detached.status_code, detached.json()["code"]) == (422, "repo-detached")
    named = lda.call("POST", "/repos/validate", {**where, "branch": "main"})
    assert named.json()["default_branch"] == "main"
    git(repo, "branch", "attempt/of-an-agent")
    offered = lda.call("POST", "/repos/branches", where).json()
    assert offered == {"checked_out": None, "branches": ["main"]}
    for path, code in {"/": "root-is-filesystem-root", str(repo.parent): "repo-not-git"}.items():
        refused = lda.call("POST", "/repos/branches", {"path": path})
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    unknown = lda.call("GET", "/nonsense")
    assert unknown.headers["content-type"] == "application/problem+json"


# The last ones: they end the process.


def test_kill_and_restart_end_the_run_as_lost(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    mark = f"32{time.time_ns() % 10**9}"
    payload = run_payload(repo, receiver, stub(stalled(mark)))
    attempt = payload["attempt_id"]
    lda.call("POST", "/run", payload)
    wait_for(lambda: processes(mark), "the command")
    receiver.down = True
    lda.stop(signal.SIGKILL)
    wait_for(lambda: not processes(mark), "the end of its processes", 5)
    receiver.down = False
    (lda.home / "runs" / attempt / "payload.json").unlink()  # or it would go on
    lda.start()
    status = wait_for(lambda: receiver.status(attempt), "the end of the run")
    assert status["failure"] == "LDA_LOST"
    seqs = [event["seq"] for event in receiver.events[attempt]]
    assert seqs == list(range(1, len(seqs) + 1))
    again = lda.call("POST", "/run", payload).json()
    assert (again["state"], again["reused"]) == ("FAILED", True)
    # The next generation works on, in the same stream.
    finished = stub(Steps([GOOD, DONE]))
    retry = run_payload(repo, receiver, finished, attempt_id=attempt, lease_generation=2)
    assert lda.call("POST", "/run", retry).json()["reused"] is False
    wait_for(
        lambda: receiver.events[attempt][-1]["payload"].get("status") == "REVIEW", "the review"
    )
    stale = lda.call("POST", "/run", payload)
    assert (stale.status_code, stale.json()["code"]) == (409, "fenced")


def test_sigterm_leaves_the_run_to_the_next_process(
    lda: Any, repo: Path, receiver: Any, stub: Any
) -> None:
    mark = f"33{time.time_ns() % 10**9}"
    payload = run_payload(repo, receiver, stub(stalled(mark)))
    lda.call("POST", "/run", payload)
    wait_for(lambda: processes(mark), "the command")
    assert lda.stop() == 0
    assert receiver.status(payload["attempt_id"]) is None
    assert processes(mark) == []
    assert not (lda.home / "run" / "lda.json").exists()
