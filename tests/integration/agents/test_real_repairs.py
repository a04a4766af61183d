"""Real repairs from neighbouring releases on the package index: red before, green after."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rootbound.testing.script import Conversation, Fault, Steps, ToolCall, Turn
from tests.integration.lda.lda_support import git, run_payload, wait_for
from tests.support.releases import (
    PAIRS,
    TEST,
    Pair,
    Tree,
    changed,
    edits_between,
    repository_before,
    tree,
)

DONE = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "As released."}),))


__all__ = ["tree"]

THOUGHT = Turn(thinking="Only thinking.")


def look(number: int) -> ToolCall:
    """Read the notes, never twice with the same arguments: that would be going in circles."""
    return ToolCall("read_file", {"path": "NOTES.txt", "limit": number})


def faulty() -> list[Turn | Callable[[Conversation], Turn]]:
    """What vendors do wrong, in every run."""
    return [
        Turn(calls=(look(1),), faults=(Fault.rate_limited(retry_after=0.2),)),
        Turn(calls=(look(2),), faults=(Fault.http(503),)),
        Turn(text="Half is lost.", calls=(look(3),), faults=(Fault.cut(),)),
        Turn(text="This as well.", calls=(look(4),), faults=(Fault.early_eof(),)),
        asked_again((THOUGHT, Turn(text="Cut", finish="length"), Turn(calls=(look(5),)))),
        asked_again((Turn(calls=(look(6),), finish="malformed_call"), Turn(calls=(look(7),)))),
    ]


def asked_again(turns: tuple[Turn, ...]) -> Callable[[Conversation], Turn]:
    """Say one thing after the other to the same step, and keep to the last."""
    left = list(turns)

    def step(_: Conversation) -> Turn:
        return left.pop(0) if len(left) > 1 else left[0]

    return step


def edit(old: str, path: str = "NOTES.txt") -> ToolCall:
    return ToolCall("edit_file", {"path": path, "old_string": old, "new_string": "new"})


def mistakes(outside: Path) -> list[Turn]:
    """What agents do wrong, in every run; each is answered with what to do instead."""
    grown = ToolCall("run_command", {"command": "echo three >> NOTES.txt"})
    return [
        Turn(calls=(ToolCall("open_browser", {"url": "x"}),)),
        Turn(calls=(ToolCall("read_file", {"file": "NOTES.txt"}),)),
        Turn(
            calls=(
                ToolCall("read_file", {"path": "NOTES.txt"}, "same"),
                ToolCall("list_files", {"limit": 3}, "other"),
                ToolCall("search_files", {"pattern": "same"}, "third"),
            )
        ),
        Turn(calls=(ToolCall("list_files", {"limit": 2}, "same"),)),
        Turn(calls=(edit("same"),)),
        Turn(calls=(grown,)),
        Turn(calls=(edit("same\nsame\n"),)),
        Turn(calls=(edit("x", str(outside)),)),
    ]


ANSWERS = (
    "There is no tool 'open_browser'. The tools are: read_file",
    "read_file has no argument 'file'; it takes path",
    "old_string occurs 2 times, at lines 1, 2",
    "NOTES.txt has changed since you last read it; read it again first.",
    "outside.txt",
)


@dataclass
class Run:
    """One attempt, and what its agent was told."""

    payload: dict[str, Any]
    heard: list[str]

    @property
    def attempt(self) -> str:
        return str(self.payload["attempt_id"])


@dataclass
class Trial:
    """A repository at the earlier release, with the tests of the later one."""

    repo: Path
    command: str
    lda: Any
    receiver: Any
    stub: Any

    def start(self, provider: str, steps: Steps) -> Run:
        """Begin an attempt."""
        heard: list[str] = []

        def script(conversation: Conversation) -> Turn:
            heard.extend(result.text for result in conversation.last_results)
            return steps(conversation)

        payload = run_payload(
            self.repo, self.receiver, self.stub(script), provider=provider,
            commands={"test_cmd": self.command},
        )  # fmt: skip
        taken = self.lda.call("POST", "/run", payload)
        assert taken.status_code == 202, taken.text
        return Run(payload, heard)

    def ended(self, run: Run) -> dict[str, Any]:
        """Return how an attempt ended."""
        found = wait_for(lambda: self.receiver.status(run.attempt), "the end of the run", 120)
        return dict(found)


@pytest.mark.parametrize("pair", PAIRS, ids=[pair.package for pair in PAIRS])
def test_a_release_is_repaired_to_its_successor(
    pair: Pair, tree: Tree, tmp_path: Path,
    lda: Any, receiver: Any, stub: Any,
) -> None:  # fmt: skip
    """Every fault of vendors and agents, on both wires at once, so that their waits overlap."""
    package, old, new, tests, _ = pair
    before, after = tree(package, old), tree(package, new)
    repo = tmp_path / "granted" / package
    repository_before(repo, before, after, old)
    trial = Trial(repo, f"{TEST} {tests}", lda, receiver, stub)
    names = changed(pair, before, after)
    edits = edits_between(before, after, names)
    outside = tmp_path / "outside.txt"
    idle = ToolCall("write_file", {"path": "NOTES.txt", "content": "same\nsame\n"})
    tidy = ToolCall("delete_file", {"path": "NOTES.txt"})
    passes = "def test_nothing():\n    pass\n"
    cheat = Turn(
        calls=tuple(
            ToolCall("write_file", {"path": path, "content": passes}) for path in tests.split()
        )
    )

    def repair() -> Steps:
        repaired = Turn(calls=(*edits, tidy))
        return Steps([Turn(calls=(idle,)), *faulty(), *mistakes(outside), DONE, repaired, DONE])

    wires = ("GLM", "GEMINI")
    repairs = [trial.start(wire, repair()) for wire in wires]
    cheats = [trial.start(wire, Steps([cheat, DONE])) for wire in wires]
    idlers = [trial.start(wire, Steps([DONE])) for wire in wires]

    for run in idlers:
        assert trial.ended(run)["failure"] == "NO_CHANGES"
    for run in cheats:
        status = trial.ended(run)
        assert status["status"] == "REVIEW", status["message"]
        flagged = receiver.payloads(run.attempt, "diff")[-1]["tests"]
        assert flagged == sorted(tests.split()), "a green gate, and the reviewer is told why"
    for run in repairs:
        status = trial.ended(run)
        assert status["status"] == "REVIEW", status["message"]
        (base,) = receiver.payloads(run.attempt, "baseline")
        assert base["exit_code"] != 0, "the gate is red on the release before"
        assert base["new"] == []
        assert len(receiver.payloads(run.attempt, "retry")) >= 4
        said = "\n".join(run.heard)
        for answer in ANSWERS:
            assert answer in said
        head = status["head_commit"]
        shown = git(repo, "diff", "--name-only", "main", head).splitlines()
        assert shown == names, "nothing but what upstream changed"
        for name in names:
            blob = subprocess.run(
                ["git", "show", f"{head}:{name}"], cwd=repo, check=True, capture_output=True
            ).stdout
            assert blob == (after / name).read_bytes(), name
    assert not outside.exists()
