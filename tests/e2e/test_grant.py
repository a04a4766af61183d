"""A person sees a denied write in JupyterLab, grants it, and the agent's next command succeeds."""

from __future__ import annotations

import threading
from datetime import datetime

from playwright.sync_api import Browser, Locator, expect

from rootbound.testing.script import Conversation, ToolCall, Turn
from tests.support.environment import wait_for
from tests.support.lab import Lab, open_lab, screenshot
from tests.support.live import LiveStack, fix_calculator

# A promise of a second, on a machine that may be busy with other tests.
SEEN_WITHIN_S = 3.0
# Notes the page's clock when a refused row of a file is first drawn.
WATCH = """
name => {
  const look = () => {
    const rows = document.querySelectorAll('.jp-rootbound-Audit [data-result="DENIED"]');
    if (window.seenAt || ![...rows].some(row => row.textContent.includes(name))) return;
    requestAnimationFrame(() => { window.seenAt ??= Date.now() / 1000; });
  };
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
}
"""


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
    watching, decided, finished = threading.Event(), threading.Event(), threading.Event()

    def after(event: threading.Event, turn: Turn) -> Turn:
        assert event.wait(120), "the test did not come this far"
        return turn

    def first(_: Conversation) -> Turn:
        return after(watching, Turn(text="I will export the numbers.", calls=write.calls))

    def second(_: Conversation) -> Turn:
        return after(decided, write)

    def third(_: Conversation) -> Turn:
        return after(finished, fix_calculator()[1])

    live.replay.turns = [
        first, tidy, second, third, fix_calculator()[2],
    ]  # type: ignore[list-item]  # fmt: skip
    attempt = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    try:
        page = open_lab(chromium, lab)
        page.evaluate(
            "id => window.jupyterapp.commands.execute('rootbound:open-audit', {projectId: id})",
            project["id"],
        )
        audit = page.locator(".jp-rootbound-Audit")
        expect(audit).to_be_visible()
        page.evaluate(WATCH, target.name)
        watching.set()
        denied = audit.locator('[role="row"][data-result="DENIED"]')
        expect(denied.filter(has_text="report.csv")).to_be_visible(timeout=60_000)
        waited = page.evaluate("() => window.seenAt") - denied_at(live, attempt, str(target))
        print(f"the refused write was on the screen after {waited:.3f} s")
        assert 0 < waited < SEEN_WITHIN_S
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
        watching.set()
        decided.set()
        finished.set()


def denied_at(live: LiveStack, attempt: str, path: str) -> float:
    """Return when the operation was refused, as its record says."""
    query = f"/api/audit/logs/?attempt={attempt}&result=DENIED&path_prefix={path}"
    stamps = [entry["timestamp"] for entry in live.call("GET", query)["results"]]
    return min(datetime.fromisoformat(stamp).timestamp() for stamp in stamps)


def row(audit: Locator, name: str) -> Locator:
    """Return a request's row."""
    return audit.get_by_role("listitem", name=name)
