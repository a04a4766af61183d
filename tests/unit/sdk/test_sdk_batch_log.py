"""What a batch says last, in the log that a schedule's history quotes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import argparse, sys
from rootbound.cli_batch import _tell
report = {"error": "ValueError: no such branch", "report": "/r.ipynb", "tasks": [], "cost_usd": 0.5}
_tell(argparse.Namespace(json=sys.argv[1] == "json"), report)
"""


def test_the_error_is_the_last_line_of_a_log_that_both_outputs_go_to(tmp_path: Path) -> None:
    for form in ("text", "json"):
        log = tmp_path / form
        with log.open("ab") as output:
            command = [sys.executable, "-c", PROGRAM, form]
            subprocess.run(command, stdout=output, stderr=output, check=True)
        assert log.read_text().splitlines()[-1] == "ValueError: no such branch"
