"""Keys, passwords and tokens of one state folder.

Each secret is a file of mode 0600 in ``secrets/``. Creation is atomic and never replaces an
existing file, so that two processes that start at once end up with the same secrets.
"""

from __future__ import annotations

import getpass
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rootbound import paths
from rootbound_server_ext.stack.errors import StackError

__all__ = [
    "DJANGO_KEY",
    "HEADLESS_TOKEN",
    "IDENTITY_KEY",
    "LDA_SIGNING_KEY",
    "LDA_VERIFY_KEY",
    "POSTGRES_PASSWORD",
    "SCOPES",
    "ensure_secrets",
    "issue_api_token",
    "local_owner",
    "read_secret",
    "rotate_lda_key",
    "write_headless_token",
    "write_private",
]

DJANGO_KEY = "django.key"
IDENTITY_KEY = "identity.key"
POSTGRES_PASSWORD = "postgres.password"  # noqa: S105 - a file name
LDA_SIGNING_KEY = "lda_signing.pem"
LDA_VERIFY_KEY = "lda_verify.pem"
HEADLESS_TOKEN = "headless.token"  # noqa: S105 - a file name

SCOPES = ("api", "mcp:read", "mcp:write", "mcp:review")
"""What a headless token can be good for; ``api`` is everything, the others are for ``/mcp``."""

API_TOKEN_TTL_S = 7 * 24 * 3600
"""Default life of a headless token, in seconds."""


def ensure_secrets(home: Path | str | None = None) -> Path:
    """Create what is missing in ``secrets/`` and tighten the modes of what is there.

    Parameters
    ----------
    home
        State folder; default :func:`rootbound.paths.state_dir`.

    Returns
    -------
    Path
        The ``secrets`` folder, mode 0700, files 0600.

    Raises
    ------
    StackError
        When the folder cannot be written, belongs to somebody else, or a file is damaged.
    """
    try:
        folder = paths.secrets_dir(paths.ensure_state_dir(home))
        for name in (DJANGO_KEY, IDENTITY_KEY, POSTGRES_PASSWORD):
            _create_once(folder / name, _random_hex)
        _create_once(folder / LDA_SIGNING_KEY, _new_signing_key)
        _write_verify_key(folder)
    except OSError as error:
        raise StackError(f"The secrets of Rootbound cannot be written: {error}") from error
    return folder


def rotate_lda_key(home: Path | str | None = None) -> None:
    """Replace the key that the backend signs its requests to the LDA with; nothing restarts.

    The LDA learns the new public key first and accepts the one before for another minute, so no
    request under way fails; the backend reads its key again when the file has changed.

    Parameters
    ----------
    home
        State folder; default :func:`rootbound.paths.state_dir`.

    Raises
    ------
    StackError
        When the files cannot be written.
    """
    folder = ensure_secrets(home)
    fresh = _new_signing_key()
    try:
        write_private(folder / LDA_VERIFY_KEY, _public_half(fresh))
        write_private(folder / LDA_SIGNING_KEY, fresh)
    except OSError as error:
        raise StackError(f"The secrets of Rootbound cannot be written: {error}") from error


def read_secret(home: Path | str | None, name: str) -> str:
    """Return the text of one secret.

    Parameters
    ----------
    home
        State folder; None for the default.
    name
        File name, one of this module's constants.

    Raises
    ------
    StackError
        When the file is missing, unreadable or empty.
    """
    path = paths.secrets_dir(home) / name
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StackError(
            f"The secret {path} cannot be read ({error.strerror}); run `rootbound up`, "
            "which creates it."
        ) from error
    if not text:
        raise StackError(f"The secret {path} is empty; remove it and run `rootbound up`.")
    return text


def local_owner() -> str:
    """Return the username of the local owner: the operating system user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry, as in some containers
        return f"uid-{os.getuid()}"


def issue_api_token(
    home: Path | str | None = None,
    *,
    username: str | None = None,
    ttl_s: int = API_TOKEN_TTL_S,
    scope: str = "api",
) -> str:
    """Return a bearer token (JWT, HS256) for the backend's API.

    Parameters
    ----------
    home
        State folder; None for the default.
    username
        Subject; default the local owner.
    ttl_s
        Life in seconds, at least 1.
    scope
        Of `SCOPES`, separated by spaces. Default ``api``: everything that its user may.

    Raises
    ------
    StackError
        When the signing key is missing, ``ttl_s`` is not positive or a scope is unknown.
    """
    if ttl_s < 1:
        raise StackError("A token's life must be at least one second.")
    unknown = sorted(set(scope.split()) - set(SCOPES))
    if unknown or not scope.split():
        raise StackError(
            f"There is no scope {', '.join(unknown) or scope!r}; choose of {', '.join(SCOPES)}."
        )
    now = int(time.time())
    claims = {
        "iss": "rootbound",
        "aud": "rootbound-api",
        "sub": username or local_owner(),
        "iat": now,
        "exp": now + ttl_s,
        "scope": scope,
    }
    return jwt.encode(claims, read_secret(home, DJANGO_KEY), algorithm="HS256")


def write_headless_token(home: Path | str | None = None, *, ttl_s: int = API_TOKEN_TTL_S) -> Path:
    """Write a fresh token for the local owner to ``secrets/headless.token`` and return its path.

    Raises
    ------
    StackError
        When the signing key is missing or the file cannot be written.
    """
    path = paths.secrets_dir(home) / HEADLESS_TOKEN
    try:
        write_private(path, issue_api_token(home, ttl_s=ttl_s).encode())
    except OSError as error:
        raise StackError(f"The token file {path} cannot be written: {error.strerror}") from error
    return path


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically; the new file has mode 0600.

    Raises
    ------
    OSError
        When the file cannot be written; the old one is then untouched.
    """
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write_temporary(path: Path, data: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _create_once(path: Path, make: Callable[[], bytes]) -> None:
    if path.exists():
        _tighten(path)
        return
    temporary = _write_temporary(path, make())
    try:
        # A link, not a rename: it fails when another process was first, whose secret then counts.
        os.link(temporary, path)
    except FileExistsError:
        _tighten(path)
    finally:
        temporary.unlink(missing_ok=True)


def _tighten(path: Path) -> None:
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        raise PermissionError(f"{path} is not a regular file; remove it")
    if stat.S_IMODE(facts.st_mode) != 0o600:
        path.chmod(0o600)
    if facts.st_size == 0:
        raise StackError(f"The secret {path} is empty; remove it and run `rootbound up`.")


def _random_hex() -> bytes:
    return secrets.token_hex(32).encode()


def _new_signing_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_verify_key(folder: Path) -> None:
    path = folder / LDA_SIGNING_KEY
    try:
        public = _public_half(path.read_bytes())
    except ValueError as error:
        raise StackError(
            f"The key {path} is damaged; remove it and run `rootbound up`, which makes a new one."
        ) from error
    verify = folder / LDA_VERIFY_KEY
    if not verify.exists() or verify.read_bytes() != public:
        write_private(verify, public)
    _tighten(verify)


def _public_half(private: bytes) -> bytes:
    key = serialization.load_pem_private_key(private, password=None)
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
