"""Where Rootbound keeps its state, and the names of the folders and files inside it.

Every function takes the state folder as ``home`` (default: :func:`state_dir`) and only computes a
path; nothing is created here except by :func:`ensure_state_dir`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

import platformdirs

__all__ = [
    "MAX_SOCKET_PATH",
    "artifacts_dir",
    "ensure_private_dir",
    "ensure_state_dir",
    "lda_file",
    "logs_dir",
    "outbox_file",
    "postgres_dir",
    "redis_dir",
    "run_dir",
    "runs_dir",
    "secrets_dir",
    "socket_dir",
    "stack_file",
    "state_dir",
    "stopped_file",
    "worktrees_dir",
]

MAX_SOCKET_PATH = 100
"""Longest unix socket path used, in bytes (the kernel's limit is 107 on Linux, 103 on macOS)."""

_LONGEST_SOCKET_NAME = "postgres/.s.PGSQL.5432.lock"


def state_dir() -> Path:
    """Return the state folder: ``$ROOTBOUND_HOME``, else the platform's state folder.

    Returns
    -------
    Path
        Absolute path; it need not exist yet.
    """
    configured = os.environ.get("ROOTBOUND_HOME", "").strip()
    if configured:
        return Path(configured).expanduser().absolute()
    return platformdirs.user_state_path("rootbound").absolute()


def _home(home: Path | str | None) -> Path:
    return state_dir() if home is None else Path(home).absolute()


def secrets_dir(home: Path | str | None = None) -> Path:
    """Return the folder of keys and passwords (mode 0700)."""
    return _home(home) / "secrets"


def run_dir(home: Path | str | None = None) -> Path:
    """Return the folder of lock, address and status files (mode 0700)."""
    return _home(home) / "run"


def stack_file(home: Path | str | None = None) -> Path:
    """Return the status file that the stack guard keeps true."""
    return run_dir(home) / "stack.json"


def stopped_file(home: Path | str | None = None) -> Path:
    """Return the file that is there while the stack was stopped on purpose."""
    return run_dir(home) / "stopped"


def lda_file(home: Path | str | None = None) -> Path:
    """Return the address file that the Local Desktop Agent writes when it listens."""
    return run_dir(home) / "lda.json"


def logs_dir(home: Path | str | None = None) -> Path:
    """Return the folder of the services' logs."""
    return _home(home) / "logs"


def postgres_dir(home: Path | str | None = None) -> Path:
    """Return the folder that holds the PostgreSQL cluster."""
    return _home(home) / "postgres"


def redis_dir(home: Path | str | None = None) -> Path:
    """Return the folder that holds the Redis data."""
    return _home(home) / "redis"


def outbox_file(home: Path | str | None = None) -> Path:
    """Return the Local Desktop Agent's durable outbox (SQLite)."""
    return _home(home) / "outbox" / "outbox.sqlite3"


def worktrees_dir(home: Path | str | None = None) -> Path:
    """Return the folder of the attempts' worktrees."""
    return _home(home) / "worktrees"


def artifacts_dir(home: Path | str | None = None) -> Path:
    """Return the folder of the attempts' large outputs."""
    return _home(home) / "artifacts"


def runs_dir(home: Path | str | None = None) -> Path:
    """Return the folder of the runs' journals and private homes."""
    return _home(home) / "runs"


def socket_dir(home: Path | str | None = None) -> Path:
    """Return the folder for unix sockets.

    This is ``run/`` in the state folder, or, when socket paths there would be too long for the
    kernel, a folder ``rootbound-<uid>-<hash>`` in ``$XDG_RUNTIME_DIR`` or the temp folder. Readers
    take addresses from ``run/stack.json``, because the environment may differ between processes.

    Returns
    -------
    Path
        Absolute path; create it with :func:`ensure_private_dir`.

    Raises
    ------
    OSError
        When the fallback is too long as well.
    """
    preferred = run_dir(home)
    if _fits(preferred):
        return preferred
    digest = hashlib.sha256(os.fsencode(_home(home))).hexdigest()[:10]
    name = f"rootbound-{os.getuid()}-{digest}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    bases = [runtime] if runtime and Path(runtime).is_dir() else []
    for base in [*bases, tempfile.gettempdir()]:
        candidate = Path(base).absolute() / name
        if _fits(candidate):
            return candidate
    raise OSError(
        f"The state folder's path is too long for unix sockets and so is the temp folder's "
        f"({tempfile.gettempdir()}); set ROOTBOUND_HOME or TMPDIR to a shorter path."
    )


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH


def ensure_private_dir(path: Path) -> Path:
    """Create a folder with mode 0700, or check and tighten an existing one.

    Parameters
    ----------
    path
        The folder; its parents are created with the caller's umask.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    PermissionError
        When the folder is a symbolic link or belongs to somebody else.
    OSError
        When it cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise PermissionError(f"{path} is not a folder of its own (a link or a file); remove it.")
    if facts.st_uid != os.geteuid():
        raise PermissionError(
            f"{path} belongs to user id {facts.st_uid}, not to you; choose another ROOTBOUND_HOME."
        )
    if stat.S_IMODE(facts.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def ensure_state_dir(home: Path | str | None = None) -> Path:
    """Create the state folder and its private sub-folders (all mode 0700).

    Parameters
    ----------
    home
        State folder; default :func:`state_dir`.

    Returns
    -------
    Path
        The state folder.

    Raises
    ------
    OSError
        When a folder cannot be created or belongs to somebody else.
    """
    root = ensure_private_dir(_home(home))
    for sub in (secrets_dir(root), run_dir(root), logs_dir(root)):
        ensure_private_dir(sub)
    return root
