"""A person opens JupyterLab, opens the panel, and sees the board move while an attempt runs."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from rootbound.testing.script import ToolCall, Turn
from tests.support.lab import Lab, open_lab, screenshot
from tests.support.live import LiveStack, fix_calculator

STORY = (
    ("Repair the calculator", "BACKEND", 2),
    ("Write the changelog", "QA", 1),
    ("Show the sum in the page", "FRONTEND", 0),
)


def open_board(page: Page, project: str) -> None:
    """Open the board in the main area and choose the project."""
    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
    board = page.locator("#rootbound-board")
    expect(board.get_by_role("heading", name="To do")).to_be_visible(timeout=30_000)
    picker = board.get_by_label("Project", exact=True)
    if picker.count():
        picker.select_option(label=project)


def column(page: Page, status: str, title: str) -> Locator:
    """Return the card of a task in a column."""
    return page.locator(
        f'#rootbound-board [data-status="{status}"] [data-task][aria-label="{title}"]'
    )


def test_board_moves_while_an_attempt_runs(live: LiveStack, lab: Lab, chromium: Browser) -> None:
    project = live.make_project("Calculator")
    tasks = [
        live.make_task(project, title, agent_role=role, priority=priority)
        for title, role, priority in STORY
    ]
    live.call("PATCH", f"/api/tasks/{tasks[1]['id']}/", {"dependencies": [tasks[0]["id"]]})
    outside = {"path": str(live.scratch / "not-yours.txt"), "content": "x"}
    live.replay.turns = [
        Turn(calls=(ToolCall("write_file", outside),)),
        *fix_calculator(delay_s=1.5),
    ]
    page = open_lab(chromium, lab)
    errors: list[str] = []

    def collect(message: ConsoleMessage) -> None:
        # The first request may meet a host that is still adopting the stack: 503, then retried.
        starting = "503" in message.text
        ours = "rootbound" in message.text + str(message.location)
        if message.type == "error" and ours and not starting:
            errors.append(message.text)

    page.on("console", collect)
    open_board(page, "Calculator")
    title = STORY[0][0]
    expect(column(page, "TODO", title)).to_be_visible()
    expect(column(page, "TODO", STORY[1][0])).to_contain_text("Blocked by")

    column(page, "TODO", title).get_by_role("button", name="Start").click()

    expect(column(page, "IN_PROGRESS", title)).to_be_visible(timeout=30_000)
    screenshot(page, "board-running")
    expect(column(page, "REVIEW", title)).to_be_visible(timeout=90_000)
    card = column(page, "REVIEW", title)
    expect(card).to_contain_text("Replayed model", ignore_case=True)
    expect(card).to_contain_text("denied", ignore_case=True)
    screenshot(page, "board")

    card.get_by_role("button", name="Open").click()
    stream = page.locator('[id^="rootbound-attempt-"]').first
    expect(stream).to_contain_text("edit_file", timeout=30_000)
    screenshot(page, "attempt-open")

    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-audit')")
    audit = page.locator(".jp-rootbound-Audit")
    # The table shows a window of many rows, the newest first.
    audit.first.get_by_label("Result").select_option("DENIED")
    expect(audit.first).to_contain_text("not-yours.txt", timeout=30_000)
    screenshot(page, "audit-denied")

    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
    column(page, "REVIEW", title).get_by_role("button", name="Approve").click()
    expect(column(page, "DONE", title)).to_be_visible(timeout=30_000)
    assert "return a + b" in (Path(project["repo_path"]) / "calculator.py").read_text()
    assert not Path(outside["path"]).exists()
    assert not errors
    page.close()


def test_side_panel_services_and_dark_theme(live: LiveStack, lab: Lab, chromium: Browser) -> None:
    live.make_task(live.make_project("Panel"), "Look at the panel")
    page = open_lab(chromium, lab, dark=True)
    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:show-panel')")
    panel = page.locator("#rootbound-side-panel")
    expect(panel).to_contain_text("Look at the panel", timeout=30_000)
    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-status')")
    status = page.locator("#rootbound-status")
    for service in ("postgres", "redis", "backend", "worker", "lda"):
        expect(status).to_contain_text(service, timeout=30_000, ignore_case=True)
    screenshot(page, "services-beside-panel")
    page.close()
