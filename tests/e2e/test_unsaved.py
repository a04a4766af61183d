"""A notebook with unsaved changes keeps a merge from changing it, until it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, expect

from rootbound.testing.script import ToolCall, Turn
from tests.support.environment import wait_for
from tests.support.lab import Lab, open_lab, run_command, screenshot
from tests.support.live import LiveStack
from tests.support.repos import git, make_repository

EDIT = {"path": "analysis.ipynb", "old_string": "z = 26", "new_string": "z = 27"}
KERNEL = """async () => {
    const { sessionContext } = window.jupyterapp.shell.currentWidget;
    await sessionContext.ready;
    await sessionContext.session.kernel.info;
}"""
FINISH = {"status": "done", "summary": "One more."}


def make_project(live: LiveStack, lab: Lab) -> Any:
    """Make a project below the folder that Lab serves."""
    book = new_notebook(cells=[new_code_cell(f"{name} = {n}") for n, name in enumerate("abcz", 23)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    repository = make_repository(
        lab.files / "unsaved", {"analysis.ipynb": f"{nbformat.writes(book)}\n"}
    )
    live.call("POST", "/api/local-access/roots/", {"path": str(repository)})
    live.ensure_agents()
    body = {"name": "Unsaved", "repo_path": str(repository), "config": {"test_cmd": "true"}}
    return live.call("POST", "/api/projects/", body)


def test_a_merge_waits_for_a_notebook_with_unsaved_changes(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    project = make_project(live, lab)
    repository = Path(project["repo_path"])
    book = repository / "analysis.ipynb"
    live.replay.turns = [
        Turn(calls=(ToolCall("edit_file", EDIT),)),
        Turn(calls=(ToolCall("finish", FINISH),)),
    ]
    task = live.make_task(project, "Count to 27")
    started = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)
    assert live.wait_for_attempt(started["id"])["status"] == "REVIEW"

    page = open_lab(chromium, lab)
    run_command(page, "docmanager:open", path="unsaved/analysis.ipynb")
    cell = page.locator(".jp-Notebook:visible .jp-Cell .cm-content").first
    expect(cell).to_contain_text("a = 23", timeout=30_000)
    # A kernel that connects writes its language into the notebook, which makes it unsaved again.
    page.evaluate(KERNEL)
    cell.click()
    page.keyboard.press("Control+Home")
    page.keyboard.type("# mine\n")
    reported = live.home / "run/unsaved.json"
    wait_for(lambda: reported.exists() and str(book) in reported.read_text(), what="the report")

    before = git(repository, "rev-parse", "main")
    run_command(page, "rootbound:open-attempt", attemptId=started["id"])
    panel = page.locator('[id^="rootbound-attempt-view-"]').filter(visible=True).first
    panel.get_by_role("tab", name="Review").click()
    panel.get_by_role("button", name="Approve and merge").click()
    expect(panel).to_contain_text(
        "“analysis.ipynb” is open in JupyterLab with unsaved changes", timeout=30_000
    )
    screenshot(page, "unsaved")
    assert git(repository, "rev-parse", "main") == before

    # Saved and committed, it is merged like anybody else's change.
    run_command(page, "docmanager:open", path="unsaved/analysis.ipynb")
    run_command(page, "docmanager:save")
    wait_for(lambda: "# mine" in book.read_text(), what="the saved notebook")
    wait_for(lambda: str(book) not in reported.read_text(), what="the end of the report")
    git(repository, "commit", "-q", "-a", "-m", "Mine")
    run_command(page, "rootbound:open-attempt", attemptId=started["id"])
    panel.get_by_role("button", name="Approve and merge").click()
    expect(panel).to_contain_text("git push origin main", timeout=30_000)
    merged = nbformat.read(book, as_version=4)
    assert [merged.cells[0].source, merged.cells[3].source] == ["# mine\na = 23", "z = 27"]
    page.close()
