"""`rootbound keys` and `rootbound worktrees` on the running stack."""

from __future__ import annotations

import json

from rootbound.testing.script import Turn
from tests.support.live import LiveStack, fix_calculator, rootbound


def test_keys_are_tried_and_worktrees_are_listed_and_removed(live: LiveStack) -> None:
    def said(*words: str) -> object:
        done = rootbound(live.home, *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    project = live.make_project("commands")
    live.replay.turns = [Turn(text="Ready.")]
    tried = said("keys", "test", "Replayed QA")
    assert [(row["agent"], row["ok"]) for row in tried] == [("Replayed QA", True)]
    assert {"GLM_API_KEY"} <= {key["name"] for key in said("keys", "list")}

    live.replay.turns = fix_calculator()
    task = live.make_task(project, "Repair it")
    attempt = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    live.wait_for_attempt(attempt, "REVIEW")
    listed = {row["attempt_id"]: row for row in said("worktrees")["worktrees"]}
    assert listed[attempt]["bytes"] > 0
    live.call("POST", f"/api/attempts/{attempt}/reject/", {"reason": "Not so."})
    left = said("worktrees", "--clean")["worktrees"]
    assert attempt not in {row["attempt_id"] for row in left}
