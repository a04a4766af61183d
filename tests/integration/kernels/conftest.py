"""A granted folder for the tests of confined kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.live import LiveStack


@pytest.fixture
def repo(live: LiveStack, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A granted folder of this test's own, with the stack named to the provisioner."""
    monkeypatch.setenv("ROOTBOUND_URL", live.url)
    monkeypatch.setenv("ROOTBOUND_TOKEN", live.token)
    name = f"kernel-{len(list(live.scratch.iterdir()))}"
    return Path(live.make_project(name)["repo_path"])
