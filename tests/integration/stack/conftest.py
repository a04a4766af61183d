"""A state folder of its own for each test, cleaned of processes afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rootbound_server_ext.stack import api

STANDIN_GUARD = (str(Path(__file__).with_name("standin_services.py")),)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not tmp_path: socket paths below it are too long, which has a test of its own.
    folder = Path(tempfile.mkdtemp(prefix="rb-stack-"))
    for name in list(os.environ):
        if name.startswith("ROOTBOUND_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ROOTBOUND_HOME", str(folder))
    yield folder
    api.down(folder)
    shutil.rmtree(folder)


@pytest.fixture
def eventually() -> Callable[..., None]:
    def wait(condition: Callable[[], object], what: str, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
            time.sleep(0.02)

    return wait


@pytest.fixture
def processes_of(home: Path) -> Callable[[], list[psutil.Process]]:
    """Live processes that carry the state folder's mark or work in it."""

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get("ROOTBOUND_HOME") == str(home)
                inside = process.cwd().startswith(str(home))
                if (marked or inside) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return [one for one in found if one.pid != os.getpid()]

    return find
