"""Where the LDA keeps its state, and who it is."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import get_args

import platformdirs

from .auth import VerifyKeys
from .outbox import DEFAULT_MAX_BYTES
from .wire_types import Provider

BIND_HOST = "127.0.0.1"
"""The LDA listens here and nowhere else; there is no setting for it."""

DEFAULT_PORT = 8001
DEFAULT_BATCH_DAYS = 90.0
MIN_OUTBOX_BYTES = 16 << 20


class ConfigError(Exception):
    """The LDA cannot start; the text is one sentence for the user."""


def version() -> str:
    """Return the version of the installed distribution, or ``"0"`` outside of one."""
    try:
        return metadata.version("rootbound")
    except metadata.PackageNotFoundError:
        return "0"


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace ``path`` by ``data`` so that a reader sees the old or the new content.

    Parameters
    ----------
    path
        The file; its folder must exist.
    data
        The whole new content.
    mode
        Permission bits of the new file. Default ``0o600``.
    durable
        Whether it survives a power cut once this returns. Default true.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class Config:
    """Identity, folders and addresses of one LDA process.

    Attributes
    ----------
    home
        The state folder.
    lda_id
        Stays the same over restarts.
    boot_id
        New for every process; part of the audience of every token.
    port
        The port asked for first.
    bubblewrap
        ``auto``: commands run in namespaces of their own where bubblewrap works; ``always``: they
        do not run without; ``off``.
    model_urls
        Base URL by provider (``GLM``, ``GEMINI``), for profiles that name none.
    connect
        Addresses of the backend that this LDA connects to, separated by commas; "" for an LDA that
        listens on loopback.
    token_file
        File with this machine's token. Default ``secrets/machine.token`` in the state folder.
    batch_days
        Days for which the folder of a batch is kept after its end, with its report; 0 for ever.
    outbox_max_bytes
        Bytes of reports that may wait for the backend. Default 1 GiB.
    """

    home: Path
    lda_id: str
    boot_id: str
    port: int = DEFAULT_PORT
    bubblewrap: str = "auto"
    model_urls: Mapping[str, str] | None = None
    connect: str = ""
    token_file: Path | None = None
    batch_days: float = DEFAULT_BATCH_DAYS
    outbox_max_bytes: int = DEFAULT_MAX_BYTES

    @property
    def audience(self) -> str:
        """The ``aud`` that a token for this process must carry."""
        return f"{self.lda_id}:{self.boot_id}"

    @property
    def run_folder(self) -> Path:
        """Folder of sockets, locks and address files."""
        return self.home / "run"

    @property
    def worktrees(self) -> Path:
        """Folder with one worktree per attempt."""
        return self.home / "worktrees"

    @property
    def artifacts(self) -> Path:
        """Folder with the full logs, per attempt."""
        return self.home / "artifacts"

    @property
    def runs(self) -> Path:
        """Folder with the LDA's own record of each run."""
        return self.home / "runs"

    @property
    def caches(self) -> Path:
        """Folder with the download cache of each project."""
        return self.home / "caches"

    @property
    def baselines(self) -> Path:
        """Folder with what gates said about base commits."""
        return self.home / "baselines"

    @property
    def unsaved(self) -> Path:
        """What editors have open with unsaved changes."""
        return self.run_folder / "unsaved.json"

    @property
    def outbox(self) -> Path:
        """The outbox's database."""
        return self.home / "outbox" / "outbox.sqlite3"

    @property
    def verify_key(self) -> Path:
        """The backend's public key."""
        return self.home / "secrets" / "lda_verify.pem"

    def machine_token(self) -> str:
        """Return the token with which this machine connects to its backend.

        Raises
        ------
        ConfigError
            When there is none.
        """
        path = self.token_file or self.home / "secrets" / "machine.token"
        try:
            return path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The machine's token {path} cannot be read; make one with `rootbound machine "
                "add` and write it there (mode 0600)."
            ) from error

    def make_folders(self) -> None:
        """Create the state folders that the LDA owns, mode 0700."""
        folders = (
            self.run_folder, self.worktrees, self.artifacts, self.runs, self.caches,
            self.outbox.parent,
        )  # fmt: skip
        for folder in (self.home, *folders):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def verify_keys(self) -> VerifyKeys:
        """Return the public keys that tokens are checked with; they follow the file.

        Raises
        ------
        ConfigError
            When there is none: the stack's guard makes it before any service starts.
        """
        try:
            return VerifyKeys(self.verify_key)
        except OSError as error:
            raise ConfigError(
                f"The key {self.verify_key} cannot be read ({error.strerror}); start the LDA with "
                "`rootbound up`, which makes it."
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"The key {self.verify_key} is damaged ({error}); remove it and start the LDA with "
                "`rootbound up`, which makes it."
            ) from error


def _persistent_id(home: Path) -> str:
    """Return this state folder's LDA id, made on first use."""
    path = home / "lda.id"
    try:
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        fresh = str(uuid.uuid4())
        write_atomic(path, fresh.encode("ascii"))
        return fresh


def _days(environ: Mapping[str, str]) -> float:
    """Return for how many days batches are kept."""
    text = environ.get("ROOTBOUND_LDA_BATCH_DAYS") or str(DEFAULT_BATCH_DAYS)
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 100_000:
        raise ConfigError(
            f"ROOTBOUND_LDA_BATCH_DAYS is {text!r}; give a number of days, or 0 to keep all."
        )
    return days


def load(environ: Mapping[str, str]) -> Config:
    """Read the configuration from the environment and create the state folders.

    Parameters
    ----------
    environ
        Usually ``os.environ``. ``ROOTBOUND_HOME``, ``ROOTBOUND_LDA_PORT`` (default 8001),
        ``ROOTBOUND_LDA_OUTBOX_MAX_BYTES`` (default 1 GiB), ``ROOTBOUND_LDA_BUBBLEWRAP`` (default
        ``auto``), each provider's base URL (``ROOTBOUND_GLM_BASE_URL``),
        ``ROOTBOUND_LDA_BATCH_DAYS`` (default 90), ``ROOTBOUND_LDA_CONNECT`` and
        ``ROOTBOUND_LDA_TOKEN_FILE`` are read.

    Returns
    -------
    Config
        With a fresh boot id.

    Raises
    ------
    ConfigError
        For a value that makes no sense, or a state folder that cannot be made.
    """
    given = environ.get("ROOTBOUND_HOME", "")
    home = Path(given) if given else platformdirs.user_state_path("rootbound")
    if not home.is_absolute():
        raise ConfigError(f"ROOTBOUND_HOME is {given!r}; give an absolute path.")
    text = environ.get("ROOTBOUND_LDA_PORT") or str(DEFAULT_PORT)
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise ConfigError(f"ROOTBOUND_LDA_PORT is {text!r}; give a number from 1 to 65535.")
    bound = environ.get("ROOTBOUND_LDA_OUTBOX_MAX_BYTES") or str(DEFAULT_MAX_BYTES)
    if not bound.isdigit() or int(bound) < MIN_OUTBOX_BYTES:
        raise ConfigError(
            f"ROOTBOUND_LDA_OUTBOX_MAX_BYTES is {bound!r}; give a number of bytes of at least "
            f"{MIN_OUTBOX_BYTES}."
        )
    bubblewrap = environ.get("ROOTBOUND_LDA_BUBBLEWRAP") or "auto"
    if bubblewrap not in ("auto", "always", "off"):
        raise ConfigError(f"ROOTBOUND_LDA_BUBBLEWRAP is {bubblewrap!r}; give auto, always or off.")
    token_file = environ.get("ROOTBOUND_LDA_TOKEN_FILE")
    names = {provider: f"ROOTBOUND_{provider}_BASE_URL" for provider in get_args(Provider)}
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = Config(
            home=home.resolve(),
            lda_id=_persistent_id(home),
            boot_id=str(uuid.uuid4()),
            port=int(text),
            outbox_max_bytes=int(bound),
            batch_days=_days(environ),
            bubblewrap=bubblewrap,
            connect=environ.get("ROOTBOUND_LDA_CONNECT", "").strip(),
            token_file=Path(token_file).expanduser() if token_file else None,
            model_urls={key: environ[name] for key, name in names.items() if environ.get(name)},
        )
        config.make_folders()
    except OSError as error:
        raise ConfigError(
            f"The state folder {home} cannot be used ({error.strerror}); set ROOTBOUND_HOME to a "
            "folder that you may write to."
        ) from error
    return config
