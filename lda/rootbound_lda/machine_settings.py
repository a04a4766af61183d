"""Settings of the whole machine that hold somebody's password: an index, a proxy, a registry.

Everybody can read them on many machines, so nothing but a look into them tells whether they are
secrets. Those that are count as the user's own do: no run reads them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

__all__ = ["GIT_SETTINGS", "machine_secrets", "pip_files"]

GIT_SETTINGS: Final = ("/etc/gitconfig", "/usr/local/etc/gitconfig")

_FILES: Final = (
    *GIT_SETTINGS, "/etc/pip.conf", "/etc/uv/uv.toml", "/etc/npmrc", "/usr/etc/npmrc",
    "/usr/local/etc/npmrc", "/etc/yarnrc", "/etc/.yarnrc.yml", "/etc/gemrc", "/etc/condarc",
    "/etc/conda/condarc", "/etc/conda/.condarc", "/opt/conda/.condarc", "/opt/conda/condarc",
    "/etc/curlrc", "/etc/wgetrc", "/usr/local/etc/wgetrc", "/etc/netrc", "/etc/environment",
    "/etc/boto.cfg", "/etc/my.cnf", "/etc/odbc.ini", "/etc/msmtprc", "/etc/fstab",
    "/etc/apt/sources.list", "/etc/apt/auth.conf", "/etc/apt/apt.conf", "/etc/yum.conf",
    "/etc/dnf/dnf.conf", "/etc/containers/auth.json", "/etc/pypirc",
)  # fmt: skip
_FOLDERS: Final = (
    "/etc/apt/sources.list.d", "/etc/apt/auth.conf.d", "/etc/apt/apt.conf.d", "/etc/yum.repos.d",
    "/etc/profile.d", "/etc/environment.d", "/etc/conda/condarc.d",
)  # fmt: skip
_MAX_BYTES: Final = 256 * 1024

_ADDRESS: Final = re.compile(rb"[a-z][a-z0-9+.-]*://[^/@\s\"'$]*:[^/@\s\"'$]+@", re.IGNORECASE)
"""An address with a password; one that is a variable is not there to be read."""

_ENTRY: Final = re.compile(
    rb"""^[^#;\r\n]*?
    (passw(or)?d|passphrase|token|secret|api[_-]?key|access[_-]?key|_auth\b|extraheader)
    [\w.-]*["']?\s*[=:]\s*["']?[^\s"'$\#;]""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_LOGIN: Final = re.compile(
    rb"^[^#\r\n]*\b(password|passwd|proxy[-_]user|user)[ \t]*[ \t=:][ \t]*\"?\S+",
    re.IGNORECASE | re.MULTILINE,
)
"""As netrc, apt and curl write it: a word and its value."""

_BY_WORDS: Final = ("netrc", "auth.conf", "curlrc")


def machine_secrets(prefixes: Iterable[str] = ()) -> Iterator[Path]:
    """Yield those settings of the machine that hold a password or token, free of links.

    Parameters
    ----------
    prefixes
        Of further environments whose own settings count.
    """
    for path in _candidates(prefixes):
        try:
            facts = os.stat(path)  # noqa: PTH116 - asked for each policy
        except OSError:
            continue
        if _holds_secret(path, facts.st_mtime_ns, facts.st_ino, facts.st_size):
            yield Path(os.path.realpath(path))


def pip_files() -> list[str]:
    """Return the machine's own files of pip's settings; later ones count more."""
    bases = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)
    named = [f"{base}/pip/pip.conf" for base in bases if base.startswith("/")]
    return [*(named or ["/etc/xdg/pip/pip.conf"]), "/etc/pip.conf"]


def _candidates(prefixes: Iterable[str]) -> Iterator[str]:
    yield from dict.fromkeys((*_FILES, *pip_files()))
    for prefix in dict.fromkeys((*_prefixes(), *prefixes)):
        # Of an environment or installation of its own.
        yield from (f"{prefix}/pip.conf", f"{prefix}/etc/npmrc", f"{prefix}/.condarc")
    for folder in _FOLDERS:
        try:
            names = os.listdir(folder)  # noqa: PTH208 - asked for each policy
        except OSError:
            continue
        yield from (f"{folder}/{name}" for name in names)


def _prefixes() -> list[str]:
    found = [sys.prefix, sys.base_prefix]
    for text in os.environ.get("PATH", "").split(os.pathsep):
        folder, name = os.path.split(os.path.realpath(text)) if text.startswith("/") else ("", "")
        if name == "bin" and folder not in ("", "/", "/usr", "/usr/local"):
            found.append(folder)
    return found


@lru_cache(maxsize=512)
def _holds_secret(path: str, mtime_ns: int, inode: int, size: int) -> bool:
    """Look into a file; what is remembered of it counts as long as it is the same."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(_MAX_BYTES)
    except OSError:
        return False  # closed to the user, and so to a run
    if _ADDRESS.search(data) or _ENTRY.search(data):
        return True
    return any(word in path for word in _BY_WORDS) and _LOGIN.search(data) is not None
