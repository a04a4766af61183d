"""A stranger installs the wheel without Node, runs `jupyter lab`, and the panel works."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from rootbound.testing.model_stub import ModelStub
from rootbound.testing.script import Fault, Steps, Turn
from tests.support.environment import wait_for
from tests.support.lab import open_lab, run_command, running_lab, screenshot
from tests.support.live import LiveStack, processes_of, rootbound

# What a terminal of Lab shows; it is drawn on a canvas.
TERMINAL = """(widgets => {
    const { _term: { buffer: { active } } } = widgets.find(one => one.content?._term).content;
    const lines = Array.from({ length: active.length }, (_, at) => active.getLine(at));
    return lines.map(line => line.translateToString()).join('\\n');
})([...window.jupyterapp.shell.widgets('main')])"""


def test_wheel_shows_the_panel_and_starts_the_stack_on_first_use(
    wheel_venv: Path, chromium: Browser, home: Path, tmp_path: Path
) -> None:
    jupyter = str(wheel_venv / "bin/jupyter")
    # The vendor refuses the key the first time that it is asked.
    script = Steps([Turn(text="OK", faults=(Fault.http(401),))])
    try:
        with (
            ModelStub(script) as vendor,
            running_lab(
                home, tmp_path / "files", jupyter=jupyter, PATH=f"{wheel_venv}/bin:/usr/bin:/bin",
                ROOTBOUND_GLM_BASE_URL=vendor.glm_url(),
            ) as lab,
        ):  # fmt: skip
            assert not (home / "run/stack.json").exists(), "nothing starts before it is used"
            page = open_lab(chromium, lab)
            page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
            board = page.locator("#rootbound-board")
            expect(board).to_contain_text("No project yet", timeout=90_000)
            screenshot(page, "first-use")
            stack = json.loads((home / "run/stack.json").read_text())
            assert {service["state"] for service in stack["services"].values()} == {"ready"}
            enter_a_key_and_try_it(page)
            page.close()
        assert processes_of(home), "the stack outlives JupyterLab"
    finally:
        rootbound(home, "down")
    wait_for(lambda: not processes_of(home), what="the stack to end")


def enter_a_key_and_try_it(page: Page) -> None:
    """The guide's second step: a key typed into Lab's terminal, refused once, then good."""
    run_command(page, "rootbound:open-guide")
    guide = page.locator("#rootbound-guide")
    guide.get_by_role("button", name="Enter GLM_API_KEY").click(timeout=20_000)
    page.locator(".jp-Terminal .xterm-helper-textarea").focus(timeout=20_000)
    page.wait_for_function(f"() => {TERMINAL}.includes('GLM_API_KEY: ')", timeout=20_000)
    page.keyboard.type("k-123")
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => {TERMINAL}.includes('Rootbound is ready')", timeout=60_000)
    assert "k-123" not in page.evaluate(TERMINAL)
    run_command(page, "rootbound:open-guide")
    expect(guide).to_contain_text("There is a key for GLM", timeout=20_000)
    guide.get_by_role("button", name="Test the agents’ models").click()
    expect(guide).to_contain_text("did not accept the key GLM_API_KEY")
    screenshot(page, "guide-key-refused")
    guide.get_by_role("button", name="Test again").click()
    expect(guide).to_contain_text("glm-7 answers.")
    screenshot(page, "guide-key")


def test_panel_works_under_a_percent_encoded_prefix(
    live: LiveStack, chromium: Browser, tmp_path: Path
) -> None:
    live.make_task(live.make_project("prefixed"), "Look here")
    with running_lab(live.home, tmp_path / "files", base_url="/user/a%40b/") as lab:
        page = open_lab(chromium, lab)
        page.evaluate("() => window.jupyterapp.commands.execute('rootbound:open-board')")
        expect(page.locator("#rootbound-board")).to_contain_text("Look here", timeout=60_000)
        page.close()
