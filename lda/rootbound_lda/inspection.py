"""What a run could reach through the folders it was granted, looked for before it begins.

Two things pass any wall of paths: another name of the same file (a hard link that was in a root
before), and a password in the repository's own configuration, which git must be able to read.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rootbound_lda.policy import Policy

MAX_ENTRIES: Final = 200_000
MAX_SECONDS: Final = 2.0
SHOWN: Final = 5

_USERINFO: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s\"]+@", re.IGNORECASE)
_SECRET_KEY: Final = re.compile(
    r"^\s*[a-z0-9-]*(extraheader|password|passwd|token|secret|apikey|sslkey|sslcert)[a-z0-9-]*\s*=",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class HardLinks:
    """Files in the roots that have names outside of them.

    Parameters
    ----------
    paths
        One name of each, in the roots.
    complete
        Whether every root was looked through; a large one is given up.
    """

    paths: tuple[Path, ...]
    complete: bool

    def sentence(self) -> str | None:
        """Return what the reader of a run should know, None if there is nothing."""
        if not self.paths:
            return None
        names = ", ".join(f"“{path}”" for path in self.paths[:SHOWN])
        more = f" and {len(self.paths) - SHOWN} more" if len(self.paths) > SHOWN else ""
        return (
            f"{len(self.paths)} file(s) in the granted folders are hard links whose other names "
            f"lie outside: {names}{more}. A command that changes one changes the file outside as "
            "well; copy such files if that is not wanted."
        )


def hard_links(
    roots: Sequence[Path], *, max_entries: int = MAX_ENTRIES, max_seconds: float = MAX_SECONDS
) -> HardLinks:
    """Look for files whose other names are not all in the roots.

    `.git` is left out: nothing in it can be changed, and local clones share their objects.

    Parameters
    ----------
    roots
        Writable folders; they may lie in each other.
    max_entries
        Directory entries to look at.
    max_seconds
        Time to take.
    """
    end, left = time.monotonic() + max_seconds, max_entries
    names: dict[tuple[int, int], tuple[Path, int, int]] = {}
    seen: set[tuple[int, int]] = set()
    pending = [Path(root) for root in roots]
    complete = True
    while pending and complete:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                here = folder.stat()
                if (here.st_dev, here.st_ino) in seen:
                    continue
                seen.add((here.st_dev, here.st_ino))
                for entry in entries:
                    left -= 1
                    if left < 0 or time.monotonic() > end:
                        complete = False
                        break
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != ".git":
                            pending.append(Path(entry.path))
                        continue
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1:
                        key = (facts.st_dev, facts.st_ino)
                        first, count, _ = names.get(key, (Path(entry.path), 0, 0))
                        names[key] = (first, count + 1, facts.st_nlink)
        except OSError:
            # Gone meanwhile, or closed to us and so to the run.
            continue
    found = sorted(path for path, count, links in names.values() if count < links)
    return HardLinks(tuple(found), complete)


def without_secrets(config: str) -> str:
    """Return the text of a git configuration without passwords and tokens.

    Addresses lose their user part; entries that are named after a secret are left out.
    """
    kept: list[str] = []
    dropping = False
    for line in config.splitlines(keepends=True):
        if dropping:
            dropping = line.rstrip("\r\n").endswith("\\")
            continue
        if _SECRET_KEY.match(line):
            dropping = line.rstrip("\r\n").endswith("\\")
            continue
        kept.append(_USERINFO.sub(r"\1", line))
    return "".join(kept)


def covered_config(common_dir: Path, private_dir: Path) -> tuple[tuple[Path, Path], ...]:
    """Make a copy without secrets of a repository's configuration, if it has any.

    Parameters
    ----------
    common_dir
        The repository's common git folder.
    private_dir
        The run's own folder, in which the copy is kept.

    Returns
    -------
    tuple
        The configuration and the copy to show in its place; empty if there is nothing to hide.
    """
    config = common_dir / "config"
    try:
        text = config.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()
    clean = without_secrets(text)
    if clean == text:
        return ()
    copy = private_dir / "git-config"
    copy.write_text(clean, encoding="utf-8", errors="surrogateescape")
    return ((config, copy),)


def remarks(policy: Policy, *, walled: bool) -> list[str]:
    """Return what the reader of a run should know of its folders, a sentence each.

    Parameters
    ----------
    policy
        The run's policy.
    walled
        Whether its commands see the copies in place of what the policy covers.
    """
    found = list(policy.remarks)
    linked = hard_links([*policy.writable, policy.private_home]).sentence()
    if linked is not None:
        found.append(linked)
    if not walled:
        found += [
            f"“{config}” holds a password or token, and commands of this run can read it; keep it "
            "in git's credential helper instead, or install bubblewrap, which hides it."
            for config, _ in policy.covers
        ]
    return found
