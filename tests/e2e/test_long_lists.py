"""Long lists in a real browser: what is in the document does not grow with what is listed.

Frames are measured and printed; `benchmarks/ui.py` has them in its table, at ten times the length.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from benchmarks.ui import bundled, fresh, percentile

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
