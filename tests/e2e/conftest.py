"""One JupyterLab and one Chromium for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.lab import Lab, browser, running_lab
from tests.support.live import LiveStack


@pytest.fixture(scope="session")
def lab(live: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on the live stack's state folder."""
    with running_lab(live.home, tmp_path_factory.mktemp("lab") / "files") as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Headless Chromium."""
    # A busy machine answers late; what never comes still fails.
    expect.set_options(timeout=20_000)
    with browser() as running:
        yield running
