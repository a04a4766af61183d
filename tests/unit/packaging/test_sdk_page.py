"""docs/sdk.md is what the docstrings and the commands say today."""

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_sdks_page_is_fresh() -> None:
    done = subprocess.run([sys.executable, DOCS / "generate_sdk.py", "--check"], check=False)
    assert done.returncode == 0, "run `python docs/generate_sdk.py`"


def test_it_describes_the_whole_surface() -> None:
    page = (DOCS / "sdk.md").read_text()
    for expected in (
        "`.wait(timeout",
        "`rootbound batch run NOTEBOOK`",
        "### AuditQuery",
        "`seq: int`",
    ):
        assert expected in page, expected
