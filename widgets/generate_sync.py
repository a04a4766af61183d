"""Writes the synchronous SDK from the asynchronous one; ``--check`` only says what is stale.

The asynchronous modules are the source. What is left when nothing is awaited is the synchronous
module, whose names lose their ``Async``. Lines behind ``# |`` are in the synchronous module only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "rootbound"
MODULES = {"aio.py": "client.py"} | {
    f"aio_{name}.py": f"{name}.py"
    for name in (
        "access",
        "audit",
        "machines",
        "objects",
        "review",
        "schedules",
        "stream",
        "transport",
    )
}
"""Source and what is written from it."""

_RULES = [
    (r"^( *)# \| ?", r"\1"),
    (r"\bAsyncTransport\b", "SyncTransport"),
    (r"\bleft = cursor\.time_left\(\)", "left = cursor.next_look()"),
    (r"\bawait asyncio\.wait_for\(socket\.recv\(\), left\)", "socket.recv(left)"),
    (r"\bawait asyncio\.sleep\(cursor\.pause\(\)\)", "cursor.stop.wait(cursor.pause())"),
    (r"\bawait asyncio\.sleep\b", "time.sleep"),
    (r"\bwebsockets\.asyncio\b", "websockets.sync"),
    (r"\ba(close|read|iter_bytes)\(", r"\1("),
    (r"\[(\w+) async for \1 in self\]", "self"),
    (r"\b(connect)_async\b", r"\1"),
    (r"^import asyncio\n", ""),
    (r"\bawait asyncio\.to_thread\(([\w.]+|Path\(path\)\.\w+), ", r"\1("),
    (r"  # noqa: ASYNC\d+[^\n]*", ""),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\b__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\bfrom \.aio import\b", "from .client import"),
    (r"\baio_(\w+)", r"\1"),
]


def sync_source(name: str, text: str) -> str:
    """Return the synchronous module of an asynchronous one.

    Parameters
    ----------
    name
        File name of the source.
    text
        Its content.
    """
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    note = f"# Written by widgets/generate_sync.py from {name}; change that one.\n"
    tidy = ["check", "--select", "I,RUF022,SIM117,UP028", "--fix", "--unsafe-fixes"]
    return _ruff(["format"], _ruff(tidy, note + text))


def _ruff(command: list[str], text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "-q", "--stdin-filename", PACKAGE / "x.py", "-"],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def main() -> int:
    """Write every module, or check them; return 1 if one was stale and ``--check`` was given."""
    stale = []
    for source, target in MODULES.items():
        wanted = sync_source(source, (PACKAGE / source).read_text(encoding="utf-8"))
        path = PACKAGE / target
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(target)
            if "--check" not in sys.argv:
                path.write_text(wanted, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.stderr.write(f"Stale: {', '.join(stale)}; run `python widgets/generate_sync.py`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
