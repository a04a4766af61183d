"""The command line over the SDK, against the contract server."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rootbound import cli

ROOTBOUND = str(Path(sys.executable).parent / "rootbound")


@pytest.fixture
def run(server, clean_env, monkeypatch, capsys):
    """Run a command; return its exit code, what it printed and what it complained of."""
    monkeypatch.setenv("ROOTBOUND_URL", server.url)
    monkeypatch.setenv("ROOTBOUND_TOKEN", server.token)

    def invoke(*argv):
        code = cli.main([str(word) for word in argv])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return invoke


def as_json(answer):
    code, out, err = answer
    assert code == 0, err
    return json.loads(out)


def test_the_whole_way_from_root_to_review(server, run, tmp_path):
    root = as_json(run("roots", "add", tmp_path, "--json"))
    assert run("roots", "disable", tmp_path)[0] == 0
    assert as_json(run("roots", "list", "--json"))[0]["is_enabled"] is False
    project = as_json(run("project", "create", "App", tmp_path, "--test-cmd", "pytest", "--json"))
    assert project["config"] == {"test_cmd": "pytest"}
    changed = as_json(run("project", "update", "App", "--set", "max_parallel=2", "--json"))
    assert changed["config"] == {"test_cmd": "pytest", "max_parallel": 2}
    agent = as_json(
        run("agents", "create", "dev", "--provider", "glm", "--model", "glm-7", "--role", "qa",
            "--set", "system_prompt=Be brief.", "--json")
    )  # fmt: skip
    assert agent["system_prompt"] == "Be brief."
    first = as_json(run("task", "create", "App", "First", "--role", "QA", "--json"))
    second = as_json(run("task", "create", "App", "Second", "--after", first["id"], "--json"))
    assert second["dependencies"] == [first["id"]]
    code, board, _ = run("task", "list", "App")
    assert code == 0
    assert "First" in board and "Second" in board
    attempt = as_json(
        run("task", "start", first["id"], "--agent", "dev", "--read", tmp_path, "--json")
    )
    assert server.state.attempts[attempt["id"]]["agent_id"] == agent["id"]
    server.state.status(server.state.attempts[attempt["id"]], "REVIEW")
    assert as_json(run("attempt", "wait", attempt["id"], "--json"))["status"] == "REVIEW"
    assert "+new <b>" in run("attempt", "diff", attempt["id"])[1]
    assert "No gate ran yet." in run("attempt", "gates", attempt["id"])[1]
    assert as_json(run("attempt", "approve", attempt["id"], "--json"))["status"] == "SUCCESS"
    plan = as_json(run("plan", "make", "App", "Do it", "--json"))
    assert as_json(run("plan", "approve", plan["id"], "--json"))["status"] == "APPROVED"
    assert as_json(run("task", "delete", second["id"], "--json")) == {"removed": "task Second"}
    assert "Removed root" in run("roots", "remove", root["id"])[1]
    assert "Removed agent dev." in run("agents", "delete", "dev")[1]
    assert "Removed project App." in run("project", "delete", "App")[1]


def test_a_failed_attempt_is_an_exit_code(server, run):
    raw = server.state.attempt(server.state.task(server.state.project()), status="FAILED")
    assert run("attempt", "wait", raw["id"])[0] == 1
    assert run("attempt", "show", raw["id"])[0] == 0


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("project", "show", "Nope"), "No project is called 'Nope'; there are: 'Demo'."),
        (("project", "update", "Demo"), "Say what to change"),
        (("task", "show", "../me"), "is not an id"),
        (("task", "show", "nope"), "does not exist"),
        (("agents", "test", "nobody"), "No agent is called nobody"),
        (("roots", "remove", "/nowhere"), "/nowhere is no root"),
        (("attempt", "approve", "{attempt}"), "does not wait for a review"),
    ],
)
def test_mistakes_are_one_sentence(server, run, argv, sentence):
    attempt = server.state.attempt(server.state.task(server.state.project()))
    code, out, err = run(*(word.format(attempt=attempt["id"]) for word in argv))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sentence in err


def test_without_a_server_the_way_out_is_named(clean_env, capsys):
    assert cli.main(["task", "list"]) == 1
    error = capsys.readouterr().err
    assert "no headless stack in" in error
    assert "rootbound up" in error


def test_text_of_others_does_not_reach_the_terminal_raw(server, run):
    server.state.project(name="evil\x1b[2J\nname")
    out = run("project", "list")[1]
    assert "\x1b" not in out
    assert r"evil\x1b[2J\nname" in out


def leaves(parser, path=()):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from leaves(child, (*path, name))
            return
    yield " ".join(path), parser


def test_every_command_answers_in_json_and_explains_itself(monkeypatch):
    seen = []

    def look(parser):
        seen.extend(leaves(parser))
        raise KeyboardInterrupt

    monkeypatch.setattr("rootbound.cli_completion.answer", look)
    with pytest.raises(KeyboardInterrupt):
        cli.main([])
    assert len(seen) > 50
    # The demonstration talks to people while it runs; MCP has a JSON protocol of its own; joining
    # becomes the LDA.
    missing = [
        name
        for name, parser in seen
        if name not in {"demo", "mcp", "machine join"}
        and "--json" not in parser._option_string_actions
    ]
    assert missing == []
    assert all(parser.format_help() for _, parser in seen)
    arguments = [(name, action) for name, parser in seen for action in parser._actions]
    assert [(name, action.dest) for name, action in arguments if not action.help] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prject list", "rootbound has no command 'prject'; did you mean `rootbound project`?\n"),
        ("task xyz", "rootbound task has no command 'xyz'; `rootbound task --help` lists them.\n"),
        ("up --timout 3", "rootbound up has no option --timout; did you mean --timeout?\n"),
        ("up x", "rootbound up does not take 'x'; `rootbound up --help` says what it takes.\n"),
    ],
)
def test_what_was_probably_meant(capsys, line, said):
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    assert (ended.value.code, capsys.readouterr().err) == (2, said)


def test_without_a_command_there_is_the_way_in(capsys):
    for argv, shown in (([], "first steps, in a git repository"), (["task"], "show the board")):
        with pytest.raises(SystemExit) as ended:
            cli.main(argv)
        assert ended.value.code == 2
        assert shown in capsys.readouterr().err


def test_a_refusal_is_json_too_where_json_was_asked_for(run):
    code, out, err = run("task", "show", "nope", "--json")
    assert (code, json.loads(out)) == (1, {"error": err.strip(), "code": "not-found"})


def complete(line, **env):
    read, write = os.pipe()
    subprocess.run(
        ["bash", "-c", f'exec 8>&{write} 9>/dev/null; exec "{ROOTBOUND}"'],
        env={**os.environ, **env, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_TYPE": "9",
             "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"},
        pass_fds=[write], check=False,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read) as pipe:
        return [word.strip() for word in pipe.read().split("\n") if word]


def test_completion_knows_commands_and_names(server, clean_env, tmp_path):
    server.state.project(name="Parser")
    access = {"ROOTBOUND_URL": server.url, "ROOTBOUND_TOKEN": server.token}
    assert complete("rootbound att") == ["attempt"]
    assert complete("rootbound project show P", **access) == ["Parser"]
    assert complete("rootbound project show P", ROOTBOUND_URL="") == []
    for shell in ("bash", "zsh", "fish"):
        code = subprocess.run(
            [ROOTBOUND, "completion", shell], capture_output=True, text=True, check=True
        ).stdout
        assert "rootbound" in code
    script = tmp_path / "completion.bash"
    script.write_text(
        subprocess.run([ROOTBOUND, "completion", "bash"], capture_output=True, text=True).stdout
        + "\ncomplete -p rootbound\n"
    )
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=True)
    assert "rootbound" in done.stdout


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("max_parallel=two", "The parameter max_parallel is a whole number, not 'two'."),
        ("max_parallel=True", "The parameter max_parallel is a whole number, not 'True'."),
        ("budget=much", "The parameter budget is a number, not 'much'."),
        ("approve=yes", "The parameter approve is True or False, not 'yes'."),
        ("colour=red", "batch.ipynb has no parameter 'colour'; it has: project, prompt"),
        ("project", "-p takes NAME=VALUE, not 'project'."),
    ],
)
def test_a_batchs_parameters_are_checked_before_anything_starts(
    clean_env, capsys, parameter, sentence
):
    notebook = Path(__file__).parents[3] / "notebooks/batch.ipynb"
    assert cli.main(["batch", "run", str(notebook), "-p", parameter]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_a_missing_notebook_and_a_foreign_batch_are_one_sentence(clean_env, capsys):
    assert cli.main(["batch", "run", "nope.ipynb"]) == 1
    assert "There is no notebook nope.ipynb." in capsys.readouterr().err
    (clean_env / "work" / "notes.md").write_text("no notebook")
    assert cli.main(["batch", "run", "notes.md"]) == 1
    assert capsys.readouterr().err == "notes.md is no notebook that can be read.\n"


def test_a_key_is_read_from_standard_input_and_goes_to_the_keyring_alone(run, monkeypatch):
    kept = {}
    monkeypatch.setattr("keyring.set_password", lambda *words: kept.update({words[:2]: words[2]}))
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert as_json(run("keys", "set", "GLM_API_KEY", "--json")) == {"stored": "GLM_API_KEY"}
    assert kept == {("rootbound", "GLM_API_KEY"): "s3cret"}
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    for name, why in (("GLM_API_KEY", "There was no key"), ("PATH", "is no name of a key")):
        code, out, err = run("keys", "set", name)
        assert (code != 0, why in err, "s3cret" in out + err) == (True, True, False)
