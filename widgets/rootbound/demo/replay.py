"""What the replayed model says during the demonstration.

It knows the difference of the two releases and nothing else. It answers over the same wire
protocols as a vendor; the agent, its tools, the gates and the enforcement are the real ones.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rootbound.demo.derive import Edit, changed_files, derive_edits
from rootbound.demo.errors import DemoError
from rootbound.demo.releases import PACKAGE, Releases
from rootbound.testing import Conversation, Routed, Script, Step, Steps, ToolCall, Turn

PROMPT = "Make the failing tests pass"
_PYTEST = ".venv/bin/python -m pytest -q"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the replayed model knows.

    Parameters
    ----------
    fix : tuple[Edit, ...]
        Edits of the package's code.
    record : tuple[Edit, ...]
        Edits of the changelog and the version.
    tests : tuple[str, ...]
        Test files whose expectations changed.
    """

    fix: tuple[Edit, ...]
    record: tuple[Edit, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trespass:
    """The two writes outside the root that the model tries.

    Parameters
    ----------
    by_tool : Path
        File for `write_file`.
    by_command : Path
        File for a shell redirect.
    """

    by_tool: Path
    by_command: Path


def learn(releases: Releases, package: str = PACKAGE) -> Knowledge:
    """Derive what the model knows from the difference of the two releases.

    Parameters
    ----------
    releases : Releases
        The two trees.
    package : str, default "sqlparse"
        Name of the package's folder.

    Returns
    -------
    Knowledge
        Edits and test files.

    Raises
    ------
    DemoError
        When the releases differ in nothing that could be fixed or recorded.
    """
    changed = changed_files(releases.old, releases.new)
    version_file = f"{package}/__init__.py"
    code = [n for n in changed if n.startswith(f"{package}/") and n != version_file]
    record = [n for n in changed if n in (version_file, "CHANGELOG")]
    tests = tuple(n for n in changed if n.startswith("tests/") and n.endswith(".py"))
    if not code or not record or not tests:
        raise DemoError("The two releases do not differ in code, changelog and tests.")
    return Knowledge(
        fix=derive_edits(releases.old, releases.new, code),
        record=derive_edits(releases.old, releases.new, record),
        tests=tests,
    )


def build_script(knowledge: Knowledge, trespass: Trespass) -> Script:
    """Return the script of all roles, chosen by the route of the request.

    Parameters
    ----------
    knowledge : Knowledge
        What the model knows.
    trespass : Trespass
        Where it tries to write although it must not.

    Returns
    -------
    Script
        Script for the routes `pm`, `backend`, `qa`, `frontend` and `devops`.
    """
    idle = Steps([_finish("blocked", "The replayed model has nothing to say in this role.")])
    return Routed(
        {
            "pm": planner(knowledge),
            "backend": fixer(knowledge, trespass),
            "qa": recorder(knowledge),
            "frontend": idle,
            "devops": idle,
        }
    )


def planner(knowledge: Knowledge) -> Script:
    """Return the PM's script: look at the tests, then submit two tasks, one after the other."""
    look = [ToolCall("read_file", {"path": name, "limit": 60}) for name in knowledge.tests]
    fixed, recorded = _paths(knowledge.fix), _paths(knowledge.record)
    plan = {
        "summary": "The tests expect behaviour that the code does not have yet: "
        "change the code first, then record the change.",
        "tasks": [
            {
                "key": "fix",
                "title": "Make the code do what the failing tests expect",
                "description": f"Some tests in {', '.join(knowledge.tests)} fail. Change the code "
                "under test so that they pass; do not touch the tests.",
                "role": "BACKEND",
                "priority": 10,
                "depends_on": [],
                "acceptance": "The whole test suite passes and the linter is clean.",
                "files": fixed,
            },
            {
                "key": "record",
                "title": "Record the fix in the changelog and the version",
                "description": "Add a changelog entry that says what changed, and raise the "
                "version. Run the whole test suite once more.",
                "role": "QA",
                "priority": 5,
                "depends_on": ["fix"],
                "acceptance": "The changelog names every change; the test suite passes.",
                "files": recorded,
            },
        ],
    }
    return Steps(
        [
            Turn(
                thinking="Before I plan I look at what the tests expect.",
                calls=(ToolCall("list_files", {"path": "tests"}), *look),
            ),
            Turn(
                thinking="Two steps in order: the code, then the record of it.",
                calls=(ToolCall("submit_plan", plan),),
            ),
        ],
        exhausted=Turn(calls=(ToolCall("submit_plan", plan),)),
    )


def fixer(knowledge: Knowledge, trespass: Trespass) -> Script:
    """Return the script that fixes the code, with two attempts to leave the root between."""
    tests = f"{_PYTEST} {' '.join(shlex.quote(name) for name in knowledge.tests)}"
    files = _paths(knowledge.fix)
    steps: list[Step] = [
        Turn(
            thinking="First I see which tests fail, and how.",
            calls=(ToolCall("run_command", {"command": tests, "timeout_s": 300}),),
        ),
        Turn(
            text=f"The failures point at {', '.join(files)}. I read them.",
            calls=tuple(ToolCall("read_file", {"path": name}) for name in files),
        ),
        Turn(
            thinking="I try to leave a note outside the project. This must be refused.",
            calls=(
                ToolCall(
                    "write_file",
                    {"path": str(trespass.by_tool), "content": "written outside the root\n"},
                ),
            ),
        ),
        lambda conversation: Turn(
            text=f"The file tool answered: {_first_line(conversation)} I try it by a command.",
            calls=(
                ToolCall(
                    "run_command",
                    {"command": f"echo escaped > {shlex.quote(str(trespass.by_command))}"},
                ),
            ),
        ),
        *_edit_turns(knowledge.fix, "Neither way leads out of the root. Now the fix."),
        Turn(
            text="The edits are in. The same tests again.",
            calls=(ToolCall("run_command", {"command": tests, "timeout_s": 300}),),
        ),
        _finish("done", f"Changed {', '.join(files)}; the tests that failed pass now."),
    ]
    return Steps(steps, exhausted=_out_of_ideas)


def recorder(knowledge: Knowledge) -> Script:
    """Return the script that records the fix in the changelog and the version."""
    files = _paths(knowledge.record)
    steps = [
        Turn(
            thinking="I look at how earlier changes were recorded.",
            calls=tuple(ToolCall("read_file", {"path": name, "limit": 40}) for name in files),
        ),
        *_edit_turns(knowledge.record, "I add the entry and raise the version."),
        Turn(
            text="Now the whole test suite.",
            calls=(ToolCall("run_command", {"command": _PYTEST, "timeout_s": 300}),),
        ),
        _finish("done", f"Recorded the fix in {', '.join(files)}."),
    ]
    return Steps(steps, exhausted=_out_of_ideas)


def _edit_turns(edits: Sequence[Edit], opening: str) -> list[Turn]:
    turns = []
    for path, group in groupby(edits, key=lambda edit: edit.path):
        calls = tuple(_edit_call(edit) for edit in group)
        turns.append(Turn(text=f"{opening} {path}.".strip(), calls=calls))
        opening = "Next:"
    return turns


def _edit_call(edit: Edit) -> ToolCall:
    if edit.new is None:
        return ToolCall("delete_file", {"path": edit.path})
    if edit.old is None:
        return ToolCall("write_file", {"path": edit.path, "content": edit.new})
    return ToolCall(
        "edit_file", {"path": edit.path, "old_string": edit.old, "new_string": edit.new}
    )


def _paths(edits: Sequence[Edit]) -> list[str]:
    return list(dict.fromkeys(edit.path for edit in edits))


def _first_line(conversation: Conversation) -> str:
    text = next((result.text for result in conversation.last_results), "")
    return (text.strip().splitlines() or ["nothing."])[0][:200]


def _finish(status: str, summary: str) -> Turn:
    return Turn(calls=(ToolCall("finish", {"status": status, "summary": summary}),))


def _out_of_ideas(_conversation: Conversation) -> Turn:
    return _finish("blocked", "The replayed model knows no further step; see the gate's output.")
