"""Small real git repositories for tests."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

BROKEN_CALCULATOR = {
    "calculator.py": '"""A calculator."""\n\n\ndef add(a: int, b: int) -> int:\n    return a - b\n',
    "test_calculator.py": (
        "import unittest\n\nfrom calculator import add\n\n\n"
        "class AddTest(unittest.TestCase):\n"
        "    def test_add(self) -> None:\n        self.assertEqual(add(2, 3), 5)\n"
    ),
    "README.md": "# Calculator\n",
    ".gitignore": "__pycache__/\n.pytest_cache/\n.venv/\n",
}


CALCULATOR_COMMANDS = {
    "install_cmd": "python3 --version",
    "lint_cmd": "python3 -m compileall -q .",
    "test_cmd": "python3 -m unittest -q",
}
"""Gates that need nothing but an interpreter."""


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it printed."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def make_repository(folder: Path, files: Mapping[str, str] = BROKEN_CALCULATOR) -> Path:
    """Create a repository with one commit on ``main`` and a local identity."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Ada Tester")
    git(folder, "config", "user.email", "ada@example.org")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "First commit")
    return folder
