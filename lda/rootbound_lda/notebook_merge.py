"""Settling conflicts of notebooks that are none: git sees lines of JSON, people see cells."""

from __future__ import annotations

import os
import time
from typing import Final

from .git import Git
from .notebook_diff import AT_ONCE, MAX_BYTES, TOTAL_S, Comparer

__all__ = ["settle_notebooks"]

_FILE: Final = b"100644"


async def settle_notebooks(git: Git, files: list[str]) -> list[str]:
    """Settle the conflicts of notebooks in which no cell was changed by both sides.

    Parameters
    ----------
    git
        Of a worktree in which a merge is under way.
    files
        What is in conflict.

    Returns
    -------
    list of str
        What still is; a notebook that could not be settled is as git left it.
    """
    async with AT_ONCE:
        comparer = Comparer(time.monotonic() + TOTAL_S)
        try:
            settled = {path for path in files if await _settle(git, path, comparer)}
        finally:
            await comparer.end()
    return [path for path in files if path not in settled]


async def _settle(git: Git, path: str, comparer: Comparer) -> bool:
    sides = await _sides(git, path) if path.lower().endswith(".ipynb") else None
    if sides is None:
        return False
    base, ours, theirs = sides
    request = {"path": path, "base": base, "ours": ours, "theirs": theirs}
    merged = (await comparer.answers(request))[-1].get("merged")
    if merged is None:
        return False
    # By git itself, which writes through no link that a side has put in the way.
    made = await git.run("hash-object", "-w", "--stdin", stdin=merged.encode())
    await git.run("update-index", "--cacheinfo", f"{_FILE.decode()},{made.text},{path}")
    await git.run("checkout-index", "--force", "--", path)
    return True


async def _sides(git: Git, path: str) -> list[str] | None:
    """Return the file where the two sides parted, and on each; ``None`` unless all have it."""
    listed = await git.run("--literal-pathspecs", "ls-files", "--unmerged", "-z", "--", path)
    sides: list[str] = []
    for number, entry in enumerate(listed.stdout.rstrip(b"\0").split(b"\0"), start=1):
        head, _, name = entry.partition(b"\t")
        if os.fsdecode(name) != path or not head.startswith(_FILE) or head[-1:] != b"%d" % number:
            return None
        blob = head.split(b" ")[1].decode()
        if int((await git.run("cat-file", "-s", blob)).text) > MAX_BYTES:
            return None
        shown = await git.run("cat-file", "blob", blob)
        sides.append(shown.stdout.decode("utf-8", "replace"))
    return sides if len(sides) == 3 else None
