"""Rootbound as a part of JupyterLab, under a base URL as a hub gives it, and of Notebook 7."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from rootbound.testing.script import ToolCall, Turn
from tests.integration.stream.stream_reporting import database, ingest_token
from tests.support.accessibility import serious_findings
from tests.support.environment import wait_for
from tests.support.lab import TOKEN, Lab, open_lab, run_command, running_lab, screenshot, use_theme
from tests.support.live import LiveStack, fix_calculator

BASE_URL = "/user/ann%20b/"
# The pictures of these are in docs/guide.md, by these names in the light theme.
PICTURES = {
    "open-audit": "audit",
    "open-roots": "roots",
    "open-status": "services",
    "open-cost": "cost",
    "open-guide": "guide",
    "open-schedules": "schedules-none",
}
SCREENS = {
    "open-audit": "#rootbound-audit-all",
    "open-roots": "#rootbound-roots",
    "open-status": "#rootbound-status",
    "open-cost": "#rootbound-cost",
    "open-guide": "#rootbound-guide",
    "open-schedules": "#rootbound-schedules",
}
READY: dict[str, str | re.Pattern[str]] = {
    "open-audit": "drag to narrow",
    "open-roots": "Nothing outside the roots is deleted",
    # Versions come after the services, and the disk after both.
    "open-status": re.compile(r"PostgreSQL 1\d.*Celery worker.*free of", re.DOTALL),
    "open-cost": "in all",
    "open-guide": "Run the demo",
    "open-schedules": "Schedules",
}


@pytest.fixture(scope="module")
def hub_lab(live: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab under a prefix, percent-encoded as JupyterHub's are."""
    scratch = tmp_path_factory.mktemp("hub") / "files"
    with running_lab(live.home, scratch, base_url=BASE_URL) as running:
        (running.files / "results").mkdir()
        (running.files / "data").mkdir()
        yield running


@pytest.fixture(scope="module")
def attempt(live: LiveStack) -> str:
    """An attempt that waits for its review; its files, tokens and denials are on record."""
    task = live.make_task(live.make_project("Well kept"), "Repair what is kept")
    (live.scratch / "elsewhere").mkdir()
    outside = {"path": str(live.scratch / "elsewhere/notes.txt"), "content": "x"}
    refused = Turn(calls=(ToolCall("write_file", outside),))
    live.replay.by_title["Repair what is kept"] = [refused, *fix_calculator()]
    made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    assert live.wait_for_attempt(made)["status"] == "REVIEW"
    return str(made)


@pytest.fixture(scope="module")
def page(hub_lab: Lab, chromium: Browser, attempt: str) -> Iterator[Page]:
    """One browser page for the tests of this module; each leaves it as it likes."""
    opened = open_lab(chromium, hub_lab)
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


def panel(page: Page, name: str) -> Locator:
    """Show a screen and wait for what it shows."""
    run_command(page, f"rootbound:{name}")
    found = page.locator(f"{SCREENS[name]} .jp-rootbound")
    expect(found).to_be_visible(timeout=20_000)
    if name in READY:
        expect(found).to_contain_text(READY[name], timeout=20_000)
    return found


def show_folders(audit: Locator) -> None:
    """Open the tree, unless it is open."""
    button = audit.get_by_role("button", name="Folders")
    if button.get_attribute("aria-pressed") != "true":
        button.click()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_screen_in_both_themes_without_barriers(
    page: Page, live: LiveStack, theme: str
) -> None:
    use_theme(page, theme)
    for screen, selector in SCREENS.items():
        found = panel(page, screen)
        if screen == "open-audit":
            show_folders(found)
            path = found.get_by_placeholder("Path begins with")
            path.fill(str(live.scratch.parent))
            path.press("Enter")
            path.blur()
            expect(page.locator(".jp-rootbound-StatusItem")).to_contain_text("live")
            denied = found.locator('[role="row"][data-result="DENIED"]', has_text="notes.txt")
            expect(denied.get_by_role("button", name="Refuse")).to_be_visible()
            expect(found.get_by_role("treeitem").nth(2)).to_be_visible()
        screenshot(page, PICTURES[screen] + ("" if theme == "light" else "-dark"))
        assert serious_findings(page, f"{selector} .jp-rootbound") == [], screen
    panel(page, "open-audit").get_by_role("button", name="Clear").click()
    run_command(page, "apputils:change-theme", theme="JupyterLab Light")


def test_commands_palette_launcher_and_focus(page: Page) -> None:
    known = page.evaluate(
        "() => window.jupyterapp.commands.listCommands().filter(id => id.startsWith('rootbound:'))"
    )
    offered = set(known) - {"rootbound:restore", "rootbound:reference"}
    run_command(page, "apputils:activate-command-palette")
    palette = page.locator("#command-palette, #modal-command-palette")
    page.keyboard.type("rootbound")
    shown = palette.locator("[data-command^='rootbound:']")
    expect(shown).to_have_count(len(offered))
    page.keyboard.press("Escape")
    # A chord opens the audit, and the keyboard is in it.
    page.keyboard.press("Control+Alt+KeyR")
    page.keyboard.press("KeyA")
    expect(page.locator("#rootbound-audit-all")).to_be_visible()
    inside = "() => document.activeElement?.closest('#rootbound-audit-all') !== null"
    page.wait_for_function(inside)
    run_command(page, "launcher:create")
    card = page.locator(".jp-LauncherCard", has_text="Task Board").first
    expect(card).to_be_visible()


def test_audit_narrows_verifies_and_exports(page: Page, attempt: str) -> None:
    audit = panel(page, "open-audit")
    audit.get_by_role("button", name="Recompute the hash chains").click()
    expect(audit.get_by_role("status").filter(has_text="The log is whole.")).to_be_visible()
    audit.get_by_label("Operation", exact=True).select_option("WRITE")
    audit.get_by_placeholder("Glob").fill("**/calculator.py")
    audit.get_by_placeholder("Glob").press("Enter")
    rows = audit.locator('[role="row"]:not(.jp-mod-head)')
    expect(rows.first).to_contain_text("calculator.py")
    expect(rows.filter(has_text="READ")).to_have_count(0)
    with page.expect_download() as download:
        audit.get_by_role("link", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) > 1
    assert all("calculator.py" in line and "WRITE" in line for line in lines[1:])
    # What is counted is what is shown.
    show_folders(audit)
    matching = len(lines) - 1
    denied = sum(",DENIED," in line for line in lines[1:])
    expect(audit.locator("header")).to_contain_text(f"{matching - denied} allowed")
    expect(audit.locator("header")).to_contain_text(f"{denied} denied" if denied else "allowed")
    top = audit.get_by_role("treeitem").first
    expect(top).to_contain_text(re.compile(rf"(?<!\d){matching}$"))
    link = audit.get_by_role("link", name="NDJSON").get_attribute("href") or ""
    assert BASE_URL in link
    assert "glob=**%2Fcalculator.py" in link
    audit.get_by_role("button", name="Clear").click()
    expect(rows.filter(has_text="READ").first).to_be_visible()


def test_folder_is_granted_from_the_file_browser_and_kept_in_order(
    page: Page, live: LiveStack, hub_lab: Lab
) -> None:
    folder = str((hub_lab.files / "results").resolve())
    run_command(page, "filebrowser:activate")
    page.locator(".jp-DirListing-item", has_text="results").click(button="right")
    page.get_by_role("menuitem", name="Grant as Writable Root").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(folder)
    dialog.get_by_role("button", name="Grant").click()
    roots = panel(page, "open-roots")
    root = roots.get_by_role("listitem").filter(has_text=folder)
    expect(root).to_be_visible(timeout=15_000)

    # Lab's own dialog gives a folder of the machine; what is refused stays to be corrected.
    roots.get_by_role("button", name="Choose…").click()
    chooser = page.get_by_role("dialog")
    chooser.locator(".jp-DirListing-item", has_text="data").click()
    chooser.get_by_role("button", name="Select").click()
    box = roots.get_by_label("Folder to grant")
    expect(box).to_have_value(str((hub_lab.files / "data").resolve()))
    box.fill("/")
    box.press("Enter")
    expect(roots.get_by_role("alert")).to_contain_text("cannot be granted")
    expect(box).to_have_value("/")

    def stored() -> list[bool]:
        found = live.call("GET", "/api/local-access/roots/?limit=200")["results"]
        return [one["is_enabled"] for one in found if one["canonical_path"] == folder]

    assert stored() == [True]
    root.get_by_role("checkbox").click()
    expect(root).to_contain_text("switched off")
    assert stored() == [False]
    root.get_by_role("button", name="Withdraw").click()
    root.get_by_role("button", name="Yes, withdraw").click()
    expect(root).to_have_count(0)
    assert stored() == []


def test_work_is_told_in_status_bar_running_list_and_notification(
    page: Page, live: LiveStack
) -> None:
    project = live.make_project("Told")
    live.replay.by_title["Take long"] = fix_calculator(delay_s=60)
    live.replay.by_title["Be quick"] = fix_calculator(delay_s=1)
    task = live.make_task(project, "Take long")
    long = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    status = page.locator(".jp-rootbound-StatusItem")
    expect(status).to_contain_text("1 live", timeout=20_000)
    expect(status).to_contain_text(re.compile(r"tier [A-F]"))
    run_command(page, "running:show-panel")
    section = page.locator("#jp-running-sessions")
    item = section.locator(".jp-RunningSessions-item", has_text="Take long")
    expect(item).to_be_visible(timeout=20_000)
    item.hover()
    item.get_by_title("Cancel the attempt").click()
    ended = live.wait_for_attempt(long)
    assert (ended["status"], ended["failure"]) == ("FAILED", "CANCELLED")
    expect(item).to_have_count(0, timeout=20_000)

    task = live.make_task(project, "Be quick")
    quick = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    assert live.wait_for_attempt(quick)["status"] == "REVIEW"
    toast = page.locator(".Toastify__toast", has_text="“Be quick” waits for your review.")
    expect(toast).to_be_visible(timeout=20_000)
    toast.get_by_role("button", name="Open").click()
    expect(page.locator(f"#rootbound-attempt-{quick}")).to_be_visible()


def test_a_stream_is_read_to_its_start_and_says_when_it_is_late(
    page: Page, live: LiveStack
) -> None:
    project = live.make_project("Nearly full", retention={"max_mb": 1})
    report, attempt_id = reported_by_hand(live, live.make_task(project, "Report late"))
    report([notice(f"line {number}") for number in range(2500)])
    log = "whole log\n" * 1000
    folder = live.home / "artifacts" / attempt_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test-1.log").write_text(log)
    evidence = {
        "kind": "gate", "name": "test", "commit": "0" * 40, "command": "pytest", "exit_code": 1,
        "duration_s": 1.5, "log_digest": "sha256:0", "log_artifact": "test-1.log",
    }  # fmt: skip
    report([("ARTIFACT", evidence)])
    run_command(page, "rootbound:open-attempt", attemptId=attempt_id)
    view = page.locator(f"#rootbound-attempt-{attempt_id} .jp-rootbound").first
    expect(view.get_by_text("line 2499", exact=True)).to_be_visible()
    with page.expect_download() as download:
        view.get_by_role("link", name="Download the whole log").click()
    assert download.value.path().read_text() == log

    # It opened at its end; the rest comes page by page.
    rows = view.get_by_role("log")
    rows.press("Home")
    left_out = view.get_by_text(re.compile(r"5\d\d events not shown here"))
    expect(left_out).to_be_visible()
    screenshot(page, "stream-left-out")
    view.get_by_role("button", name="Show earlier events").click()
    expect(left_out).to_have_count(0)
    rows.press("Home")
    expect(view.get_by_text("line 0", exact=True)).to_be_visible()
    screenshot(page, "stream-start")

    report([notice("It is late.")], ago_s=75)
    late = view.get_by_role("status").filter(has_text=re.compile(r"1 min 1\d s behind"))
    expect(late).to_be_visible()
    screenshot(page, "stream-late")
    # It is not late any more once nothing late has come for a while.
    expect(late).to_have_count(0, timeout=20_000)
    for _ in range(4):
        report([notice("x" * 225_000)])
    services = panel(page, "open-status")
    services.get_by_role("button", name="Read again").click()
    full = services.get_by_text(re.compile(r"Nearly full takes .* of the .* it may"))
    expect(full).to_be_visible()
    screenshot(page, "services-nearly-full")
    live.call("POST", f"/api/attempts/{attempt_id}/cancel/", {})


def notice(text: str) -> tuple[str, dict[str, Any]]:
    return "LOG", {"kind": "notice", "text": text}


def reported_by_hand(live: LiveStack, task: Any) -> tuple[Callable[..., None], str]:
    """An attempt whose run is over for the LDA; what comes of it now, a test reports."""
    attempt_id = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    live.call("POST", f"/api/attempts/{attempt_id}/cancel/", {})
    live.wait_for_attempt(attempt_id)
    with database(live) as connection:
        ((generation, seq),) = connection.execute(
            "UPDATE attempts_attempt SET status = 'RUNNING', failure = NULL, completed_at = NULL, "
            "lease_generation = lease_generation + 1, handed_over_at = now(), "
            "lease_expires_at = now() + interval '1 hour' WHERE id = %s "
            "RETURNING lease_generation, last_source_seq",
            [attempt_id],
        ).fetchall()
    token = ingest_token(live, attempt_id, generation)

    def report(events: list[tuple[str, dict[str, Any]]], ago_s: float = 0.0) -> None:
        nonlocal seq
        at = datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat()
        rows = [
            {"seq": seq + place, "timestamp": at, "type": kind, "payload": payload}
            for place, (kind, payload) in enumerate(events, start=1)
        ]
        seq += len(rows)
        answer = httpx.post(
            f"{live.url}/api/attempts/{attempt_id}/events/",
            json=rows, headers={"Authorization": f"Bearer {token}"}, trust_env=False,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text

    return report, str(attempt_id)


def test_service_is_restarted_and_views_recover(page: Page) -> None:
    audit = panel(page, "open-audit")
    status = panel(page, "open-status")
    row = status.get_by_role("listitem").filter(has_text="backend")
    row.get_by_role("button", name="Log of backend").click()
    expect(row.locator("pre")).not_to_have_text("Loading…")
    row.get_by_role("button", name="Restart backend").click()
    row.get_by_role("button", name="Yes, restart backend").click()
    expect(row.locator('[data-state="starting"], :scope[data-state="starting"]')).to_have_count(
        0, timeout=30_000
    )
    expect(row).to_contain_text("ready", timeout=30_000)
    run_command(page, "rootbound:open-audit")
    audit.get_by_role("button", name="Read again").click()
    expect(audit.locator('[role="row"]').nth(2)).to_be_visible(timeout=20_000)
    expect(audit.get_by_role("alert")).to_have_count(0)


def test_lost_connection_is_told_calmly_and_recovers_by_itself(page: Page) -> None:
    audit = panel(page, "open-audit")
    # Lab's own dialog may come at any moment, and lies over everything.
    told = page.locator("dialog.jp-Dialog", has_text="Server Connection Error")
    page.add_locator_handler(told, lambda: told.locator(".jp-Dialog-button").last.click())
    page.context.set_offline(True)
    try:
        audit.get_by_role("button", name="Read again").click()
        banner = audit.get_by_role("status").filter(has_text="does not answer")
        expect(banner).to_be_visible()
        expect(audit.get_by_role("alert")).to_have_count(0)
        # What is typed meanwhile stays.
        audit.get_by_placeholder("Program").fill("python")
    finally:
        page.context.set_offline(False)
    expect(banner).to_have_count(0, timeout=20_000)
    expect(audit.locator('[role="row"]').nth(2)).to_be_visible()
    expect(audit.get_by_placeholder("Program")).to_have_value("python")
    audit.get_by_placeholder("Program").fill("")


def test_layout_comes_back_after_a_reload(page: Page, hub_lab: Lab, attempt: str) -> None:
    page.goto(f"{hub_lab.url}lab/workspaces/kept?token={TOKEN}&reset")
    ready = "() => window.jupyterapp && window.jupyterapp.restored.then(() => true)"
    page.wait_for_function(ready, timeout=60_000)
    for screen in SCREENS:
        panel(page, screen)
    run_command(page, "rootbound:open-board")
    run_command(page, "rootbound:open-attempt", attemptId=attempt)
    expect(page.locator(f"#rootbound-attempt-{attempt} .jp-rootbound").first).to_be_visible()
    saved = f"{hub_lab.url}lab/api/workspaces/kept?token={TOKEN}"
    wait_for(
        lambda: f"rootbound-attempt-{attempt}" in httpx.get(saved).text,
        within_s=20,
        what="the layout to be saved",
    )
    page.goto(f"{hub_lab.url}lab/workspaces/kept")
    page.wait_for_function(ready, timeout=60_000)
    expect(page.locator(f"#rootbound-attempt-{attempt} .jp-rootbound").first).to_be_visible()
    restored = page.evaluate("() => [...window.jupyterapp.shell.widgets('main')].map(w => w.id)")
    assert {"rootbound-board", *(one.lstrip("#") for one in SCREENS.values())} <= set(restored)
    # A tab says whose it is, as soon as that is known.
    tab = page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text="Repair what is kept · 1")
    expect(tab).to_be_visible()


def test_settings_take_effect_when_they_are_changed(page: Page, live: LiveStack) -> None:
    run_command(page, "settingeditor:open", query="Rootbound")
    editor = page.locator("#setting-editor, .jp-SettingsPanel").last
    shown = editor.get_by_label("Show the status bar item")
    expect(shown).to_be_checked()
    status = page.locator(".jp-rootbound-StatusItem")
    expect(status).to_be_visible()
    shown.click()
    expect(status).to_be_hidden()
    shown.click()
    expect(status).to_be_visible()

    level = editor.locator("select[id$='notifications']")
    level.select_option(label="off")
    live.replay.by_title["Say nothing"] = fix_calculator()
    task = live.make_task(live.make_project("Quiet"), "Say nothing")
    made = live.call("POST", f"/api/tasks/{task['id']}/attempts/", {}, expect=201)["id"]
    assert live.wait_for_attempt(made)["status"] == "REVIEW"
    waiting = len(live.call("GET", "/api/live/")["reviews"])
    expect(status).to_contain_text(re.compile(rf"\b{waiting} reviews?"), timeout=20_000)
    toast = page.locator(".Toastify__toast", has_text="Say nothing")
    expect(toast).to_have_count(0)
    level.select_option(label="all")
    live.call("POST", f"/api/attempts/{made}/approve/", {})
    expect(toast.filter(has_text="“Say nothing” has ended.")).to_be_visible(timeout=20_000)


def test_nothing_is_shown_without_the_server_extension(page: Page, hub_lab: Lab) -> None:
    def without(route: object) -> None:
        answer = route.fetch()  # type: ignore[attr-defined]
        text = answer.text().replace('"rootbound": "true"', '"other": "true"')
        route.fulfill(response=answer, body=text)  # type: ignore[attr-defined]

    pattern = re.compile(r"/lab/workspaces/none")
    page.route(pattern, without)
    page.goto(f"{hub_lab.url}lab/workspaces/none?reset")
    page.wait_for_function(
        "() => window.jupyterapp && window.jupyterapp.restored.then(() => true)", timeout=60_000
    )
    page.unroute(pattern)
    assert (
        page.evaluate("() => window.jupyterapp.commands.hasCommand('rootbound:open-board')")
        is False
    )
    expect(page.locator("#rootbound-side-panel, .jp-rootbound-StatusItem")).to_have_count(0)


def test_side_panel_in_notebook_7(page: Page, hub_lab: Lab) -> None:
    page.goto(f"{hub_lab.url}tree?token={TOKEN}")
    page.wait_for_function("() => window.jupyterapp", timeout=60_000)
    page.wait_for_function(
        "() => window.jupyterapp.commands.hasCommand('rootbound:show-panel')", timeout=30_000
    )
    run_command(page, "rootbound:show-panel")
    side = page.locator("#rootbound-side-panel")
    expect(side).to_contain_text("Well kept", timeout=30_000)
    screenshot(page, "notebook-7")
