"""The widgets where there is no JupyterLab: hosts such as VS Code's and Colab's notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.support.accessibility import serious_findings
from tests.support.bare_host import bare_host
from tests.support.environment import clean_env
from tests.support.lab import screenshot
from tests.support.live import LiveStack, fix_calculator

TASKS = 40


@pytest.mark.parametrize(
    ("framed", "desktop", "dark"),
    [(False, "dark", False), (True, "light", True)],
    ids=["like-vscode", "like-colab"],
)
def test_widgets_live_in_a_bare_page(
    live: LiveStack,
    chromium: Browser,
    tmp_path: Path,
    framed: bool,
    desktop: Literal["light", "dark"],
    dark: bool,
) -> None:
    project = live.make_project(f"Bare {framed}")
    task = live.make_task(project, "Repair it without a Lab", priority=9)
    for number in range(TASKS):
        live.make_task(project, f"One of many, {number}")
    live.replay.turns = fix_calculator()
    page = chromium.new_page(viewport={"width": 1000, "height": 1900}, color_scheme=desktop)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    environment = clean_env(live.home)
    with bare_host(page, tmp_path, environment, framed=framed, dark=dark) as host:
        outputs = host.outputs
        (board_id,) = host.run(
            "import rootbound as rb\n"
            "from IPython.display import display\n"
            "client = rb.connect()\n"
            f"project = client.projects.get({project['id']!r})\n"
            "board = rb.TaskBoard(project)\n"
            "display(board)"
        )
        board = outputs.locator(".jp-mod-board")
        card = board.locator(f'[data-task="{task["id"]}"]')
        host.until(card.is_visible, "the board shows its cards")
        # As in Lab, only cards in view are in the document.
        assert board.locator("[data-task]").count() < TASKS
        assert (
            outputs.evaluate(
                "getComputedStyle(document.body).getPropertyValue('--jp-ui-font-size1')"
            )
            == ""
        )

        card.get_by_role("button", name="Start").click()
        review = board.locator('[data-status="REVIEW"] [data-task]')
        host.until(review.is_visible, "the attempt comes to review", within_s=90)
        host.run("board.selected = None")
        host.until(
            lambda: outputs.evaluate("id => models.get(id).get('selected')", board_id) is None,
            "the selection is taken away",
        )
        host.run(
            f"attempt = client.task({task['id']!r}).latest_attempt\n"
            "display(rb.AttemptStream(attempt), rb.DiffView(attempt), rb.AuditTable(attempt))\n"
            "display(rb.CostChart(client), rb.StackStatus(client))\n"
            "display(rb.DiffView(attempt, review=True))"
        )
        for kind, text in (
            (".jp-mod-stream", "edit_file"),
            (".jp-mod-diff .jp-rootbound-Diff", "calculator.py"),
            # All of it is there, evidence and changes too.
            (".jp-mod-diff .jp-rootbound-Review", "Approve and merge"),
            (".jp-mod-diff .jp-rootbound-Review", "calculator.py"),
            (".jp-mod-audit", "allowed"),
            (".jp-mod-stack", "postgres"),
        ):
            view = outputs.locator(kind, has_text=text)
            # Not waited for by the browser: what the view needs comes by way of this process.
            host.until(lambda view=view: view.count() == 1, f"{kind}: {text}")
        expect(outputs.locator(".jp-rootbound-Widget")).to_have_count(7)
        page.set_viewport_size({"width": 1000, "height": 3200})
        screenshot(page, f"bare-host-{'framed' if framed else 'plain'}")
        # The colours are those of the page around, not of the desktop: a page that says nothing
        # of itself has the desktop's.
        wanted = {"dark"} if dark or desktop == "dark" else {"light"}
        themes = outputs.locator(".jp-rootbound-Widget").evaluate_all(
            "all => all.map(one => one.dataset.theme)"
        )
        assert set(themes) == wanted
        found = serious_findings(outputs, ".jp-rootbound-Widget")
        assert not found, "\n".join(found)

        review.get_by_role("button", name="Approve").click()
        done = board.locator('[data-status="DONE"] [data-task]')
        host.until(done.is_visible, "the change is merged")
        assert live.call("GET", f"/api/tasks/{task['id']}/")["status"] == "DONE"
    assert errors == []
    page.close()
