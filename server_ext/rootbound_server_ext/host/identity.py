"""Who asks: from Jupyter's user to the backend's, signed."""

from __future__ import annotations

import getpass
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rootbound.paths import secrets_dir

from .problems import not_ready

if TYPE_CHECKING:
    from jupyter_server.auth.identity import IdentityProvider, User

__all__ = ["IDENTITY_HEADER", "Identity", "IdentitySigner", "identity_of", "local_owner"]

IDENTITY_HEADER = "X-Rootbound-Identity"
_AUDIENCE = "rootbound-backend"
_ISSUER = "rootbound-jupyter"
_LIFETIME_S = 60


@dataclass(frozen=True)
class Identity:
    """A user of the backend.

    Attributes
    ----------
    username : str
        Unique name.
    name : str
        Name for display.
    """

    username: str
    name: str


def local_owner() -> str:
    """Return the username of the person who runs this server."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid need not have a name
        return f"uid-{os.getuid()}"


def identity_of(user: User, provider: IdentityProvider) -> Identity:
    """Map a Jupyter user to a backend user.

    jupyter_server's own providers know no people: they prove possession of the server's token or
    password, and name every cookieless request a new random "Anonymous" user. All of these are the
    local owner. Other providers, such as JupyterHub's, give real usernames.

    Parameters
    ----------
    user
        The authenticated user.
    provider
        The server's identity provider.
    """
    if type(provider).__module__.partition(".")[0] == "jupyter_server":
        owner = local_owner()
        return Identity(username=owner, name=owner)
    return Identity(username=user.username, name=user.display_name or user.name or user.username)


class IdentitySigner:
    """Makes the signed identity header.

    Parameters
    ----------
    home
        State folder; the key is ``secrets/identity.key`` in it, read when first needed and again
        whenever the file changes.
    """

    def __init__(self, home: Path) -> None:
        self._path = secrets_dir(home) / "identity.key"
        self._stamp: tuple[int, int, int] | None = None
        self._key = ""

    def header(self, identity: Identity, method: str, path: str) -> dict[str, str]:
        """Return the header that names the user to the backend for one request.

        Parameters
        ----------
        identity
            The user.
        method
            HTTP method, ``GET`` for a WebSocket handshake.
        path
            Percent-decoded path without query, as the backend sees it.

        Raises
        ------
        HostProblem
            503, when the key does not exist yet or cannot be read.
        """
        import jwt  # here, because it costs 0.2 s that Jupyter's start need not pay

        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": identity.username,
            "name": identity.name,
            "iat": now,
            "exp": now + _LIFETIME_S,
            "method": method,
            "path": path,
        }
        return {IDENTITY_HEADER: jwt.encode(claims, self._read_key(), algorithm="HS256")}

    def _read_key(self) -> str:
        try:
            facts = self._path.stat()
            stamp = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if stamp != self._stamp:
                self._key = self._path.read_text(encoding="ascii").strip()
                self._stamp = stamp
        except FileNotFoundError as exc:
            raise not_ready(
                "stack-starting", "Rootbound's keys do not exist yet; they are made when it starts."
            ) from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise not_ready(
                "identity-key-unreadable",
                f"Rootbound's key {self._path} cannot be read; check its owner and mode (0600).",
                retry_after_s=10,
            ) from exc
        if not self._key:
            raise not_ready("stack-starting", "Rootbound's keys are being written.")
        return self._key
