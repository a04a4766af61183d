"""axe-core over a part of a page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Frame, Page

AXE = Path(__file__).parents[2] / "widgets/ui/node_modules/axe-core/axe.min.js"


def serious_findings(page: Page | Frame, selector: str) -> list[str]:
    """Return what axe-core finds serious or critical in a part of the page, one line each."""
    if not page.evaluate("() => 'axe' in window"):
        # Evaluated, not added as a script element: Lab's policy may forbid inline scripts.
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        """async selector => {
            const options = {resultTypes: ['violations']};
            const {violations} = await window.axe.run(selector, options);
            return violations
                .filter(one => one.impact === 'serious' || one.impact === 'critical')
                .flatMap(one => one.nodes.map(node =>
                    `${one.id}: ${one.help}: ${node.html.slice(0, 200)} ${node.failureSummary}`));
        }""",
        selector,
    )
    return [str(one) for one in found]
