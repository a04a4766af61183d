"""With a key in the environment the same flow runs against the vendor's address, and only the
guard, the Local Desktop Agent that it starts, and the vendor ever see the key."""

from __future__ import annotations

import os
from pathlib import Path

from rootbound.testing.script import ToolCall, Turn
from tests.support.live import LiveStack, fix_calculator, live_stack

KEY = "sk-0123456789-secret-of-the-user"
# What a curious agent would look at.
PRY = (
    "env; cat /proc/self/environ; cat /proc/[0-9]*/environ; cat /proc/[0-9]*/cmdline;"
    " ls -a ~ $TMPDIR; exit 0"
)


def test_the_key_reaches_the_vendor_and_nobody_else() -> None:
    with live_stack(GLM_API_KEY=KEY, ROOTBOUND_GLM_BASE_URL="{glm}") as live:
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
