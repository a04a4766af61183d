"""A board of 2,000 tasks: few of its cards are in the document, and every one is in reach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from benchmarks.ui import bundled, fresh, percentile
from tests.support.lab import screenshot

TASKS = 2000
TO_DO = 1400
MOST_NODES = 1500
# Ends of every arrow, and the boxes of the cards in view that wait for another in view.
ARROWS = """() => {
    const board = document.querySelector('.jp-rootbound-Columns').getBoundingClientRect();
    const svg = document.querySelector('.jp-rootbound-Arrows').getBoundingClientRect();
    const boxes = new Map();
    for (const card of document.querySelectorAll('[data-task]')) {
        const box = card.getBoundingClientRect();
        if (box.bottom > board.top && box.top < board.bottom) {
            boxes.set(Number(card.dataset.task.slice(5)), box);
        }
    }
    const wanted = [...boxes.keys()].filter(at => at < 1400 && at % 5 === 4 && boxes.has(at - 1));
    const paths = [...document.querySelectorAll('.jp-rootbound-Arrows > path')];
    const ends = paths.map(path => {
        const numbers = path.getAttribute('d').match(/-?[\\d.]+/g).map(Number);
        return [numbers[1] + svg.top, numbers[7] + svg.top, path.getBBox().x + svg.left,
                path.getBBox().x + path.getBBox().width + svg.left];
    });
    const middle = box => box.top + box.height / 2;
    const right = wanted.map(at => [middle(boxes.get(at - 1)), middle(boxes.get(at))]);
    return {ends, right, left: svg.left, edge: board.right};
}"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The views, bundled with a server that the page plays."""
    return bundled(tmp_path_factory.mktemp("board"))


@pytest.fixture
def page(chromium: Browser, script: Path) -> Iterator[Page]:
    """A page with the board."""
    page = fresh(chromium, script)
    page.set_default_timeout(30_000)
    took = page.evaluate("count => bench.openBoard(count)", TASKS)
    print(f"board of {TASKS} tasks: first card after {took:.0f} ms")
    yield page
    page.close()


def card(page: Page, index: int) -> Locator:
    return page.locator(f'[data-task="task-{index}"]')


def arrows_are_right(page: Page) -> None:
    """Wait until there is an arrow from each card in view to the one that waits for it."""
    page.wait_for_function(
        f"""() => {{
            const found = ({ARROWS})();
            const round = ([a, b]) => `${{Math.round(a)}} ${{Math.round(b)}}`;
            const key = ends => ends.map(round).sort();
            return found.right.length > 0 && key(found.ends).join() === key(found.right).join()
                && found.ends.every(([, , x1, x2]) => x1 >= found.left && x2 <= found.edge);
        }}""",
        timeout=10_000,
    )


def test_a_column_is_scrolled_from_end_to_end_in_few_nodes(page: Page) -> None:
    found = page.evaluate("() => bench.scrollBoard()")
    assert found["seen"] == TO_DO
    assert found["nodes"] < MOST_NODES
    print(f"board: frame p99 {percentile(found['frames'], 0.99):.0f} ms, nodes {found['nodes']}")
    expect(card(page, TO_DO - 1)).to_be_in_viewport()
    screenshot(page, "board-long")


def test_keys_mouse_and_arrows_reach_cards_far_down(page: Page) -> None:
    card(page, 0).focus()
    page.keyboard.press("End")
    last = card(page, TO_DO - 1)
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport(ratio=1)
    page.keyboard.press("ArrowUp")
    expect(card(page, TO_DO - 2)).to_be_focused()
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function(
        "path => bench.posted().includes(path)", arg=f"POST api/tasks/task-{TO_DO - 2}/attempts/"
    )

    # The card with the keyboard stays while the reader looks elsewhere, and so do the others.
    column = page.locator('.jp-rootbound-Column[data-status="TODO"]')
    column.evaluate("column => { column.scrollTop = column.scrollHeight / 2 }")
    expect(card(page, TO_DO - 2)).not_to_be_in_viewport()
    expect(card(page, TO_DO - 2)).to_be_focused()
    middle = page.locator(":nth-match([data-status='TODO'] [data-task]:not(:focus), 12)")
    expect(middle).to_be_in_viewport()
    name = str(middle.get_attribute("data-task"))
    shown = page.locator(f'[data-task="{name}"]')
    before = shown.bounding_box()
    page.evaluate("() => { for (let at = 0; at < 5; at++) bench.changeTask(at, {status: 'DONE'}) }")
    expect(column.locator(".jp-rootbound-Count")).to_have_text(str(TO_DO - 5))
    after = shown.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2

    shown.drag_to(page.locator('.jp-rootbound-Column[data-status="IN_PROGRESS"]'))
    notice = page.get_by_text(re.compile("waits for|cannot"))
    moved = page.evaluate(
        "name => bench.posted().includes(`POST api/tasks/${name}/attempts/`)", name
    )
    assert moved or notice.count()

    # Groups keep their headings, and the list tells how long it is.
    page.get_by_label("Group by").select_option("role")
    heading = page.get_by_role("heading", name="BACKEND").first
    expect(heading).to_be_attached()


@pytest.mark.parametrize("width", [1000, 480])
def test_arrows_are_between_the_cards_in_view(page: Page, width: int) -> None:
    page.locator(".jp-rootbound-Panel").evaluate(
        "(panel, width) => { panel.style.width = `${width}px` }", width
    )
    page.get_by_label("Show which tasks wait for which").click()
    arrows_are_right(page)
    # In a narrow panel the whole board scrolls, else each column by itself.
    scroller = page.locator(
        '.jp-rootbound-Column[data-status="TODO"]' if width > 720 else ".jp-rootbound-Columns"
    )
    for place in (0.5, 0.6):
        scroller.evaluate("(view, place) => { view.scrollTop = view.scrollHeight * place }", place)
        arrows_are_right(page)
    screenshot(page, f"board-long-arrows-{width}")
