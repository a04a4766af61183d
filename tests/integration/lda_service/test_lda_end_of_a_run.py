"""What is said or granted at the very end of a run is answered, by whoever is quicker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rootbound.testing.script import Steps, ToolCall, Turn
from tests.integration.lda.lda_support import run_payload, wait_for

GOOD = {"path": "calc.py", "content": "def add(a, b):\n    return a + b\n"}
STEPS = [
    Turn(calls=(ToolCall("write_file", GOOD),)),
    Turn(calls=(ToolCall("finish", {"status": "done", "summary": "add adds now."}),)),
]


def test_a_change_of_what_is_granted_while_a_run_ends_is_answered(
    masked: Callable[..., Any], repo: Path, receiver: Any, stub: Any
) -> None:
    lda = masked(99, False)  # without a wall a change takes effect at once
    payload = run_payload(
        repo, receiver, stub(Steps(STEPS)), commands={"test_cmd": "true"}, accept_tier="F"
    )
    attempt, answers, roots = payload["attempt_id"], set(), [str(repo.parent)]
    assert lda.call("POST", "/run", payload).status_code == 202
    wait_for(lambda: receiver.payloads(attempt, "tool_call"), "the agent")
    for generation in range(1, 2_000):
        # Each one grants a further folder, of which the agent is told.
        folder = repo.parent.parent / f"other{generation}"
        folder.mkdir()
        roots.append(str(folder))
        grant = {"generation": generation, "lease_generation": 1,
                 "writable_roots": roots, "readable_paths": []}  # fmt: skip
        answer = lda.call("POST", f"/runs/{attempt}/policy", grant)
        answers.add((answer.status_code, answer.json().get("code")))
        if answer.status_code != 200:
            break
    assert answers == {(200, None), (409, "run-over")}
    assert wait_for(lambda: receiver.status(attempt), "the end of the run")["status"] == "REVIEW"
    late = lda.call("POST", f"/runs/{attempt}/messages", {"text": "More."})
    assert (late.status_code, late.json()["code"]) == (409, "run-over")
