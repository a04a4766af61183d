"""Every screen empty, loading, in error and full, light and dark: pictures, barriers, baselines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

from tests.support import states
from tests.support.accessibility import serious_findings
from tests.support.lab import screenshot
from tests.support.pictures import like_baseline

UI = Path(__file__).resolve().parents[2] / "widgets/ui"
THEMES = Path(sys.prefix) / "share/jupyter/lab/themes/@jupyterlab"
ORIGIN = "http://rootbound.test"
# What of the full screen is there once it is drawn.
SCREENS = {
    "board": "Run the tests on every push",
    "attempt": "run_command",
    "review": "Is half a cent rounded up?",
    "audit": "id_ed25519",
    "roots": "/home/ann/results",
    "services": "free of",
    "cost": "in all",
    "guide": "There is a key for GLM",
    "schedules": "Monday through Friday",
}
PAGE = """<!doctype html><html lang="en"><title>Rootbound</title><style>
html { background: var(--jp-layout-color2); }
body { margin: 0; font-family: var(--jp-ui-font-family); }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 2px 8px; padding: 4px 8px 8px; }
h2 { margin: 2px 0; font-size: 12px; font-weight: 400; color: var(--jp-ui-font-color1); }
section.state > div { height: 440px; overflow: hidden; background: var(--jp-layout-color1); }
</style><body><main>%s</main></body></html>"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The views of the front end, bundled into one page."""
    target = tmp_path_factory.mktemp("states") / "page.js"
    subprocess.run(
        [
            str(UI / "node_modules/.bin/esbuild"), "tests/states.ts", "--bundle",
            "--format=iife", f"--outfile={target}", "--jsx=automatic",
            "--jsx-import-source=preact", "--log-level=warning",
        ],
        check=True,
        cwd=UI,
    )  # fmt: skip
    return target


def serve(route: Route) -> None:
    path = route.request.url.removeprefix(ORIGIN).lstrip("/").split("?")[0]
    state, _, rest = path.partition("/")
    if state == "":
        parts = "".join(
            f'<section class="state"><h2>{name}</h2>'
            f'<div id="{name}" class="jp-rootbound-Panel"></div></section>'
            for name in ("empty", "loading", "error", "full")
        )
        route.fulfill(body=PAGE % parts, content_type="text/html")
    elif state != "loading":  # which is never answered
        status, body = states.answer(state, rest)
        route.fulfill(status=status, body=json.dumps(body), content_type="application/json")


def talk(socket: WebSocketRoute) -> None:
    state, _, rest = socket.url.split("rootbound.test/")[1].partition("/")
    for frame in states.frames(state, rest):
        socket.send(json.dumps(frame))


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    """Of Lab's themes."""
    return str(request.param)


@pytest.fixture
def page(theme: str, chromium: Browser, script: Path) -> Iterator[Page]:
    """A page with Lab's own theme, in which `show(name)` shows a screen in its four states."""
    opened = chromium.new_page(
        viewport={"width": 1500, "height": 940}, locale="en-GB", timezone_id="Europe/Berlin"
    )
    opened.set_default_timeout(10_000)
    opened.route(f"{ORIGIN}/**", serve)
    opened.route_web_socket(re.compile(r"rootbound\.test"), talk)
    opened.goto(f"{ORIGIN}/")
    opened.add_style_tag(path=THEMES / f"theme-{theme}-extension/index.css")
    opened.add_style_tag(path=script.with_suffix(".css"))
    opened.evaluate(
        "light => { document.body.dataset.jpThemeLight = light; }",
        str(theme == "light").lower(),
    )
    opened.add_script_tag(path=script)
    yield opened
    opened.close()


def test_every_state_of_every_screen(page: Page, theme: str) -> None:
    chosen = os.environ.get("ROOTBOUND_SCREENS", ",".join(SCREENS)).split(",")
    findings: list[str] = []
    changed: list[str] = []
    for screen in chosen:
        page.evaluate("screen => show(screen)", screen)
        expect(page.locator("#full")).to_contain_text(SCREENS[screen])
        if screen == "attempt":
            page.locator("#full").get_by_role("button", name="run_command").click()
            expect(page.locator("#full")).to_contain_text("5 passed")
        for state in ("empty", "loading", "error"):
            expect(page.locator(f"#{state} .jp-rootbound")).not_to_be_empty()
        if screen != "guide":
            # The guide is there to be read while nothing answers yet.
            expect(page.locator("#error")).to_contain_text(states.ERROR["detail"])
            expect(page.locator("#loading")).to_contain_text(re.compile("Loading|Connecting"))
        page.mouse.move(0, 0)
        screenshot(page, f"states-{screen}-{theme}")
        findings += [f"{screen}: {one}" for one in serious_findings(page, "main")]
        if not like_baseline(page, page.locator("#full"), f"{screen}-full-{theme}"):
            changed.append(screen)
    assert not findings, "\n".join(findings)
    assert changed == []
