"""Long lists in a real browser: what is in the document does not grow with what is listed.

Frames are measured and printed; `benchmarks/ui.py` has them in its table, at ten times the length.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from benchmarks.ui import bundled, fresh, percentile
from tests.support.lab import screenshot

LENGTH = 100_000


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The views, bundled with a server that the page plays."""
    return bundled(tmp_path_factory.mktemp("page"))


def test_audit_is_scrolled_to_its_end_in_few_nodes(chromium: Browser, script: Path) -> None:
    page = fresh(chromium, script)
    page.set_default_timeout(120_000)
    found = page.evaluate("count => bench.scrollAudit(count)", LENGTH)
    assert found["rows"] == LENGTH
    assert found["nodes"] < 2000
    assert len(found["frames"]) > 100
    print(f"audit: frame p99 {percentile(found['frames'], 0.99):.0f} ms")
    page.close()


def test_a_followed_log_shows_its_end_however_quickly_it_grows(
    chromium: Browser, script: Path
) -> None:
    page = fresh(chromium, script)
    page.set_default_timeout(60_000)
    page.evaluate("count => bench.openStream(count)", 1000)
    page.evaluate("([count, rate]) => bench.follow(count, rate)", [4000, 1000])
    expect(page.get_by_text("line 5000:")).to_be_in_viewport()
    assert page.locator("[data-row]").count() < 200

    # Who scrolls up stays where they are while lines arrive.
    page.get_by_role("log").hover()
    page.mouse.wheel(0, -20_000)
    expect(page.get_by_text("line 5000:")).not_to_be_in_viewport()
    seen = page.locator("[data-row]").first.get_attribute("data-row")
    page.evaluate("([count, rate]) => bench.follow(count, rate)", [500, 1000])
    expect(page.get_by_text("line 5500:")).not_to_be_in_viewport()
    assert page.locator("[data-row]").first.get_attribute("data-row") == seen
    page.close()


def test_more_lines_than_a_page_can_be_high_are_read_to_both_ends(
    chromium: Browser, script: Path
) -> None:
    page = fresh(chromium, script)
    page.set_default_timeout(60_000)
    page.evaluate("count => bench.openStream(count)", 1000)
    # 34 pixels each: more than the 33 million that a browser draws.
    page.evaluate("([count, rate]) => bench.follow(count, rate)", [1_100_000, 400_000])
    expect(page.get_by_text("line 1101000:")).to_be_in_viewport()
    log = page.get_by_role("log")
    log.hover()
    page.mouse.wheel(0, -100)
    log.evaluate("log => { log.scrollTop = 0 }")
    expect(page.get_by_text("Step 1. value")).to_be_in_viewport()
    log.evaluate("log => { log.scrollTop = log.scrollHeight / 2 }")
    middle = page.locator("[data-row]").nth(20)
    expect(middle).to_be_in_viewport()
    assert 540_000 < int(str(middle.get_attribute("data-row"))) < 560_000
    page.close()


def test_one_commands_million_lines_are_read_to_both_ends_in_few_nodes(
    chromium: Browser, script: Path
) -> None:
    page = fresh(chromium, script)
    page.set_default_timeout(60_000)
    took = page.evaluate("count => bench.openOutput(count)", 1_000_000)
    print(
        f"a million lines of one command: {took:.0f} ms from their arrival to the last one's paint"
    )
    output = page.get_by_role("region", name="output, 1000000 lines")
    expect(output.get_by_text("output 1000000:")).to_be_in_viewport()
    assert page.locator("*").count() < 1000
    screenshot(page, "long-output")
    output.hover()
    page.mouse.wheel(0, -100)
    output.evaluate("view => { view.scrollTop = 0 }")
    expect(output.get_by_text("output 1:")).to_be_in_viewport()
    output.evaluate("view => { view.scrollTop = view.scrollHeight / 2 }")
    expect(output.get_by_text("output 1:")).to_have_count(0)
    middle = output.locator("[data-row]").nth(30)
    assert 450_000 < int(str(middle.get_attribute("data-row"))) < 550_000
    assert page.locator("*").count() < 1000
    page.close()
