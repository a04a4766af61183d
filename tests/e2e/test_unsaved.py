"""Notebooks are reviewed cell by cell; one with unsaved changes keeps a merge from changing it."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Browser, Locator, Page, expect

from rootbound.testing.script import ToolCall, Turn
from tests.support.accessibility import serious_findings
from tests.support.environment import wait_for
from tests.support.lab import Lab, open_lab, run_command, screenshot, use_theme
from tests.support.live import LiveStack
from tests.support.repos import git, make_repository

EDIT = {"path": "analysis.ipynb", "old_string": "z = 26", "new_string": "z = 27"}
KERNEL = """async () => {
    const { sessionContext } = window.jupyterapp.shell.currentWidget;
    await sessionContext.ready;
    await sessionContext.session.kernel.info;
}"""
FINISH = {"status": "done", "summary": "One more."}
# As a notebook that was run again: outputs are made by kernels, not by edits.
RUN_AGAIN = {"command": "cp plots.next plots.ipynb"}


def chart(*heights: int) -> str:
    """Return a bar chart as a PNG in base64."""
    width, height = 40 * len(heights), 100
    rows = b""
    for y in range(height):
        bars = [height - y <= bar for bar in heights]
        rows += b"\0" + b"".join(
            (b"\x33\x66\xcc" if bar else b"\xff\xff\xff") * 30 + b"\xff\xff\xff" * 10
            for bar in bars
        )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()


def plots(years: int, total: int, picture: str, *more: Any) -> str:
    """Return a notebook that was run, with a picture and text among its outputs."""
    printed = new_output(
        "stream", name="stdout", text=f"\x1b[32mread\x1b[0m sales.csv\n{total} sold\n"
    )
    drawn = new_output("display_data", {"image/png": picture, "text/html": f"<b>{total}</b>"})
    source = (
        f"data = read('sales.csv')\nlast = data[-{years}:]\nprint(sum(last), 'sold')\nplot(last)"
    )
    cells = [
        new_markdown_cell(f"# Sales of the last {years} years", id="title"),
        new_code_cell("from sales import plot, read", id="imports", execution_count=1),
        new_code_cell(source, id="plot", outputs=[printed, drawn], execution_count=years),
        *more,
    ]
    return f"{nbformat.writes(new_notebook(cells=cells))}\n"


def check_cells(page: Page, panel: Locator) -> None:
    """Look at what changed in the notebooks, as a reviewer does."""
    plots = panel.get_by_role("region", name="plots.ipynb")
    cells = plots.get_by_role("article", name="cell")
    expect(cells).to_have_count(4, timeout=30_000)
    assert [cell.get_attribute("aria-label") for cell in cells.all()] == [
        "Markdown changed, cell 1",
        "In [5] changed, cell 3",
        "In [ ] removed, cell 4",
        "In [ ] added, cell 4",
    ]
    plot = cells.nth(1)
    expect(plot).to_contain_text("last = data[-5:]")
    output = plot.get_by_role("region", name="Output stdout changed")
    expect(output).to_contain_text("read sales.csv")
    expect(output).to_contain_text("150 sold")
    pictures = plot.get_by_role("img")
    for picture, bars in zip(pictures.all(), (4, 5), strict=True):
        assert picture.evaluate("one => one.naturalWidth") == 40 * bars
    expect(plot).to_contain_text("Differs, and is not shown: text/html")
    plot.get_by_role("button", name="Comment on line 2").last.click()
    plot.get_by_placeholder("What should be different here?").fill("Why five?")
    plot.get_by_role("button", name="Comment", exact=True).click()
    expect(plot.get_by_role("article", name="Comment")).to_contain_text("Why five?")
    plots.scroll_into_view_if_needed()
    screenshot(page, "review-notebook-unified")
    panel.get_by_role("button", name="Side by side").click()
    # The comment is at the same line of the same cell.
    expect(plot.get_by_role("article", name="Comment")).to_contain_text("Why five?")
    plots.evaluate("one => one.scrollIntoView()")
    for theme in ("dark", "light"):
        use_theme(page, theme)
        screenshot(page, f"review-notebook-{theme}")
        found = serious_findings(page, ".jp-rootbound-Tabs .jp-rootbound-Review")
        assert found == []


def make_project(live: LiveStack, lab: Lab) -> Any:
    """Make a project below the folder that Lab serves."""
    book = new_notebook(cells=[new_code_cell(f"{name} = {n}") for n, name in enumerate("abcz", 23)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    repository = make_repository(
        lab.files / "unsaved",
        {
            "analysis.ipynb": f"{nbformat.writes(book)}\n",
            "plots.ipynb": plots(4, 100, chart(40, 10, 60, 80), new_code_cell("del data", id="x")),
            "plots.next": plots(
                5, 150, chart(50, 40, 10, 60, 80), new_code_cell("save(last, 'out.csv')", id="save")
            ),
        },
    )
    live.call("POST", "/api/local-access/roots/", {"path": str(repository)})
    live.ensure_agents()
    body = {"name": "Unsaved", "repo_path": str(repository), "config": {"test_cmd": "true"}}
    return live.call("POST", "/api/projects/", body)


def test_a_review_by_cell_and_a_merge_that_waits_for_unsaved_changes(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    project = make_project(live, lab)
    repository = Path(project["repo_path"])
    book = repository / "analysis.ipynb"
    live.replay.turns = [
        Turn(calls=(ToolCall("edit_file", EDIT), ToolCall("run_command", RUN_AGAIN))),
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
    check_cells(page, panel)
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
