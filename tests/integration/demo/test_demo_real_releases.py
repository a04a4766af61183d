"""The demonstration's replayed model on the real downloads, over both wires."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.zai import ZaiModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.zai import ZaiProvider
from pydantic_ai.tools import ToolDefinition

from rootbound.demo import releases as source
from rootbound.demo.errors import DemoError
from rootbound.demo.replay import Trespass, build_script, learn
from rootbound.demo.verify import Checker
from rootbound.testing import ModelStub

TOOLS = ("read_file", "list_files", "edit_file", "write_file", "run_command", "finish")
OFFER = ModelRequestParameters(
    function_tools=[
        ToolDefinition(name=name, parameters_json_schema={"type": "object", "properties": {}})
        for name in (*TOOLS, "submit_plan")
    ],
    allow_text_output=True,
)
Make = Callable[[ModelStub, str], Model]


def glm(stub: ModelStub, route: str) -> Model:
    return ZaiModel("glm-7", provider=ZaiProvider(api_key="replay", base_url=stub.glm_url(route)))


def gemini(stub: ModelStub, route: str) -> Model:
    return GoogleModel(
        "gemini-2.5-flash",
        provider=GoogleProvider(api_key="replay", base_url=stub.gemini_url(route)),
    )


class Workspace:
    """A small stand-in for the agent's tools: real edits, no commands."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.commands: list[str] = []

    def call(self, name: str, args: dict) -> str:
        path = self.top / str(args.get("path", "."))
        if name == "run_command":
            self.commands.append(args["command"])
            return "exit code 1 (0.1s)"
        if not path.is_relative_to(self.top):
            return f"Refused: {path} is outside the roots."
        if name == "read_file":
            return path.read_text("utf-8")
        if name == "edit_file":
            text = path.read_text("utf-8")
            assert text.count(args["old_string"]) == 1
            path.write_text(text.replace(args["old_string"], args["new_string"]), "utf-8")
        return "ok"


async def run_agent(model: Model, tools: Workspace) -> dict:
    """Run an agent until it finishes or submits a plan; return that call's arguments."""
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("Do your task.")])]
    for _ in range(30):
        response = await ask(model, messages)
        last = [c for c in response.tool_calls if c.tool_name in ("finish", "submit_plan")]
        if last:
            return last[0].args_as_dict()
        results = [
            ToolReturnPart(c.tool_name, tools.call(c.tool_name, c.args_as_dict()), c.tool_call_id)
            for c in response.tool_calls
        ]
        messages += [response, ModelRequest(parts=results)]
    raise AssertionError("The agent did not finish.")


async def ask(model: Model, messages: list[ModelMessage]) -> ModelResponse:
    async with model_request_stream(model, messages, model_request_parameters=OFFER) as stream:
        async for _event in stream:
            pass
        return stream.get()


@pytest.fixture(scope="module")
def trees(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> source.Releases:
    return source.unpack(archives, tmp_path_factory.mktemp("trees"))


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    made = Checker(tmp_path_factory.mktemp("check"))
    made.prepare()
    return made


@pytest.mark.asyncio
@pytest.mark.parametrize("make", [glm, gemini])
async def test_replayed_agents_turn_five_failures_into_479_passed(
    make: Make, trees: source.Releases, checker: Checker, tmp_path: Path
) -> None:
    top = tmp_path / "sqlparse"
    source.build_repository(trees, top)
    if make is glm:
        before = checker.test(top, "main")
        assert (before.failed, before.errors) == (5, 0)
    outside = tmp_path / "outside"
    script = build_script(learn(trees), Trespass(outside / "a", outside / "b"))
    tools = Workspace(top)
    with ModelStub(script) as stub:
        plan = await run_agent(make(stub, "pm"), tools)
        assert [task["role"] for task in plan["tasks"]] == ["BACKEND", "QA"]
        done = await run_agent(make(stub, "backend"), tools)
        assert done["status"] == "done"
        assert "__version__" not in source.git(top, "diff")
        await run_agent(make(stub, "qa"), tools)
        assert {request.status for request in stub.requests} == {200}
    assert any("outside/b" in command for command in tools.commands)
    source.git(top, "commit", "--quiet", "--all", "--message", "fix")
    changed = source.git(top, "diff", "--name-only", "HEAD~").split()
    assert changed == [
        "CHANGELOG",
        "sqlparse/__init__.py",
        "sqlparse/engine/grouping.py",
        "sqlparse/engine/statement_splitter.py",
    ]
    for name in changed:
        assert (top / name).read_bytes() == (trees.new / name).read_bytes()
    after = checker.test(top, "main")
    assert (after.passed, after.failed, after.errors) == (479, 0, 0)


def test_the_fix_is_not_in_our_sources(trees: source.Releases) -> None:
    package = Path(source.__file__).parents[1]
    ours = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    for edit in learn(trees).fix:
        added = set((edit.new or "").splitlines()) - set((edit.old or "").splitlines())
        assert added
        assert not [line for line in added if len(line.strip()) > 20 and line.strip() in ours]


def test_a_cached_archive_that_was_changed_is_not_used(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for archive in archives.values():
        (tmp_path / archive.name).write_bytes(archive.read_bytes())
    monkeypatch.setattr(source, "_start_pip", lambda *_: pytest.fail("pip was started"))
    assert source.download(tmp_path).keys() == archives.keys()
    monkeypatch.undo()
    spoiled = tmp_path / "sqlparse-0.5.4.tar.gz"
    spoiled.write_bytes(b"something else")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DemoError, match=r"could not download sqlparse 0\.5\.4"):
        source.download(tmp_path)


def test_lint_command_passes_on_both_sides(trees: source.Releases, tmp_path: Path) -> None:
    from rootbound.demo.flow import CONFIG

    venv = tmp_path / ".venv"
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "flake8"]
    subprocess.run(pip, check=True)
    for tree in (trees.old, trees.new):
        command = CONFIG["lint_cmd"].replace(".venv/bin/python", python)
        done = subprocess.run(command, shell=True, cwd=tree, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
