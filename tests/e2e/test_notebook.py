"""The widgets, live in a notebook in JupyterLab."""

from __future__ import annotations

from pathlib import Path

import nbformat
from playwright.sync_api import Browser, expect

from tests.support.lab import Lab, open_lab, screenshot
from tests.support.live import LiveStack, fix_calculator


def test_task_board_widget_moves_in_a_notebook(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    project = live.make_project("In a notebook")
    task = live.make_task(project, "Repair it from a cell")
    live.replay.turns = fix_calculator(delay_s=0.5)
    cell = nbformat.v4.new_code_cell(
        "import rootbound as rb\n"
        "client = rb.connect()\n"
        f"project = client.projects.get({project['id']!r})\n"
        "board = rb.TaskBoard(project)\n"
        "board"
    )
    choose = nbformat.v4.new_code_cell(f"board.selected = {task['id']!r}")
    notebook = nbformat.v4.new_notebook(cells=[cell, choose])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.files / "board.ipynb")

    page = open_lab(chromium, lab)
    page.evaluate(
        """async () => {
            const app = window.jupyterapp;
            const panel = await app.commands.execute('docmanager:open', {path: 'board.ipynb'});
            await panel.context.ready;
            await panel.sessionContext.ready;
            await panel.sessionContext.session.kernel.info;
            await app.commands.execute('notebook:run-all-cells');
        }"""
    )
    output = page.locator(".jp-OutputArea-output")
    card = output.locator('[data-task][aria-label="Repair it from a cell"]')
    expect(card).to_be_visible(timeout=60_000)
    expect(card).to_have_attribute("aria-current", "true", timeout=30_000)
    card.get_by_role("button", name="Start").click()
    review = output.locator('[data-status="REVIEW"] [data-task]')
    expect(review).to_contain_text("Repair it from a cell", timeout=60_000)
    screenshot(page, "notebook")
    review.get_by_role("button", name="Approve").click()
    expect(output.locator('[data-status="DONE"] [data-task]')).to_be_visible(timeout=30_000)
    assert "return a + b" in (Path(project["repo_path"]) / "calculator.py").read_text()
    assert live.call("GET", f"/api/tasks/{task['id']}/")["status"] == "DONE"
    page.close()
