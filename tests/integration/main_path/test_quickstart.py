"""The demo's notebook under papermill, against the real stack and without JupyterLab."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest

from rootbound.testing.script import ToolCall, Turn
from tests.support.live import LiveStack, fix_calculator

NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks/quickstart.ipynb"


@pytest.mark.parametrize("live_views", [False, True])
def test_quickstart_shows_board_stream_gates_diff_and_audit(
    live: LiveStack, tmp_path: Path, live_views: bool
) -> None:
    project = live.make_project(f"notebook-{live_views}")
    outside = live.scratch / "beyond.txt"
    live.replay.turns = [
        Turn(calls=(ToolCall("write_file", {"path": str(outside), "content": "x"}),)),
        *fix_calculator(),
    ]
    task = live.make_task(project, "Repair addition")
    made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
    assert live.wait_for_attempt(made["id"])["status"] == "REVIEW"

    executed = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        str(NOTEBOOK),
        str(executed),
        parameters={"project": project["id"], "home": str(live.home), "live": live_views},
        progress_bar=False,
        cwd=str(tmp_path),
    )

    shown = "\n".join(
        str(output)
        for cell in nbformat.read(executed, as_version=4).cells
        for output in cell.get("outputs", [])
    )
    for expected in (
        project["name"],
        "Repair addition",  # the board
        "edit_file",  # the stream
        "python3 -m unittest -q",  # the gates
        "return a + b",  # the diff
        "beyond.txt",  # the audit
        "DENIED",
        "replayed model",
    ):
        assert expected.lower() in shown.lower(), expected
    assert "Traceback" not in shown
    assert live.token not in executed.read_text(), "a saved notebook holds no token"
