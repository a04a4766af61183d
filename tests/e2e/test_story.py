"""From a sentence to a merged change, as a person does it in JupyterLab."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from rootbound.testing.script import Conversation, ToolCall, Turn
from tests.e2e.test_board import column
from tests.support.accessibility import serious_findings
from tests.support.lab import Lab, open_lab, screenshot
from tests.support.live import LiveStack

WISH = "Make the calculator add, and say so in the changelog"
FINISH = Turn(calls=(ToolCall("finish", {"status": "done", "summary": "Done."}),))
PLAN = {
    "summary": "Repair first, then record.",
    "tasks": [
        {
            "key": "fix", "title": "Make add() add", "description": "add() subtracts.",
            "role": "BACKEND", "priority": 5, "depends_on": [],
            "acceptance": "The test is green.", "files": ["calculator.py"],
        },
        {
            "key": "log", "title": "Write the changelog", "description": "One line.",
            "role": "QA", "priority": 1, "depends_on": ["fix"],
            "acceptance": "CHANGELOG.md names the change.", "files": [],
        },
        {
            "key": "page", "title": "Draw a page about it", "description": "Not wanted.",
            "role": "FRONTEND", "priority": 0, "depends_on": [], "acceptance": "A page.",
            "files": [],
        },
    ],
}  # fmt: skip


def write(path: str, content: str) -> Turn:
    return Turn(
        text=f"I write {path}.",
        calls=(ToolCall("write_file", {"path": path, "content": content}),),
    )


def worker(conversation: Conversation) -> Turn:
    """Repair wrongly first, then as the gate says; and once more as the reviewer says."""
    told = "\n".join(m.text for m in conversation.messages if m.role == "user")
    step = conversation.step
    if "Write the changelog" in conversation.prompt.split("Make add()", 1)[0]:
        return write("CHANGELOG.md", "- add() adds.\n") if step == 0 else FINISH
    if "Say what it returns" in told:
        text = 'def add(a, b):\n    """Return the sum."""\n    return a + b\n'
        return write("calculator.py", text) if step == 0 else FINISH
    tries = [write("calculator.py", "def add(a, b):\n    return a * b\n"), FINISH,
             write("calculator.py", "def add(a, b):\n    return a + b\n"), FINISH]  # fmt: skip
    return tries[min(step, 3)]


def attempt_panel(page: Page, name: str) -> Locator:
    """Open a tab of the attempt that is in front."""
    panel = page.locator('[id^="rootbound-attempt-view-"]').filter(visible=True).first
    panel.get_by_role("tab", name=name).click()
    return panel


def test_from_a_sentence_to_a_merged_change(live: LiveStack, lab: Lab, chromium: Browser) -> None:
    project = live.make_project("Story", auto_start=True)
    repository = Path(project["repo_path"])
    live.replay.plan = PLAN
    live.replay.worker = worker
    page = open_lab(chromium, lab)
    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
    board = page.locator("#rootbound-board")
    expect(board.get_by_role("button", name="Audit")).to_be_visible(timeout=30_000)
    picker = board.get_by_label("Project", exact=True)
    if picker.count():
        picker.select_option(label="Story")
    expect(board).to_contain_text("No tasks yet", timeout=30_000)

    # The sentence, the plan, and the plan as it is wanted.
    board.get_by_role("button", name="Plan with PM").first.click()
    plan = board.get_by_role("form", name="Plan with PM")
    plan.get_by_label("What do you want?").fill(WISH)
    plan.get_by_role("button", name="Ask for a plan").click()
    expect(plan).to_contain_text("Repair first, then record.", timeout=60_000)
    plan.get_by_role("button", name="Take task 3 out").click()
    plan.get_by_label("Title of task 1").fill("Make add() add again")
    screenshot(page, "plan")
    plan.get_by_role("button", name="Approve: make 2 tasks").click()
    expect(plan).to_be_hidden(timeout=30_000)
    first = column(page, "TODO", "Make add() add again")
    second = column(page, "TODO", "Write the changelog")
    expect(second).to_contain_text("Blocked by: Make add() add again", timeout=30_000)
    board.get_by_role("button", name="Show which tasks wait for which").click()
    screenshot(page, "board-plan")
    assert serious_findings(page, "#rootbound-board .jp-rootbound") == []

    # A card that cannot go there says why; the other one starts by being moved.
    second.focus()
    page.keyboard.press("Shift+ArrowRight")
    expect(board).to_contain_text("waits for other tasks and cannot start yet")
    first.drag_to(board.locator('.jp-rootbound-Column[data-status="IN_PROGRESS"]'))
    review = column(page, "REVIEW", "Make add() add again")
    expect(review).to_be_visible(timeout=90_000)

    # A gate was red and was repaired: the stream and the evidence tell of both.
    review.get_by_role("button", name="Open").click()
    panel = attempt_panel(page, "Stream")
    expect(panel).to_contain_text("Gate test", timeout=30_000)
    panel.get_by_label("Show").first.select_option("gates")
    screenshot(page, "attempt")
    assert serious_findings(page, ".jp-rootbound-Tabs .jp-rootbound-Stream") == []
    panel = attempt_panel(page, "Review")
    evidence = panel.get_by_role("table", name="Gate evidence")
    expect(evidence).to_contain_text("earlier", timeout=30_000)
    expect(panel).to_contain_text("Merges into “main” without conflict.")

    # A comment on a line, and the attempt that goes on with it.
    panel.get_by_role("button", name="Comment on line 2").last.click()
    panel.get_by_placeholder("What should be different here?").fill("Say what it returns")
    panel.get_by_role("button", name="Comment", exact=True).click()
    expect(panel.get_by_role("article", name="Comment")).to_contain_text("Say what it returns")
    panel.get_by_role("button", name="Side by side").click()
    screenshot(page, "review")
    assert serious_findings(page, ".jp-rootbound-Tabs .jp-rootbound-Review") == []
    panel.get_by_role("button", name="Request changes…").click()
    panel.get_by_role("button", name="Start an attempt that goes on").click()
    expect(page.locator('[id^="rootbound-attempt-"]')).to_have_count(4, timeout=30_000)

    # Approved, merged; what waited for it starts by itself.
    second_look = attempt_panel(page, "Review")
    expect(second_look.get_by_role("button", name="Approve and merge")).to_be_visible(
        timeout=90_000
    )
    expect(second_look).to_contain_text("Return the sum.")
    second_look.get_by_text("All 2 attempts of this task").click()
    screenshot(page, "review-again")
    second_look.get_by_role("button", name="Approve and merge").click()
    expect(second_look).to_contain_text("Merged", timeout=30_000)
    page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
    expect(column(page, "DONE", "Make add() add again")).to_be_visible(timeout=30_000)
    last = column(page, "REVIEW", "Write the changelog")
    expect(last).to_be_visible(timeout=90_000)
    last.focus()
    page.keyboard.press("Shift+ArrowRight")
    expect(column(page, "DONE", "Write the changelog")).to_be_visible(timeout=30_000)
    assert "Return the sum." in (repository / "calculator.py").read_text()
    assert (repository / "CHANGELOG.md").read_text() == "- add() adds.\n"
    screenshot(page, "board-done")
    page.close()
