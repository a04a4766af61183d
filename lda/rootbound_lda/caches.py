"""The download cache of a project's install command, which no run can poison for another.

A project's cache is filled only by an install that ran on the base commit, before an agent has
touched anything: what the user's own branch downloads. Every run works on a copy in its own
private home; what an agent, or the code it wrote, does to that copy ends with the run. The private
home is made anew before the gates, so that nothing an agent left there takes part in their verdict.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Final

PLACES: Final = (".cache/pip", ".cache/uv", ".npm/_cacache")
"""What is kept of a home folder: content that can be downloaded again."""

MAX_BYTES: Final = 2 * 1024**3
"""A cache that has grown larger is emptied."""

COPY_TIMEOUT_S: Final = 120


def renew(home: Path, tmp: Path, cache: Path) -> None:
    """Empty a run's private folders and put a copy of the project's cache into its home.

    Parameters
    ----------
    home, tmp
        The run's private folders; no process of the run may be alive.
    cache
        The project's cache; it need not exist.
    """
    for folder in (home, tmp):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    for place in PLACES:
        source = cache / place
        if source.is_dir():
            _copy(source, home / place)


def harvest(home: Path, cache: Path) -> bool:
    """Make what an install on the base commit downloaded the project's cache.

    Parameters
    ----------
    home
        The run's private home; only the install command has run in it.
    cache
        The project's cache; it is replaced as a whole.

    Returns
    -------
    bool
        Whether there was anything new.
    """
    if _measure(home) == _measure(cache):
        return False
    fresh = cache.with_name(f".new-{uuid.uuid4().hex}")
    try:
        for place in PLACES:
            if (home / place).is_dir() and not (home / place).is_symlink():
                _copy(home / place, fresh / place)
        if not fresh.exists() or _measure(fresh)[1] > MAX_BYTES:
            shutil.rmtree(cache, ignore_errors=True)
            return False
        old = cache.with_name(f".old-{uuid.uuid4().hex}")
        if cache.exists():
            cache.rename(old)
        fresh.rename(cache)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, sharing blocks where the file system can; a cache is never worth a failure."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", str(source), str(target)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=COPY_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)


def _measure(top: Path) -> tuple[int, int]:
    """Return the number of files and bytes that are kept."""
    count = size = 0
    for place in PLACES:
        for folder, _, names in os.walk(top / place):
            for name in names:
                try:
                    size += Path(folder, name).lstat().st_size
                except OSError:
                    continue
                count += 1
    return count, size
