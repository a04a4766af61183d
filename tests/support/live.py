"""The whole stack on a state folder of its own, with a replayed model beside it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from rootbound.testing.model_stub import ModelStub
from rootbound.testing.script import Conversation, Fault, Script, Steps, ToolCall, Turn
from tests.support.environment import clean_env, wait_for
from tests.support.repos import CALCULATOR_COMMANDS, make_repository

ROOTBOUND = str(Path(sys.executable).parent / "rootbound")
LIVE = ("QUEUED", "RUNNING", "GATES")


def rootbound(
    home: Path, *arguments: str, timeout: float = 120, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line on a state folder."""
    return subprocess.run(
        [ROOTBOUND, *arguments],
        env=clean_env(home, **env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Replay:
    """A script whose turns a test chooses while the model server runs.

    Planner requests (those that are offered ``submit_plan``) get the plan; all others are answered
    by the worker, if one is set, else with the turns set for the task named in the prompt, else
    with the default turns.
    """

    def __init__(self) -> None:
        self.plan: Mapping[str, Any]
        self.turns: Sequence[Turn]
        self.by_title: dict[str, Sequence[Turn]]
        self.worker: Script | None
        self.reset()

    def reset(self) -> None:
        """Forget what an earlier test had it say."""
        self.plan, self.turns, self.by_title, self.worker = {}, (), {}, None

    def __call__(self, conversation: Conversation, /) -> Turn:
        if "submit_plan" in conversation.tool_names:
            return Turn(calls=(ToolCall("submit_plan", dict(self.plan)),))
        if self.worker is not None:
            return self.worker(conversation)
        # The task's own title comes before those of the tasks it depends on.
        prompt = conversation.prompt
        named = [title for title in self.by_title if title in prompt]
        if named:
            return Steps(self.by_title[min(named, key=prompt.index)])(conversation)
        return Steps(self.turns)(conversation)


def fix_calculator(delay_s: float = 0.0) -> list[Turn]:
    """Return the turns that repair `repos.BROKEN_CALCULATOR`."""
    slow = (Fault.delay(delay_s),) if delay_s else ()
    edit = {
        "path": "calculator.py",
        "old_string": "    return a - b\n",
        "new_string": "    return a + b\n",
    }
    return [
        Turn(text="I will look first.", calls=(ToolCall("read_file", {"path": "calculator.py"}),),
             faults=slow),
        Turn(thinking="It subtracts.", calls=(ToolCall("edit_file", edit),), faults=slow),
        Turn(calls=(ToolCall("finish", {"status": "done", "summary": "add() adds now."}),),
             faults=slow),
    ]  # fmt: skip


@dataclass
class LiveStack:
    """A running stack, its API, and the replayed model."""

    home: Path
    url: str
    token: str
    stub: ModelStub
    replay: Replay
    scratch: Path
    http: httpx.Client = field(repr=False)

    def call(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """Call the REST API and return the decoded body."""
        answer = self.http.request(method, path, json=body)
        wanted = range(200, 300) if expect is None else (expect,)
        assert answer.status_code in wanted, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def make_project(
        self, name: str, *, files: Mapping[str, str] | None = None, **config: Any
    ) -> Any:
        """Create a repository, grant its folder, and create a project and its agents."""
        folder = self.scratch / name
        repository = make_repository(folder, files) if files else make_repository(folder)
        self.call("POST", "/api/local-access/roots/", {"path": str(repository)})
        self.ensure_agents()
        return self.call(
            "POST",
            "/api/projects/",
            {
                "name": name,
                "repo_path": str(repository),
                "config": {**CALCULATOR_COMMANDS, **config},
            },
        )

    def ensure_agents(self, provider: str = "GLM") -> None:
        """Create one replayed agent profile per role, once."""
        if self.call("GET", "/api/agents/")["results"]:
            return
        base_url = self.stub.glm_url() if provider == "GLM" else self.stub.gemini_url()
        for role in ("PM", "FRONTEND", "BACKEND", "QA", "DEVOPS"):
            self.call(
                "POST",
                "/api/agents/",
                {
                    "name": f"Replayed {role}", "role": role, "provider": provider,
                    "model": "glm-7" if provider == "GLM" else "gemini-2.5-flash",
                    "base_url": base_url, "system_prompt": "", "settings": {"replay": True},
                },
            )  # fmt: skip

    def make_task(self, project: Any, title: str, **fields: Any) -> Any:
        """Create a task."""
        body = {"title": title, "description": title, "agent_role": "BACKEND", **fields}
        return self.call("POST", f"/api/projects/{project['id']}/tasks/", body)

    def attempt(self, attempt_id: str) -> Any:
        """Return an attempt."""
        return self.call("GET", f"/api/attempts/{attempt_id}/")

    def wait_for_attempt(self, attempt_id: str, *statuses: str, within_s: float = 90) -> Any:
        """Wait until the attempt has one of the statuses, by default any that is not live."""

        def probe() -> Any:
            attempt = self.attempt(attempt_id)
            done = attempt["status"] in statuses if statuses else attempt["status"] not in LIVE
            return attempt if done else None

        try:
            return wait_for(probe, within_s=within_s, what=f"attempt {attempt_id} {statuses}")
        except AssertionError:
            print(self.attempt(attempt_id), *self.events(attempt_id)[-20:], sep="\n")
            raise

    def events(self, attempt_id: str) -> list[Any]:
        """Return all stored events of an attempt."""
        found: list[Any] = []
        after: int | None = 0
        while after is not None:
            page = self.call("GET", f"/api/attempts/{attempt_id}/events/?after={after}&limit=500")
            found += page["results"]
            after = page["next"]
        return found


@contextlib.contextmanager
def live_stack(**env: str) -> Iterator[LiveStack]:
    """Start a stack and a replayed model; stop both, and prove that nothing is left.

    In the values of ``env``, ``{glm}`` stands for the model server's address.
    """
    with tempfile.TemporaryDirectory(prefix="rb-live-") as folder:
        home, scratch = Path(folder) / "home", Path(folder) / "src"
        scratch.mkdir()
        replay = Replay()
        with ModelStub(replay) as stub:
            filled = {name: value.format(glm=stub.glm_url()) for name, value in env.items()}
            started = rootbound(home, "up", "--json", **filled)
            assert started.returncode == 0, started.stderr + started.stdout + _logs(home)
            try:
                url = json.loads((home / "run/stack.json").read_text())["url"]
                token = rootbound(home, "token").stdout.strip()
                headers = {"Authorization": f"Bearer {token}"}
                with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
                    yield LiveStack(home, url, token, stub, replay, scratch, http)
            finally:
                stopped = rootbound(home, "down")
        assert stopped.returncode == 0, stopped.stderr
        left = processes_of(home)
        assert not left, f"left running: {left}"


def processes_of(home: Path) -> list[str]:
    """Return the command lines of processes that belong to a state folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"ROOTBOUND_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if line]


def _logs(home: Path) -> str:
    tails = [
        f"--- {p.name}\n{p.read_text()[-1500:]}" for p in sorted((home / "logs").glob("*.log"))
    ]
    return "\n".join(tails)
