"""A stranger installs the wheel without Node, runs `jupyter lab`, and the panel works."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.support.environment import wait_for
from tests.support.lab import open_lab, running_lab, screenshot
from tests.support.live import LiveStack, processes_of, rootbound


def test_wheel_shows_the_panel_and_starts_the_stack_on_first_use(
    wheel_venv: Path, chromium: Browser, home: Path, tmp_path: Path
) -> None:
    jupyter = str(wheel_venv / "bin/jupyter")
    try:
        with running_lab(
            home, tmp_path / "files", jupyter=jupyter, PATH=f"{wheel_venv}/bin:/usr/bin:/bin"
        ) as lab:
            assert not (home / "run/stack.json").exists(), "nothing starts before it is used"
            page = open_lab(chromium, lab)
            page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
            board = page.locator("#rootbound-board")
            expect(board).to_contain_text("No project yet", timeout=90_000)
            screenshot(page, "first-use")
            stack = json.loads((home / "run/stack.json").read_text())
            assert {service["state"] for service in stack["services"].values()} == {"ready"}
            page.close()
        assert processes_of(home), "the stack outlives JupyterLab"
    finally:
        rootbound(home, "down")
    wait_for(lambda: not processes_of(home), what="the stack to end")


def test_panel_works_under_a_percent_encoded_prefix(
    live: LiveStack, chromium: Browser, tmp_path: Path
) -> None:
    live.make_task(live.make_project("prefixed"), "Look here")
    with running_lab(live.home, tmp_path / "files", base_url="/user/a%40b/") as lab:
        page = open_lab(chromium, lab)
        page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
        expect(page.locator("#rootbound-board")).to_contain_text("Look here", timeout=60_000)
        page.close()
