"""The widgets, live in a notebook in JupyterLab."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.accessibility import serious_findings
from tests.support.lab import Lab, open_lab, open_notebook, screenshot
from tests.support.live import LiveStack, fix_calculator


def test_task_board_widget_moves_in_a_notebook(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    project = live.make_project("In a notebook")
    task = live.make_task(project, "Repair it from a cell", priority=1)
    live.replay.turns = fix_calculator(delay_s=0.5)
    cell = (
        "import ipywidgets, rootbound as rb\n"
        "client = rb.connect()\n"
        f"project = client.projects.get({project['id']!r})\n"
        "board = rb.TaskBoard(project)\n"
        "ipywidgets.HBox([board, rb.CostChart(project)])"
    )
    page = open_lab(chromium, lab)
    open_notebook(page, lab, "board.ipynb", cell, f"board.selected = {task['id']!r}")
    output = page.locator(".jp-OutputArea-output")
    card = output.locator('[data-task][aria-label="Repair it from a cell"]')
    expect(card).to_be_visible(timeout=60_000)
    expect(card).to_have_attribute("aria-current", "true", timeout=30_000)
    views = page.locator(".jp-OutputArea-output .jp-rootbound-Widget")
    expect(views).to_have_count(2)
    widths = views.evaluate_all("all => all.map(one => one.offsetWidth)")
    assert min(widths) > 300
    assert max(widths) - min(widths) < 20, "beside each other, each has half of the row"
    assert serious_findings(page, ".jp-OutputArea-output .jp-rootbound-Widget") == []

    # Forms are in a cell as they are in a panel.
    output.get_by_role("button", name="New task").click()
    form = output.get_by_role("form", name="New task")
    form.get_by_label("What shall be done").fill("Look at it only")
    form.get_by_role("button", name="Add the task").click()
    made = output.locator('[data-task][aria-label="Look at it only"]')
    expect(made).to_be_visible()

    # The keys that JupyterLab has for cells are the view's own while that has the focus.
    card.focus()
    for key in ("d", "d", "x", "a", "b", "m"):
        page.keyboard.press(key)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(2)
    expect(page.locator(".jp-Notebook .jp-MarkdownCell")).to_have_count(0)
    page.keyboard.press("ArrowDown")
    expect(made).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(card).to_be_focused()
    page.keyboard.press("Tab")
    expect(card.get_by_role("button", name="Start")).to_be_focused()
    page.keyboard.press("Enter")
    review = output.locator('[data-status="REVIEW"] [data-task]')
    expect(review).to_contain_text("Repair it from a cell", timeout=60_000)
    screenshot(page, "notebook")
    review.get_by_role("button", name="Approve").click()
    expect(output.locator('[data-status="DONE"] [data-task]')).to_be_visible(timeout=30_000)
    assert "return a + b" in (Path(project["repo_path"]) / "calculator.py").read_text()
    assert live.call("GET", f"/api/tasks/{task['id']}/")["status"] == "DONE"
    page.close()
