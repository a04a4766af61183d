"""Real repairs from a task to the merge, through the whole stack, two on each vendor's wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootbound.testing.script import Conversation, Steps, ToolCall, Turn
from tests.support.live import LiveStack
from tests.support.releases import (
    PAIRS,
    TEST,
    Tree,
    changed,
    edits_between,
    repository_before,
    tree,
)
from tests.support.repos import git

__all__ = ["tree"]

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "As released."}),))
NOTE = Turn(calls=(ToolCall("write_file", {"path": "NOTES.txt", "content": "Not yet.\n"}),))
TIDY = ToolCall("delete_file", {"path": "NOTES.txt"})


@pytest.fixture
def agents(live: LiveStack) -> Iterator[dict[str, str]]:
    """Return one agent for each wire, by the name of the wire."""
    live.ensure_agents()
    made = {}
    wires = {"GLM": ("glm-7", live.stub.glm_url()),
             "GEMINI": ("gemini-2.5-flash", live.stub.gemini_url())}  # fmt: skip
    for wire, (model, base_url) in wires.items():
        facts = {"name": f"Repairs over {wire}", "role": "BACKEND", "provider": wire,
                 "model": model, "base_url": base_url, "system_prompt": "",
                 "settings": {"replay": True}}  # fmt: skip
        made[wire] = live.call("POST", "/api/agents/", facts)["id"]
    yield made
    for agent in made.values():
        live.call("DELETE", f"/api/agents/{agent}/")


def make_task(live: LiveStack, repo: Path, tests: str) -> str:
    """Make a project of a repository, with the task to repair it."""
    live.call("POST", "/api/local-access/roots/", {"path": str(repo)})
    facts = {"name": repo.name, "repo_path": str(repo), "config": {"test_cmd": f"{TEST} {tests}"}}
    project = live.call("POST", "/api/projects/", facts)
    return str(live.make_task(project, f"Repair {repo.name}")["id"])


def baseline(live: LiveStack, attempt: str) -> dict[str, Any]:
    """Return what the failing gate said of the commit before."""
    payloads = [event["payload"] for event in live.events(attempt)]
    (found,) = [one for one in payloads if one.get("kind") == "baseline"]
    return dict(found)


def test_four_libraries_are_repaired_and_merged(
    live: LiveStack, agents: dict[str, str], tree: Tree
) -> None:
    """Red at the release before, repaired after the gate said so, merged as upstream released."""
    scripts: dict[str, Steps] = {}
    tasks: dict[str, tuple[Path, Path, list[str], str]] = {}

    def worker(conversation: Conversation) -> Turn:
        name = next(name for name in scripts if f"Repair {name}" in conversation.prompt)
        return scripts[name](conversation)

    live.replay.worker = worker
    # Each library with every fault on both wires: tests/integration/agents/test_real_repairs.py.
    for pair, (wire, agent) in zip(PAIRS, [*agents.items()] * 2, strict=True):
        before, after = tree(pair.package, pair.old), tree(pair.package, pair.new)
        names = changed(pair, before, after)
        repaired = Turn(calls=(*edits_between(before, after, names), TIDY))
        repo = live.scratch / f"{pair.package}-{wire.lower()}"
        repository_before(repo, before, after, pair.old)
        scripts[repo.name] = Steps([NOTE, DONE, repaired, DONE])
        tasks[make_task(live, repo, pair.tests)] = (repo, after, names, agent)
    started = {
        live.call("POST", f"/api/tasks/{task}/attempts/", {"agent_id": facts[-1]})["id"]: facts
        for task, facts in tasks.items()
    }

    for attempt, (repo, after, names, _) in started.items():
        ended = live.wait_for_attempt(attempt, within_s=180)
        assert ended["status"] == "REVIEW", ended
        assert baseline(live, attempt)["exit_code"] != 0, "red at the release before"
        assert ended["gates"][-1]["exit_code"] == 0
        assert ended["diff_stats"]["files"] == len(names), "nothing but what upstream changed"
        merged = live.call("POST", f"/api/attempts/{attempt}/approve/", {})
        assert merged["status"] == "SUCCESS", merged
        for name in names:
            assert (repo / name).read_bytes() == (after / name).read_bytes(), name
        assert git(repo, "status", "--porcelain") == ""
