"""Variables that make programs load foreign code do not reach the sandbox or its commands."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from rootbound_lda.sandbox import Sandbox
from tests.security.attack_model import Attack, Effect, Evidence
from tests.security.attack_world import PYTHON, make_world

SHOWS = Attack(
    "environment", "Environment", "import json; print(sorted(os.environ))",
    Effect("", lambda w: False), Evidence("", lambda w: True),
)  # fmt: skip
FOREIGN = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV")


def test_foreign_code_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROOTBOUND_TEST_SECRET", "x")
    trap, mark = tmp_path / "trap", tmp_path / "ran"
    trap.mkdir()
    for name in ("json.py", "sitecustomize.py", "startup.py"):
        (trap / name).write_text(f"open({str(mark)!r}, 'w').close()\n")
    world = make_world(tmp_path / "world", SHOWS)
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, str(trap))
    monkeypatch.setenv("PYTHONSTARTUP", str(trap / "startup.py"))
    monkeypatch.setenv("LD_PRELOAD", str(trap / "none.so"))
    monkeypatch.setenv("BASH_ENV", str(trap / "startup.py"))

    async def run() -> None:
        sandbox = Sandbox()
        await sandbox.start()
        try:
            await world.confined(sandbox)
        finally:
            await sandbox.stop()

    try:
        asyncio.run(run())
        assert not mark.exists()
        assert "'TMPDIR'" in world.output
        assert [name for name in FOREIGN if f"'{name}'" in world.output] == []
        assert "none.so" not in world.output
    finally:
        world.close()
    plain = subprocess.run(
        [PYTHON, "-c", "import json"], capture_output=True, text=True, check=False
    )
    assert mark.exists()
    assert "none.so" in plain.stderr
