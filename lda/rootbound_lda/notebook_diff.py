"""Diffs of notebooks by cell: of their sources, not of their JSON."""

from __future__ import annotations

import asyncio
import difflib
from typing import Any, Final

from .git import Git

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of a notebook with its outputs; one that is larger is shown as it is stored."""

MAX_FILES: Final = 50


async def by_cell(git: Git, found: dict[str, Any]) -> None:
    """Put a diff by cell in place of each notebook's patch; outputs are left out of it.

    A notebook that is too large, or cannot be read as one, keeps its patch.

    Parameters
    ----------
    git
        The repository.
    found
        What `diffs.diff` returned; changed in place.
    """
    notebooks = [file for file in found["files"] if file["path"].lower().endswith(".ipynb")]
    for file in notebooks[:MAX_FILES]:
        before = "" if file["status"] == "added" else file["old_path"] or file["path"]
        after = "" if file["status"] == "deleted" else file["path"]
        old = await _source(git, found["base"], before)
        new = await _source(git, found["head"], after)
        if (before and old is None) or (after and new is None):
            continue  # to say that nothing differs would be worse than a patch of JSON
        patch = await asyncio.to_thread(_patch, file["path"], old, new)
        if patch is not None:
            file["patch"], file["truncated"], file["by_cell"] = patch, False, True


async def _source(git: Git, commit: str, path: str) -> str | None:
    """Return a file at a commit, ``None`` when it is not there or too large."""
    if not path:
        return None
    name = f"{commit}:{path}"
    size = await git.run("cat-file", "-s", name, ok=(0, 128))
    if size.code != 0 or int(size.text or 0) > MAX_BYTES:
        return None
    shown = await git.run("cat-file", "blob", name)
    return shown.stdout.decode("utf-8", "replace")


def _patch(path: str, old: str | None, new: str | None) -> str | None:
    # Imported late: the format's library takes a moment, and most diffs have no notebook.
    from .agent.notebooks import to_text
    from .agent.schemas import ToolError

    try:
        before = to_text(path, old).splitlines() if old is not None else []
        after = to_text(path, new).splitlines() if new is not None else []
    except ToolError:
        return None
    lines = difflib.unified_diff(before, after, f"a/{path}", f"b/{path}", lineterm="")
    text = "\n".join(lines)
    return f"{text}\n" if text else "(only outputs or metadata differ)\n"
