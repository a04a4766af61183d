"""The outer wall: a mount, process and IPC namespace of a run's own, made by bubblewrap.

The warm process of a run is started inside it once, so that a command costs no more than without.
Open to the machine's files, it makes everything but the roots read-only and hides the known secrets
(Landlock decides what may be read); closed, only what the policy names exists at all, which is what
holds where the kernel has no Landlock.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rootbound_lda.policy import Policy, within
from rootbound_lda.sandbox._sys import KEPT_CAPABILITIES
from rootbound_lda.sandbox._warm import FALLBACK_PATH, PACKAGES

_CAPABILITIES = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 4: "FSETID", 5: "KILL"}
_MADE_HERE = (Path("/proc"), Path("/dev"))


def find() -> str | None:
    """Return bubblewrap's path, None where it is not installed.

    It is looked up in the system's own folders: a program of that name elsewhere on PATH is not
    one to build a wall with.
    """
    return shutil.which("bwrap", path=FALLBACK_PATH)


@dataclass(frozen=True)
class Wall:
    """How a run's warm process is walled in.

    Parameters
    ----------
    program
        Path of bubblewrap.
    closed
        Whether only what the policy names exists inside.
    """

    program: str
    closed: bool = False

    def options(self, policy: Policy) -> list[str]:
        """Return bubblewrap's options for the runs of a policy."""
        argv = ["--unshare-pid", "--unshare-ipc"]
        if policy.loopback:
            argv.append("--unshare-net")
        if os.geteuid() == 0:
            # Without a user namespace root would lose the rights to the user's own files.
            for capability in KEPT_CAPABILITIES:
                argv += ["--cap-add", f"CAP_{_CAPABILITIES[capability]}"]
        argv += list(self._closed(policy) if self.closed else self._open(policy))
        for path in _roots(policy):
            argv += ["--bind", str(path), str(path)]
            # A place where a file is mounted can be neither renamed nor removed.
            marker = path / ".git"
            if path in policy.writable and marker.exists() and not marker.is_symlink():
                argv += ["--ro-bind", str(marker), str(marker)]
        if policy.sockets is not None:
            argv += ["--bind", str(policy.sockets.path), str(policy.sockets.path)]
        for secret, copy in policy.covers:
            argv += ["--ro-bind", str(copy), str(secret)]
        if self.closed:
            argv += ["--remount-ro", "/"]
        return [*argv, "--chdir", "/"]

    def has_loopback(self) -> bool:
        """Try whether a network of a command's own can be made. Blocking."""
        trial = [self.program, "--unshare-net", "--ro-bind", "/", "/", "--", "/bin/true"]
        done = subprocess.run(trial, capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    def _open(self, policy: Policy) -> Iterator[str]:
        yield from ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
        kept = (*policy.readable, *_roots(policy), PACKAGES)
        for secret in policy.secrets:
            try:
                kind = secret.lstat().st_mode
            except OSError:
                continue
            if stat.S_ISDIR(kind):
                yield from ("--tmpfs", str(secret))
                for path in kept:
                    # Granted all the same, such as the programs' own folders.
                    if within(path, secret) and path not in _roots(policy):
                        yield from ("--ro-bind-try", str(path), str(path))
            elif stat.S_ISREG(kind):
                yield from ("--ro-bind", os.devnull, str(secret))

    def _closed(self, policy: Policy) -> Iterator[str]:
        for link in Path("/").iterdir():
            if link.is_symlink():
                yield from ("--symlink", str(link.readlink()), str(link))
        own = (Path(sys.prefix), Path(sys.base_prefix), PACKAGES / "rootbound_lda")
        named = {*policy.readable, *own} - set(_MADE_HERE)
        for path in sorted(named, key=lambda path: len(path.parts)):
            if not any(path != other and within(path, other) for other in named):
                yield from ("--ro-bind-try", str(path), str(path))
        for folder in policy.listable:
            yield from ("--dir", str(folder))
            for entry in folder.iterdir():
                if entry.is_symlink():
                    yield from ("--symlink", str(entry.readlink()), str(entry))
        yield from _aliases(named)
        yield from ("--dev", "/dev", "--proc", "/proc")


def _roots(policy: Policy) -> list[Path]:
    """Return what is writable, outer folders before inner ones."""
    places = dict.fromkeys((*policy.writable, policy.private_home, policy.private_tmp))
    return sorted((path for path in places if path.exists()), key=lambda path: len(path.parts))


def _aliases(named: set[Path]) -> Iterator[str]:
    """Yield the symbolic links by which PATH leads to what is there."""
    made: set[Path] = {link for link in Path("/").iterdir() if link.is_symlink()}
    for text in os.environ.get("PATH", "").split(os.pathsep):
        here = Path("/")
        for part in Path(text).parts[1:]:
            here /= part
            if here in made or any(within(here, path) for path in named):
                break
            # False, too, for what lies in a folder that this user cannot enter.
            if os.path.islink(here):  # noqa: PTH114
                made.add(here)
                yield from ("--symlink", str(here.readlink()), str(here))
                break
