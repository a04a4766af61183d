"""What the tools say to the model, above all when a call does not work."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootbound_lda.agent import edits
from rootbound_lda.agent.prices import Meter, price_of
from rootbound_lda.agent.schemas import BY_NAME, TOOLS, ToolError, parse_arguments
from rootbound_lda.agent.tools import OUTPUT_EDGE, Toolbox, shorten
from rootbound_lda.audit import MemorySink
from rootbound_lda.files import FileAccess
from rootbound_lda.git import Git
from rootbound_lda.keys import KeyMissing, Keys
from rootbound_lda.policy import build_policy


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Toolbox]:
    top = tmp_path / "granted" / "project"
    top.mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=top, check=True)
    (top / ".gitignore").write_text("ignored/\n")
    (top / "ignored").mkdir()
    (top / "ignored" / "x.py").write_text("needle\n")
    (top / "src").mkdir()
    (top / "src" / "a.py").write_text("def f():\n    return 1\n\n\ndef g():\n    return 1\n")
    (top / "long.txt").write_text("".join(f"line {n}\n" for n in range(1, 1001)))
    (top / "bin").write_bytes(b"\0\1\2")
    sink = MemorySink()
    state = tmp_path / "state"
    state.mkdir()
    policy = build_policy(
        run_id="r", worktree=top, repo_path=top, git_common_dir=top / ".git",
        private_dir=state / "runs" / "r", state_dir=state, writable_roots=[str(top.parent)],
        readable_paths=[], network={}, limits={},
    )  # fmt: skip
    with FileAccess(policy, sink) as files:
        git = Git(top / ".git", top, top / ".git")
        yield Toolbox(policy, files, git, runner=None, reporter=None, artifacts=None)


async def say(box: Toolbox, tool: str, **arguments: object) -> str:
    return (await box.call(tool, arguments, "c1")).text


def test_schemas_are_flat() -> None:
    for tool in TOOLS:
        assert tool.schema["additionalProperties"] is False
        assert len(tool.schema["properties"]) <= 5
        for rule in tool.schema["properties"].values():
            assert rule["type"] in ("string", "integer", "boolean")
    assert set(BY_NAME) == {
        "read_file", "edit_file", "write_file", "delete_file", "list_files", "search_files",
        "run_command", "finish",
    }  # fmt: skip


@pytest.mark.asyncio
async def test_read_file_pages(box: Toolbox) -> None:
    text = await say(box, "read_file", path="long.txt")
    assert text.startswith("1\tline 1\n2\tline 2\n")
    assert text.endswith("400\tline 400\n[lines 1-400 of 1000; continue with offset=401]")
    assert (await say(box, "read_file", path="long.txt", offset="999")).endswith(
        "999-1000 of 1000]"
    )
    assert "behind its end" in await say(box, "read_file", path="long.txt", offset=2000)
    assert "binary" in await say(box, "read_file", path="bin")
    assert not (await box.call("read_file", {"path": "none"}, "c")).ok


@pytest.mark.asyncio
async def test_edit_file_errors_help(box: Toolbox) -> None:
    edit = {"path": "src/a.py", "new_string": "x"}
    many = await say(box, "edit_file", old_string="    return 1", **edit)
    assert "occurs 2 times, at lines 2, 6" in many
    blanks = await say(box, "edit_file", old_string="def f():\n  return 1", **edit)
    assert "whitespace differs at line 2" in blanks
    near = await say(box, "edit_file", old_string="def ff():", **edit)
    assert "nearest text is at line 1" in near
    assert "identical" in await say(box, "edit_file", old_string="x", **edit)
    await say(box, "read_file", path="src/a.py")
    (box.policy.worktree / "src" / "a.py").write_text("changed\n")
    assert "read it again" in await say(box, "edit_file", old_string="changed", **edit)


@pytest.mark.asyncio
async def test_edit_file_changes_and_warns(box: Toolbox) -> None:
    text = await say(
        box, "edit_file", path="src/a.py", old_string="def f():   \n    return 1\n",
        new_string="def f(:\n    return 2\n",
    )  # fmt: skip
    assert "1\tdef f(:" in text
    assert "does not parse at line 1" in text
    assert (box.policy.worktree / "src" / "a.py").read_text().startswith("def f(:\n    return 2\n")


@pytest.mark.asyncio
async def test_json_and_toml_are_checked_but_for_what_did_not_parse_before(box: Toolbox) -> None:
    good = '{"a": 1}\n'
    broken = await say(box, "write_file", path="package.json", content='{"a": 1,}\n')
    assert "package.json does not parse at line 1" in broken
    assert "parse" not in await say(box, "write_file", path="package.json", content=good)
    edit = {"path": "package.json", "old_string": "1}", "new_string": "1"}
    assert "does not parse at line 2" in await say(box, "edit_file", **edit)
    (box.policy.worktree / "tsconfig.json").write_text("{} // comments are allowed\n")
    edit = {"path": "tsconfig.json", "old_string": "{}", "new_string": '{"a": 1}'}
    assert "parse" not in await say(box, "edit_file", **edit)
    toml = await say(box, "write_file", path="pyproject.toml", content="[tool\nx = 1\n")
    assert "pyproject.toml does not parse: Expected ']'" in toml
    assert "parse" not in await say(box, "write_file", path="notes.txt", content="[tool\n")


def test_line_endings_stay() -> None:
    edit = edits.replace("a\r\nb\r\n", "a\nb", "c\nd", every=False)
    assert edit.content == "c\r\nd\r\n"


@pytest.mark.asyncio
async def test_nothing_outside_is_reached(box: Toolbox, tmp_path: Path) -> None:
    for path in (str(tmp_path / "x"), "../../x", ".git/config"):
        answer = await box.call("write_file", {"path": path, "content": "x"}, "c")
        assert not answer.ok, path
    assert not (tmp_path / "x").exists()


@pytest.mark.asyncio
async def test_listing_and_searching_leave_out_what_git_ignores(box: Toolbox) -> None:
    assert (await say(box, "list_files")).splitlines() == [
        ".gitignore", "bin", "long.txt", "src/a.py",
    ]  # fmt: skip
    assert await say(box, "list_files", pattern="**/*.py") == "src/a.py"
    assert "[2 of 4 files" in await say(box, "list_files", limit=2)
    assert (await say(box, "search_files", pattern=r"def \w", glob="*.py")).splitlines() == [
        "src/a.py:1:def f():",
        "src/a.py:5:def g():",
    ]
    assert "No line fits" in await say(box, "search_files", pattern="needle")
    assert "not a valid regular expression" in await say(box, "search_files", pattern="(")


@pytest.mark.asyncio
async def test_bad_calls_are_explained(box: Toolbox) -> None:
    assert "There is no tool 'cat'" in await say(box, "cat")
    assert "needs the argument 'path'" in await say(box, "read_file")
    assert "has no argument 'file'" in await say(box, "read_file", path="a", file="b")
    assert "one of done, blocked" in await say(box, "finish", status="ok", summary="")
    assert "not valid JSON" in (await box.call("read_file", '{"path": "a', "c")).text
    assert "could not be confined" in await say(box, "run_command", command="ls")
    box.read_only = True
    assert "not available" in await say(box, "delete_file", path="long.txt")


def test_arguments_as_models_send_them() -> None:
    assert parse_arguments('{"a": "x\ny"}') == {"a": "x\ny"}
    assert parse_arguments('"{\\"a\\": 1}"') == {"a": 1}
    assert parse_arguments(None) == {}
    for bad in ("[1]", '{"a":', {"INVALID_JSON": "x"}):
        with pytest.raises(ToolError):
            parse_arguments(bad)  # type: ignore[arg-type]


def test_long_output_keeps_both_ends() -> None:
    text = shorten("a" * OUTPUT_EDGE + "b" * 100 + "c" * OUTPUT_EDGE)
    assert "100 characters left out" in text
    assert "b" not in text.replace("number", "")
    assert text.startswith("aaa")
    assert text.endswith("ccc")


def test_an_unknown_price_still_counts() -> None:
    meter = Meter(price_of("GLM", "glm-7", {}))
    meter.add(1_000_000, 0, 0)
    assert meter.cost > 0
    assert meter.cost_usd is None
    known = Meter(price_of("GEMINI", "gemini-2.5-flash-lite", {}))
    known.add(1_000_000, 1_000_000, 500_000)
    assert known.cost_usd == pytest.approx(0.05 + 0.005 + 0.4)
    assert price_of("GLM", "glm-7", {"price": {"input": 1, "output": 2}}).known


def test_keys_leave_the_environment() -> None:
    environ = {"GLM_API_KEY": "s3cret", "OTHER": "x"}
    keys = Keys(environ)
    assert environ == {"OTHER": "x"}
    assert keys.resolve("GLM", None) == "s3cret"
    assert "s3cret" not in repr(keys)
    with pytest.raises(KeyMissing, match="set the environment variable GEMINI_API_KEY"):
        keys.resolve("GEMINI", None)
    with pytest.raises(KeyMissing, match="not the name of a key"):
        keys.resolve("GLM", "PATH")


@pytest.mark.asyncio
async def test_a_file_with_unsaved_changes_in_an_editor_is_not_changed(box: Toolbox) -> None:
    before = (box.policy.worktree / "src/a.py").read_text()
    box.is_unsaved = lambda path: path.name == "a.py"
    for tool, arguments in (
        ("edit_file", {"old_string": "def f", "new_string": "def h"}),
        ("write_file", {"content": "x"}),
        ("delete_file", {}),
    ):
        answer = await box.call(tool, {"path": "src/a.py", **arguments}, "c1")
        assert not answer.ok
        assert answer.text.startswith("src/a.py is open in JupyterLab with unsaved changes")
    assert (box.policy.worktree / "src/a.py").read_text() == before
    assert (await say(box, "write_file", path="src/b.py", content="x = 1\n")).startswith("Wrote")


@pytest.mark.asyncio
async def test_a_notebook_with_conflict_markers_is_settled_as_text(box: Toolbox) -> None:
    cell = '{"cell_type": "raw", "id": "one", "metadata": {}, "source": "%s"}'
    sides = f"<<<<<<< HEAD\n{cell % 'ours'}\n=======\n{cell % 'theirs'}\n>>>>>>> main\n"
    book = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [\n' + sides + "]}\n"
    (box.policy.worktree / "book.ipynb").write_text(book)
    assert "<<<<<<< HEAD" in await say(box, "read_file", path="book.ipynb")
    said = await say(
        box, "edit_file", path="book.ipynb", old_string=sides, new_string=f"{cell % 'both'}\n"
    )
    assert said.startswith("Changed book.ipynb"), said
    assert "# %% [raw] id=one\n2\tboth" in await say(box, "read_file", path="book.ipynb")
