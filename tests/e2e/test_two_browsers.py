"""Two people look at one board: each sees the other's moves, and nobody's move is lost silently."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator

from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from rootbound.testing.script import Conversation, Turn
from tests.support.environment import wait_for
from tests.support.lab import Lab, open_lab, run_command, screenshot
from tests.support.live import LiveStack, fix_calculator

# A promise of a second, on a machine that may be busy with other tests.
SEEN_WITHIN_S = 3.0
# Notes the page's clock when a task's card is first in a column.
WATCH = """
([title, status]) => {
  window.seenAt = undefined;
  const look = () => {
    const card = document.querySelector(
      `#rootbound-board [data-status="${status}"] [data-task][aria-label="${title}"]`
    );
    if (card) window.seenAt ??= Date.now() / 1000;
  };
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
}
"""


class Late:
    """Keeps what the server says on a page's board back, until it is let go."""

    def __init__(self, page: Page) -> None:
        self.holds = False
        self._kept: list[tuple[WebSocketRoute, str | bytes]] = []
        page.route_web_socket(re.compile(r"/rootbound/ws/projects/"), self._connect)

    def _connect(self, page_side: WebSocketRoute) -> None:
        server_side = page_side.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if self.holds:
                self._kept.append((page_side, message))
            else:
                page_side.send(message)

        server_side.on_message(pass_on)

    def let_go(self) -> None:
        self.holds = False
        for page_side, message in self._kept:
            page_side.send(message)
        self._kept.clear()


def card(page: Page, status: str, title: str) -> Locator:
    return page.locator(
        f'#rootbound-board [data-status="{status}"] [data-task][aria-label="{title}"]'
    )


@contextlib.contextmanager
def two_browsers(lab: Lab, chromium: Browser, project: str) -> Iterator[list[tuple[Page, Late]]]:
    """Open a project's board in two browsers that share nothing."""
    opened: list[tuple[Page, Late]] = []
    for _ in range(2):
        page = open_lab(chromium, lab, before=lambda page: opened.append((page, Late(page))))
        run_command(page, "rootbound:open-board")
        board = page.locator("#rootbound-board")
        expect(board.get_by_role("heading", name="To do")).to_be_visible(timeout=30_000)
        picker = board.get_by_label("Project", exact=True)
        if picker.count():
            picker.select_option(label=project)
    try:
        yield opened
    finally:
        for page, _ in opened:
            page.close()


def test_each_sees_the_other_s_moves_and_hears_of_a_conflict(
    live: LiveStack, lab: Lab, chromium: Browser
) -> None:
    project = live.make_project("Shared")
    first = live.make_task(project, "Repair it together", priority=2)
    second = live.make_task(project, "Write it down", priority=1)
    may_end = threading.Event()

    def wait(_: Conversation) -> Turn:
        assert may_end.wait(120), "the test did not come this far"
        return fix_calculator()[0]

    live.replay.turns = [wait, *fix_calculator()[1:]]  # type: ignore[list-item]
    with two_browsers(lab, chromium, "Shared") as [(ada, _), (bob, late)]:
        _move(live, ada, bob, late, may_end, (first["id"], second["id"]))


def _move(
    live: LiveStack,
    ada: Page,
    bob: Page,
    late: Late,
    may_end: threading.Event,
    tasks: tuple[str, str],
) -> None:
    first, second = tasks
    for page in (ada, bob):
        expect(card(page, "TODO", "Write it down")).to_be_visible(timeout=30_000)

    # Ada's move is on Bob's board.
    bob.evaluate(WATCH, ["Repair it together", "IN_PROGRESS"])
    moved = time.time()
    card(ada, "TODO", "Repair it together").get_by_role("button", name="Start").click()
    expect(card(bob, "IN_PROGRESS", "Repair it together")).to_be_visible(timeout=10_000)
    took = bob.evaluate("() => window.seenAt") - moved
    print(f"\nThe other browser showed a move {took:.2f} s after the click.")
    assert took < SEEN_WITHIN_S

    # Bob's board hears nothing for a while; Ada changes one task, and another is started.
    late.holds = True
    ada_card = card(ada, "TODO", "Write it down")
    ada_card.get_by_role("button", name="Change the task").click()
    title = ada.get_by_label("What shall be done")
    title.fill("Write it down twice")
    title.press("Enter")
    expect(card(ada, "TODO", "Write it down twice")).to_be_visible(timeout=10_000)
    card(bob, "TODO", "Write it down").get_by_role("button", name="Start").click()
    banner = bob.locator("#rootbound-board .jp-rootbound-Banner")
    expect(banner).to_contain_text("“Write it down” was not moved to “In progress”.")
    expect(banner).to_contain_text("Somebody changed this task meanwhile")
    assert live.call("GET", f"/api/tasks/{second}/")["status"] == "TODO"
    screenshot(bob, "board-conflict")

    # What was changed arrives; the move is then made of what Bob sees, if he still wants it.
    late.let_go()
    expect(card(bob, "TODO", "Write it down twice")).to_be_visible(timeout=10_000)
    banner.get_by_role("button", name="Move it all the same").click()
    expect(card(ada, "IN_PROGRESS", "Write it down twice")).to_be_visible(timeout=10_000)
    expect(banner).to_have_count(0)

    # Both make the same move: one attempt is started, cancelled once, and the other one is told.
    late.holds = True
    card(ada, "IN_PROGRESS", "Repair it together").get_by_role("button", name="Cancel").click()
    expect(card(ada, "TODO", "Repair it together")).to_be_visible(timeout=10_000)
    again = card(ada, "TODO", "Repair it together").get_by_role("button", name="Start again")
    again.click()
    expect(card(ada, "IN_PROGRESS", "Repair it together")).to_be_visible(timeout=10_000)
    late.let_go()
    may_end.set()
    expect(card(ada, "REVIEW", "Repair it together")).to_be_visible(timeout=60_000)
    expect(card(bob, "REVIEW", "Repair it together")).to_be_visible(timeout=10_000)
    # Bob decides on the attempt's own screen, which shows nothing of the task that Ada changes.
    card(bob, "REVIEW", "Repair it together").get_by_role("button", name="Open").click()
    stream = bob.locator(".jp-rootbound-Stream")
    stream.get_by_role("button", name="Reject…").click(timeout=30_000)
    reason = stream.get_by_label("Reason for the rejection")
    reason.fill("Too long")
    live.call("PATCH", f"/api/tasks/{first}/", {"priority": 7})
    reason.press("Enter")
    told = stream.locator(".jp-rootbound-Banner")
    expect(told).to_contain_text("This was not done. Somebody changed this task meanwhile")
    expect(reason).to_have_value("Too long")
    expect(card(ada, "REVIEW", "Repair it together")).to_contain_text("P7")
    late.holds = True
    card(ada, "REVIEW", "Repair it together").get_by_role("button", name="Approve").click()
    expect(card(ada, "DONE", "Repair it together")).to_be_visible(timeout=30_000)
    expect(told).to_contain_text("Somebody decided on this attempt meanwhile; it is “Merged” now.")
    expect(reason).to_have_value("Too long")
    screenshot(bob, "attempt-conflict")
    run_command(bob, "rootbound:open-board")
    stale = card(bob, "REVIEW", "Repair it together")
    stale.get_by_role("button", name="Reject…").click()
    stale.get_by_label("Reason for the rejection").fill("Too long")
    stale.get_by_role("button", name="Reject", exact=True).click()
    expect(banner).to_contain_text("“Repair it together” was not moved to “To do”.")
    expect(stale.get_by_label("Reason for the rejection")).to_have_value("Too long")
    late.let_go()
    expect(banner).to_contain_text("Somebody else moved it meanwhile; it is in “Done” now.")
    screenshot(bob, "board-conflict-late")
    attempts = live.call("GET", f"/api/tasks/{first}/attempts/")["results"]
    assert [one["status"] for one in attempts] == ["SUCCESS", "FAILED"]
    wait_for(
        lambda: (
            live.call("GET", f"/api/tasks/{second}/")["latest_attempt"]["status"]
            not in ("QUEUED", "RUNNING", "GATES")
        ),
        within_s=60,
        what="the second attempt's end",
    )
