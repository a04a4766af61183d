"""With a key in the environment the same flow runs against the vendor's address, and only the
guard, the Local Desktop Agent that it starts, and the vendor ever see the key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootbound.testing.script import ToolCall, Turn
from tests.support.environment import clean_env
from tests.support.live import LiveStack, fix_calculator, live_stack
from tests.support.repos import make_repository

KEY = "sk-0123456789-secret-of-the-user"
# What a curious agent would look at.
PRY = (
    "env; cat /proc/self/environ; cat /proc/[0-9]*/environ; cat /proc/[0-9]*/cmdline;"
    " ls -a ~ $TMPDIR; exit 0"
)


@pytest.fixture(scope="module")
def keyed() -> Iterator[LiveStack]:
    """A stack whose vendor is the stub, with the user's key in the environment."""
    with live_stack(GLM_API_KEY=KEY, ROOTBOUND_GLM_BASE_URL="{glm}") as live:
        yield live


def test_the_key_reaches_the_vendor_and_nobody_else(keyed: LiveStack) -> None:
    live = keyed
    live.call(
        "POST",
        "/api/agents/",
        {"name": "GLM", "role": "BACKEND", "provider": "GLM", "model": "glm-7"},
    )
    project = live.make_project("with-a-key")
    look = Turn(calls=(ToolCall("run_command", {"command": PRY}),))
    live.replay.turns = [look, *fix_calculator()]
    task = live.make_task(project, "Repair addition")
    made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
    attempt = live.wait_for_attempt(made["id"])

    assert attempt["status"] == "REVIEW", attempt
    assert attempt["agent"]["is_replay"] is False
    asked = [request for request in live.stub.requests if request.wire == "openai"]
    assert {request.key for request in asked} == {"hidden"}, "the user's key was sent"
    assert KEY not in str(live.events(attempt["id"]))
    assert KEY not in str([request.body for request in asked])
    assert not files_with_key(live)
    assert not other_processes_with_key()


def test_the_readmes_ten_lines_work_as_printed(keyed: LiveStack) -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text()
    script = readme.split("```python\n")[1].split("```")[0]
    assert len([line for line in script.splitlines() if line.strip()]) <= 10
    home = keyed.scratch / "somebody"
    make_repository(home / "src/app")
    one = {"key": "a", "title": "Repair addition", "description": "add() subtracts.",
           "role": "BACKEND", "priority": 0, "depends_on": []}  # fmt: skip
    keyed.replay.plan = {"summary": "Repair it.", "tasks": [one]}
    keyed.replay.turns = fix_calculator()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=home, capture_output=True, text=True, timeout=120,
        env=clean_env(keyed.home, HOME=str(home)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("REVIEW ")
    assert "+    return a + b" in done.stdout
    assert "attempt 1: REVIEW" in done.stderr, "the progress bar"


def files_with_key(live: LiveStack) -> list[str]:
    """Return the files of the state folder and the repository that hold the key."""
    found = []
    for folder in (live.home, live.scratch):
        for path in folder.rglob("*"):
            if path.is_file() and KEY.encode() in path.read_bytes():
                found.append(str(path))
    return found


def other_processes_with_key() -> list[str]:
    """Return processes that have the key in argv or environment, less those that must have it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        may_know = "-m rootbound_lda" in command or "stack.guard" in command
        if KEY in command or (KEY.encode() in environ and not may_know):
            found.append(command)
    return found
