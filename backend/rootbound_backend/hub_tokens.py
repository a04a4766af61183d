"""JupyterHub's tokens: the Hub says whose they are."""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from typing import Any

import httpx
from django.conf import settings

from rootbound_backend.problems import Problem

__all__ = ["TokenRefusedError", "hub_username", "is_hub_token"]

KEPT_S = 60.0
"""How long the Hub's word on a token counts, in seconds; a revoked one works that much longer."""

_MAX_KEPT = 10_000
_TIMEOUT_S = 5.0


class TokenRefusedError(Exception):
    """A token is missing, damaged, expired or meant for something else."""


def is_hub_token(token: str) -> bool:
    """Return whether the Hub is to be asked: it is configured, and the token is none of ours."""
    return bool(settings.HUB_API_URL) and token.count(".") != 2


class _Known:
    """What the Hub said lately, by the digest of the token."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, tuple[float, str]] = {}

    def get(self, digest: str) -> str | None:
        with self._lock:
            until, name = self._users.get(digest, (0.0, ""))
        return name if until > time.monotonic() else None

    def put(self, digest: str, name: str) -> None:
        now = time.monotonic()
        with self._lock:
            if len(self._users) >= _MAX_KEPT:
                self._users = {key: one for key, one in self._users.items() if one[0] > now}
            if len(self._users) < _MAX_KEPT:
                self._users[digest] = (now + KEPT_S, name)


_known = _Known()


def hub_username(token: str) -> str:
    """Return the Hub user of a token.

    The token must let its holder into Rootbound (``access:services!service=rootbound``, or all
    services) or into the user's own server, where Rootbound runs with the same rights; a token that
    was made for something else is refused.

    Raises
    ------
    TokenRefusedError
        When the Hub does not know it, it is no person's, or its scopes do not reach here.
    Problem
        503 when the Hub does not answer.
    """
    digest = hashlib.sha256(token.encode()).hexdigest()
    name = _known.get(digest)
    if name is None:
        name = _asked(token)
        _known.put(digest, name)
    return name


def _asked(token: str) -> str:
    try:
        # No proxies and no netrc: a token goes to the Hub and nowhere else.
        with httpx.Client(
            trust_env=False, timeout=_TIMEOUT_S, verify=ssl.create_default_context()
        ) as client:
            answer = client.get(
                f"{settings.HUB_API_URL}/user", headers={"Authorization": f"token {token}"}
            )
    except httpx.HTTPError as error:
        raise Problem(
            status=503,
            code="hub-unreachable",
            detail="JupyterHub does not answer, so your token cannot be checked; try again later.",
        ) from error
    if answer.status_code in {401, 403, 404}:
        raise TokenRefusedError(
            "JupyterHub does not know this token; make a new one on its token page."
        )
    document: Any = _document(answer)
    name, kind = document.get("name"), document.get("kind", "user")
    if kind != "user" or not isinstance(name, str) or not name:
        raise TokenRefusedError("This token is not a person's; use one of your own.")
    if not _reaches(name, document.get("scopes")):
        raise TokenRefusedError(
            "This token was made for something else; make one that may access your server or the "
            "service `rootbound`."
        )
    return name


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json() if answer.is_success else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Problem(
            status=503,
            code="hub-unreachable",
            detail=f"JupyterHub answered {answer.status_code}, so your token cannot be checked.",
        )
    return document


def _reaches(name: str, scopes: Any) -> bool:
    wanted = {
        "access:services",
        f"access:services!service={settings.HUB_SERVICE}",
        "access:servers",
        f"access:servers!user={name}",
    }
    held = {str(scope) for scope in scopes} if isinstance(scopes, list) else set()
    own_server = f"access:servers!server={name}/"
    return bool(held & wanted) or any(scope.startswith(own_server) for scope in held)
