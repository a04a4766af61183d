"""What the replayed model derives from two releases, on small made-up ones."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from rootbound.demo.console import Console, EventLines, printable
from rootbound.demo.derive import Edit, changed_files, derive_edits, replacements
from rootbound.demo.errors import DemoError
from rootbound.demo.models import choose_provider
from rootbound.demo.releases import Releases, build_repository, git
from rootbound.demo.replay import Trespass, build_script, learn
from rootbound.demo.verify import parse_counts
from rootbound.models import Event
from rootbound.testing import Conversation, Message, Script, ToolResult, Turn


def write(top: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return top


GUARD = "    if deep:\n        return\n    work()\n"


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    old = write(
        tmp_path / "old",
        {
            "pkg/__init__.py": '__version__ = "1"\n',
            "pkg/a.py": f"def f():\n{GUARD}\n\ndef g():\n{GUARD}",
            "pkg/gone.py": "old = 1\n",
            "pkg/same.py": "x = 1\n",
            "tests/test_a.py": "assert 1\n",
            "CHANGELOG": "Release 1\n---------\n",
            "PKG-INFO": "Version: 1\n",
            ".gitignore": "build/",
        },
    )
    new = write(
        tmp_path / "new",
        {
            "pkg/__init__.py": '__version__ = "2"\n',
            "pkg/a.py": f"import e\n\ndef f():\n{GUARD}\n\ndef g():\n{GUARD}".replace(
                "return", "raise e.Deep"
            ),
            "pkg/e.py": "class Deep(Exception): ...\n",
            "pkg/same.py": "x = 1\n",
            "tests/test_a.py": "assert 2\n",
            "CHANGELOG": "Release 2\n---------\n\nRelease 1\n---------\n",
            "PKG-INFO": "Version: 2\n",
        },
    )
    return Releases(old, new)


def apply(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not unique"
    assert old != new
    return text.replace(old, new)


def perform(edits: tuple[Edit, ...], top: Path) -> None:
    for edit in edits:
        path = top / edit.path
        if edit.new is None:
            path.unlink()
        elif edit.old is None:
            path.write_text(edit.new, "utf-8")
        else:
            path.write_text(apply(path.read_text("utf-8"), edit.old, edit.new), "utf-8")


def test_repeated_hunks_become_unique_edits(releases: Releases) -> None:
    edits = derive_edits(releases.old, releases.new, ["pkg/a.py"])
    assert len(edits) == 3
    perform(edits, releases.old)
    assert changed_files(releases.old, releases.new) == (
        ".gitignore",
        "CHANGELOG",
        "PKG-INFO",
        "pkg/__init__.py",
        "pkg/e.py",
        "pkg/gone.py",
        "tests/test_a.py",
    )


@pytest.mark.parametrize("seed", range(40))
def test_replacements_rebuild_any_text_from_few_different_lines(seed: int) -> None:
    chance = random.Random(seed)
    before = [chance.choice("abc") + "\n" for _ in range(chance.randrange(0, 30))]
    after = [line for line in before if chance.random() > 0.2]
    for _ in range(chance.randrange(6)):
        after.insert(chance.randrange(len(after) + 1), chance.choice("abcd") + "\n")
    text = "".join(before)
    if not text:
        return
    if chance.random() < 0.3:
        after.append("no newline at the end")
    for old, new in replacements(text, "".join(after)):
        text = apply(text, old, new)
    assert text == "".join(after)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(b"\xff\x00")
    with pytest.raises(DemoError, match="not a text file"):
        derive_edits(tmp_path, tmp_path, ["b.bin"])


def replay(script: Script, route: str, results: dict[str, str]) -> list[Turn]:
    """Run a script to its end, answering each tool with the given text."""
    messages: list[Message] = [Message("user", "Do your task.")]
    turns: list[Turn] = []
    while not turns or not any(c.name in ("finish", "submit_plan") for c in turns[-1].calls):
        turn = script(Conversation("openai", route, "glm-7", "", tuple(messages), (), False))
        turns.append(turn)
        messages.append(Message("assistant", turn.text, calls=turn.calls))
        answers = tuple(
            ToolResult(c.name, results.get(c.name, "ok"), c.call_id) for c in turn.calls
        )
        messages.append(Message("tool", results=answers))
    return turns


def edits_of(turns: list[Turn]) -> tuple[Edit, ...]:
    made = []
    for call in (call for turn in turns for call in turn.calls):
        path = str(call.args.get("path"))
        if call.name == "edit_file":
            made.append(Edit(path, call.args["old_string"], call.args["new_string"]))
        elif call.name == "write_file" and not Path(path).is_absolute():
            made.append(Edit(path, None, call.args["content"]))
        elif call.name == "delete_file":
            made.append(Edit(path, "", None))
    return tuple(made)


def test_scripts_do_the_whole_job(releases: Releases, tmp_path: Path) -> None:
    knowledge = learn(releases, "pkg")
    outside = tmp_path / "out side"
    script = build_script(knowledge, Trespass(outside / "t", outside / "c"))
    plan = replay(script, "pm", {})[-1].calls[0].args
    first, second = plan["tasks"]
    assert (first["role"], second["role"]) == ("BACKEND", "QA")
    assert second["depends_on"] == [first["key"]]
    turns = replay(script, "backend", {"write_file": "Refused: outside.\nmore"})
    calls = [call for turn in turns for call in turn.calls]
    assert calls[-1].name == "finish" and calls[-1].args["status"] == "done"
    forbidden = next(c.args["path"] for c in calls if c.name == "write_file")
    assert forbidden == str(outside / "t")
    commands = [c.args["command"] for c in calls if c.name == "run_command"]
    assert commands[1] == f"echo escaped > '{outside / 'c'}'"
    assert any("Refused: outside." in turn.text for turn in turns)
    perform(edits_of(turns), releases.old)
    perform(edits_of(replay(script, "qa", {})), releases.old)
    assert changed_files(releases.old, releases.new) == (
        ".gitignore",
        "PKG-INFO",
        "tests/test_a.py",
    )


def test_a_gate_that_fails_after_the_last_step_is_answered_honestly(releases: Releases) -> None:
    script = build_script(learn(releases, "pkg"), Trespass(Path("/o/t"), Path("/o/c")))
    history = tuple(Message("assistant", "x") for _ in range(50))
    turn = script(Conversation("openai", "qa", "glm-7", "", history, (), False))
    assert turn.calls[0].args["status"] == "blocked"


def test_releases_without_a_fix_are_refused(releases: Releases) -> None:
    with pytest.raises(DemoError, match="do not differ"):
        learn(Releases(releases.old, releases.old), "pkg")


def test_repository_has_the_old_code_and_the_new_tests(
    releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    top = tmp_path / "repo"
    commit = build_repository(releases, top)
    assert git(top, "rev-parse", "main").strip() == commit
    tracked = git(top, "ls-files").split()
    assert "PKG-INFO" not in tracked and "pkg/gone.py" in tracked
    assert (top / "tests/test_a.py").read_text() == "assert 2\n"
    assert ".venv/" in (top / ".gitignore").read_text().splitlines()
    assert git(top, "status", "--porcelain") == ""
    assert not (tmp_path / "elsewhere").exists()


def test_git_failure_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="git log failed"):
        git(tmp_path, "log")


def test_counts_come_from_pytests_last_line() -> None:
    counts = parse_counts("1 failed in prose\n5 failed, 474 passed, 2 xfailed, 1 xpassed in 5.1s\n")
    assert (counts.passed, counts.failed, counts.errors) == (474, 5, 0)
    assert parse_counts("== 1 passed, 2 errors in 0.1s ==").errors == 2
    with pytest.raises(DemoError, match="No module named pytest"):
        parse_counts("/x/python: No module named pytest")


@pytest.mark.parametrize(
    ("wanted", "env", "name", "is_replay"),
    [
        ("auto", {}, "GLM", True),
        ("auto", {"GEMINI_API_KEY": "k"}, "GEMINI", False),
        ("auto", {"GLM_API_KEY": "k", "GEMINI_API_KEY": "k"}, "GLM", False),
        ("replay", {"GLM_API_KEY": "k"}, "GLM", True),
        ("gemini", {"GEMINI_API_KEY": "k"}, "GEMINI", False),
    ],
)
def test_provider_choice(wanted: str, env: dict[str, str], name: str, is_replay: bool) -> None:
    chosen = choose_provider(wanted, env)
    assert (chosen.name, chosen.is_replay) == (name, is_replay)
    assert ("REPLAY" in chosen.describe()) is is_replay


def test_a_vendor_without_its_key_is_refused() -> None:
    with pytest.raises(DemoError, match="GEMINI_API_KEY is not set"):
        choose_provider("gemini", {"GLM_API_KEY": "k"})


def test_events_become_compact_lines() -> None:
    lines = EventLines()

    def feed(kind: str, type_: str = "LOG", **payload: object) -> list[str]:
        return lines.feed(Event(seq=1, type=type_, payload={"kind": kind, **payload}))

    assert feed("thinking", delta="I loo") == []
    assert feed("thinking", delta="k\nfirst.") == []
    assert feed("text", delta="Hello") == ["thinks   I look first."]
    assert feed("tool_call", tool="edit_file", args={"path": "a.py"}) == [
        "says     Hello",
        "calls    edit_file a.py",
    ]
    (refused,) = feed("tool_result", ok=False, text="outside the roots")
    assert "outside the roots" in refused
    assert feed("output", text="noise") == []
    (gate,) = feed("gate", "ARTIFACT", name="test", exit_code=0, duration_s=1.25)
    assert "exit code 0" in gate
    status = Event(seq=2, type="STATUS", payload={"status": "GATES"})
    assert lines.feed(status) == ["status   GATES"]


def test_output_of_agents_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc") == "a�[2Jb\nc"
    stream = io.StringIO()
    console = Console(stream, sections=1)
    console.section("Only")
    console.table(("a", "bb"), [("longer", 1)])
    assert stream.getvalue() == "\n[1/1] Only  (0 s)\n     a       bb\n     longer  1\n"
