"""A machine that offers less: runs are refused, unless the project accepts the level by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootbound.testing.script import Steps, ToolCall, Turn
from rootbound_lda.sandbox import _bubblewrap
from tests.integration.lda.lda_support import run_payload, wait_for

STEPS = [
    Turn(calls=(ToolCall("run_command", {"command": "sed -i 's/a - b/a + b/' calc.py"}),)),
    Turn(calls=(ToolCall("finish", {"status": "done", "summary": "add adds now."}),)),
]
needs_bubblewrap = pytest.mark.skipif(
    _bubblewrap.find() is None, reason="bubblewrap is not installed"
)


def _run(lda: Any, repo: Path, receiver: Any, model: Any, accept: str | None) -> dict[str, Any]:
    payload = run_payload(repo, receiver, model, accept_tier=accept)
    assert lda.call("POST", "/run", payload).status_code == 202
    attempt = payload["attempt_id"]
    status: dict[str, Any] = wait_for(lambda: receiver.status(attempt), "the end of the run", 180)
    first = receiver.events[attempt][0]["payload"]
    assert first["kind"] == "enforcement"
    return {**status, "tier": first["tier"], "missing": first["missing"], "attempt": attempt}


@needs_bubblewrap
def test_tier_c_has_to_be_accepted_and_then_works(
    masked: Callable[..., Any], repo: Path, receiver: Any, stub: Any
) -> None:
    lda = masked(0, True)
    refused = _run(lda, repo, receiver, stub(Steps(STEPS)), None)
    assert (refused["failure"], refused["tier"]) == ("POLICY_UNENFORCEABLE", "C")
    assert "There is no Landlock" in refused["message"]
    assert "Accept tier C in the project's settings" in refused["message"]
    health = lda.call("GET", "/health").json()["sandbox"]
    assert (health["tier"], health["missing"]) == ("C", refused["missing"])
    done = _run(lda, repo, receiver, stub(Steps(STEPS)), "C")
    assert (done["status"], done["tier"]) == ("REVIEW", "C"), done
    written = {
        entry["path"].rpartition("/")[2]
        for entry in receiver.audit[done["attempt"]]
        if entry["source"] == "kernel" and entry["result"] == "ALLOWED"
    }
    assert "calc.py" in written
