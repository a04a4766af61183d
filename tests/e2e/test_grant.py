"""A person sees a denied write in JupyterLab, grants it, and the agent's next command succeeds."""

from __future__ import annotations

import threading

from playwright.sync_api import Browser, Locator, expect

from rootbound.testing.script import Conversation, ToolCall, Turn
from tests.support.environment import wait_for
from tests.support.lab import Lab, open_lab, screenshot
from tests.support.live import LiveStack, fix_calculator


def test_denied_write_is_granted_in_the_audit_table(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    project = live.make_project("Exports")
    task = live.make_task(project, "Export the report")
    exports, cache = live.scratch / "exports", live.scratch / "cache"
    exports.mkdir()
    cache.mkdir()
    target = exports / "report.csv"
    write = Turn(calls=(ToolCall("run_command", {"command": f"echo total,5 > {target}"}),))
    tidy = Turn(calls=(ToolCall("delete_file", {"path": str(cache / "old.bin")}),))
    decided, finished = threading.Event(), threading.Event()

    def after(event: threading.Event, turn: Turn) -> Turn:
        assert event.wait(120), "the test did not come this far"
        return turn

    def second(_: Conversation) -> Turn:
        return after(decided, write)

    def third(_: Conversation) -> Turn:
        return after(finished, fix_calculator()[1])

    live.replay.turns = [
        Turn(text="I will export the numbers.", calls=write.calls), tidy,
        second, third, fix_calculator()[2],
    ]  # type: ignore[list-item]  # fmt: skip
    attempt = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    try:
        page = open_lab(chromium, lab)
        page.evaluate(
            "id => window.jupyterapp.commands.execute('rootbound:open-audit', {projectId: id})",
            project["id"],
        )
        audit = page.locator(".jp-rootbound-Audit")
        denied = audit.locator('[role="row"][data-result="DENIED"]')
        expect(denied.filter(has_text="report.csv")).to_be_visible(timeout=60_000)
        request = row(audit, f"Write in {exports}")
        expect(request).to_contain_text("bash")
        row(audit, f"Delete in {cache}").get_by_role("button", name="Refuse").click()
        expect(row(audit, f"Delete in {cache}")).to_have_count(0)
        screenshot(page, "audit-asks")
        assert not target.exists()

        request.get_by_role("button", name="Always grant").click()
        expect(request).to_contain_text("until you remove the root")
        request.get_by_role("button", name="Back").click()
        request.get_by_role("button", name="Grant for this task").press("Enter")
        expect(audit.get_by_role("status").filter(has_text=str(exports))).to_be_visible()
        expect(row(audit, f"Write in {exports}")).to_contain_text("granted for this task")
        decided.set()

        # The shell makes the file before it writes.
        wait_for(
            lambda: target.exists() and target.read_text() == "total,5\n",
            within_s=60,
            what="the next command to write the file",
        )
        expect(denied.filter(has_text="report.csv").first).to_contain_text("granted since")
        screenshot(page, "audit-granted")

        page.evaluate(
            "id => window.jupyterapp.commands.execute('rootbound:open-attempt', {attemptId: id})",
            attempt,
        )
        stream = page.locator('[id^="rootbound-attempt-"] >> text=You may now write in')
        expect(stream.first).to_be_visible(timeout=30_000)
        panel = page.locator(".jp-rootbound-Stream")
        expect(panel.get_by_role("button", name="Take back")).to_be_visible()
        screenshot(page, "attempt-granted")
        finished.set()
        assert live.wait_for_attempt(attempt)["status"] == "REVIEW"
        page.close()
    finally:
        decided.set()
        finished.set()


def row(audit: Locator, name: str) -> Locator:
    """Return a request's row."""
    return audit.get_by_role("listitem", name=name)
