"""The synchronous modules of the SDK are what the asynchronous ones say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_synchronous_modules_are_written_anew() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "widgets/generate_sync.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
