"""A whole attempt through a real LDA process: worktree, agent, gates, review, merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rootbound.testing.script import Fault, Steps, ToolCall, Turn
from rootbound_lda.audit import verify_chain
from tests.integration.lda.lda_support import git, run_payload, wait_for

FIX = ToolCall(
    "edit_file",
    {"path": "calc.py", "old_string": "return a - b", "new_string": "return a + b"},
)
DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "add adds now."}),))


@pytest.mark.parametrize("provider", ["GLM", "GEMINI"])
def test_whole_attempt(provider: str, lda: Any, repo: Path, receiver: Any, stub: Any) -> None:
    outside = repo.parent / "outside.txt"
    steps = Steps(
        [
            Turn(text="I look first.", thinking="Hm.", calls=(
                ToolCall("read_file", {"path": "calc.py"}),
                ToolCall("write_file", {"path": str(outside), "content": "no"}),
            )),
            Turn(calls=(ToolCall("run_command", {"command": f"echo no > {outside}; ls"}),),
                 faults=(Fault.http(500),)),
            Turn(calls=(FIX,)),
            DONE,
        ]
    )  # fmt: skip
    model = stub(steps)
    payload = run_payload(repo, receiver, model, provider=provider)
    attempt = payload["attempt_id"]
    before = git(repo, "rev-parse", "HEAD")
    answer = lda.call("POST", "/run", payload)
    assert answer.status_code == 202, answer.text
    assert lda.call("POST", "/run", payload).json()["reused"] is True

    status = wait_for(lambda: receiver.status(attempt), "the end of the run")
    assert status["status"] == "REVIEW", (status, receiver.events[attempt])
    head = status["head_commit"]
    events = receiver.events[attempt]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["payload"]["kind"] == "enforcement"
    assert "".join(item["delta"] for item in receiver.payloads(attempt, "text")) == "I look first."
    thought = "".join(item["delta"] for item in receiver.payloads(attempt, "thinking"))
    assert thought == "Hm.", "thinking is streamed beside the text"
    assert receiver.payloads(attempt, "retry")
    gates = [g for g in receiver.payloads(attempt, "gate") if g["commit"] == head]
    assert [(g["name"], g["exit_code"]) for g in gates] == [
        ("install", 0),
        ("lint", 0),
        ("test", 0),
    ]
    assert "all good" in (lda.home / "artifacts" / attempt / gates[2]["log_artifact"]).read_text()

    # Nothing was written outside, and both tries are recorded, in an unbroken chain.
    assert not outside.exists()
    entries = receiver.audit[attempt]
    assert verify_chain(entries) is None
    denied = {e["source"] for e in entries if e["result"] == "DENIED" and e["path"] == str(outside)}
    assert denied == {"tool", "kernel"}
    end = receiver.order.index(("event", attempt, len(events)))
    assert all(kind != "audit" for kind, _, _ in receiver.order[end:])

    # The user's checkout was left alone, and the commit is the user's.
    assert git(repo, "rev-parse", "HEAD") == before
    assert git(repo, "status", "--porcelain") == ""
    assert git(repo, "log", "-1", "--format=%an <%ae>", head) == "Ada Owner <ada@example.org>"
    assert "Co-authored-by: Fixer" in git(repo, "log", "-1", "--format=%B", head)

    diff = lda.call("GET", f"/runs/{attempt}/diff").json()
    assert diff["stats"] == {"files": 1, "additions": 1, "deletions": 1}
    assert "+    return a + b" in diff["files"][0]["patch"]

    merged = lda.call("POST", f"/runs/{attempt}/merge", {"head_commit": head, "message": "Repair"})
    assert merged.status_code == 200, merged.text
    assert merged.json()["base_before"] == before
    assert git(repo, "rev-parse", "main") == merged.json()["merge_commit"]
    assert "a + b" in (repo / "calc.py").read_text()
    assert attempt in git(repo, "log", "-1", "--format=%B")
    again = lda.call("POST", f"/runs/{attempt}/merge", {"head_commit": head, "message": "Repair"})
    assert again.json() == merged.json()
    # The key of the user never went to a replayed model.
    assert {request.key for request in model.requests} == {"replay"}
    secret = "secret-of-the-user"
    assert secret not in json.dumps(events) + (lda.home / "lda.log").read_text()
