"""The notebooks on the real stack: executed, readable as HTML, and batches that go on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbconvert import HTMLExporter

from rootbound.testing.script import ToolCall, Turn
from tests.support.environment import clean_env, wait_for
from tests.support.live import ROOTBOUND, LiveStack, fix_calculator

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
PLAN = {
    "summary": "Repair, then describe.",
    "tasks": [
        {"key": "fix", "title": "Repair addition", "description": "add() subtracts.",
         "role": "BACKEND", "priority": 1, "depends_on": []},
        {"key": "doc", "title": "Describe addition", "description": "Write NOTES.md.",
         "role": "BACKEND", "priority": 0, "depends_on": ["fix"]},
    ],
}  # fmt: skip


def describe() -> list[Turn]:
    """Return the turns that write a file of notes."""
    note = {"path": "NOTES.md", "content": "add(a, b) returns the sum.\n"}
    return [
        Turn(calls=(ToolCall("write_file", note),)),
        Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Notes."}),)),
    ]


def trespass(live: LiveStack) -> Turn:
    beyond = {"path": str(live.scratch / "beyond.txt"), "content": "x"}
    return Turn(calls=(ToolCall("write_file", beyond),))


def execute(live: LiveStack, name: str, folder: Path, **parameters: Any) -> str:
    """Execute a notebook; return its HTML, which is also kept for looking at."""
    executed = folder / f"{name}.ipynb"
    papermill.execute_notebook(
        str(NOTEBOOKS / f"{name}.ipynb"), str(executed),
        parameters={"home": str(live.home), **parameters},
        progress_bar=False, cwd=str(folder),
    )  # fmt: skip
    return as_html(live, executed)


def as_html(live: LiveStack, executed: Path) -> str:
    assert live.token not in executed.read_text(), "a saved notebook holds no token"
    html, _ = HTMLExporter().from_filename(str(executed))
    folder = os.environ.get("ROOTBOUND_REPORTS")
    if folder:
        (Path(folder) / f"{executed.stem}.html").write_text(html)
    return str(html)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_valid_and_clean(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_plan_review_investigate_and_compare(live: LiveStack, tmp_path: Path) -> None:
    project = live.make_project("notebooks")
    live.replay.plan = PLAN
    live.replay.by_title = {"Repair addition": [trespass(live), *fix_calculator()]}
    html = execute(live, "plan_and_review", tmp_path, project=project["id"], decision="approve")
    for expected in ("Repair, then describe.", "edit_file", "python3 -m unittest -q",
                     "return a + b", "DENIED", "is in <b>SUCCESS</b>"):  # fmt: skip
        assert expected in html, expected

    html = execute(live, "audit_investigation", tmp_path, project=project["id"])
    for expected in ("beyond.txt", "outside all", "data:image/png", "Audit verification"):
        assert expected in html, expected

    live.replay.by_title = {}
    live.replay.turns = describe()
    html = execute(
        live, "compare_models", tmp_path, project=project["id"], title="Describe it",
        agents=["Replayed BACKEND", "Replayed QA"],
    )  # fmt: skip
    for expected in ("Replayed BACKEND", "Replayed QA", "NOTES.md", "data:image/png", "REVIEW"):
        assert expected in html, expected


def batch(live: LiveStack, folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [ROOTBOUND, "batch", "run", str(NOTEBOOKS / "batch.ipynb"), "--json", *words],
        env=clean_env(live.home), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def outcome(process: subprocess.Popen[str]) -> tuple[int, Any, str]:
    out, err = process.communicate(timeout=180)
    return process.returncode, json.loads(out) if out else None, err


def attempts_of(live: LiveStack, project: Any) -> list[Any]:
    tasks = live.call("GET", f"/api/projects/{project['id']}/tasks/")["results"]
    return [
        attempt
        for task in tasks
        for attempt in live.call("GET", f"/api/tasks/{task['id']}/attempts/")["results"]
    ]


def test_a_batch_killed_midway_goes_on_without_repeating(live: LiveStack, tmp_path: Path) -> None:
    project = live.make_project("batch")
    live.replay.plan = PLAN
    live.replay.by_title = {
        "Repair addition": fix_calculator(),
        "Describe addition": [trespass(live), *describe()],
    }
    words = ("-p", f"project={project['id']}", "-p", "prompt=Mend it", "--html")
    first = batch(live, tmp_path, *words)
    wait_for(
        lambda: any(attempt["status"] == "SUCCESS" for attempt in attempts_of(live, project)),
        within_s=120, what="the first task merged",
    )  # fmt: skip
    first.kill()
    first.communicate()

    code, report, err = outcome(batch(live, tmp_path, *words, "--max-parallel", "2"))
    assert code == 0, err
    assert "Going on with the batch that was cut off" in err
    assert report["resumed"] is True
    assert [task["status"] for task in report["tasks"]] == ["SUCCESS", "SUCCESS"]
    assert len(attempts_of(live, project)) == 2, "nothing was done twice"
    html = as_html(live, Path(report["report"]))
    for expected in ("Repair addition", "return a + b", "NOTES.md", "beyond.txt",
                     "DENIED", "unittest -q", "data:image/png", "Everything was"):  # fmt: skip
        assert expected in html, expected
    assert "In [" not in Path(report["html"]).read_text(), "a report, not a program"

    # A failing attempt, and the task behind it, are an exit code and a readable report.
    live.replay.by_title = {"Repair addition": [Turn(text="No."), Turn(text="No.")] * 4}
    other = live.make_project("batch-failing")
    words = ("-p", f"project={other['id']}", "-p", "prompt=Mend it", "-o", "failed.ipynb")
    code, report, err = outcome(batch(live, tmp_path, *words))
    assert code == 1
    assert report["tasks"][0]["status"] == "FAILED"
    assert report["tasks"][1]["status"] == "not begun"
    assert "Not everything was done. Repair addition: " in err
    assert report["error"] in err
    html = as_html(live, Path(report["report"]))
    assert "batch-failing" in html
    top = html[html.index("<main") :]
    assert top.index("Not everything was done. Repair addition: ") < top.index("Batch report")
    assert "Exception was encountered" not in html and "papermill encountered" not in html


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-p", "project=nothing"), "called 'nothing'; there are: "),
        (("-p", "max_parallel=0"), "max_parallel must be a whole number from 1, not 0."),
    ],
)
def test_a_batch_that_cannot_begin_says_why_in_one_sentence(
    live: LiveStack, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    live.make_project(f"mistake-{len(sentence)}")
    code, _, err = outcome(batch(live, tmp_path, *words))
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err
