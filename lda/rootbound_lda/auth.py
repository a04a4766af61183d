"""Who may talk to the LDA: the backend, by a token that fits this one request."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

log = logging.getLogger(__name__)

ISSUER: Final = "rootbound-backend"
MAX_LIFETIME_S: Final = 60
CLOCK_SKEW_S: Final = 5
_MAX_REMEMBERED: Final = 100_000
_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_REQUIRED: Final = ["iss", "aud", "iat", "exp", "jti", "htm", "htu", "bsha"]


class AuthError(Exception):
    """The request is refused.

    Attributes
    ----------
    code
        Short, stable name of the reason.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class VerifyKeys:
    """The backend's public keys, read again when their file changes.

    The key that was in force before stays valid for the life of a token, so that no request
    under way fails when the keys are changed. A file that is missing or damaged for the moment
    changes nothing.

    Parameters
    ----------
    path
        File with one or more Ed25519 public keys, PEM.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it holds no such key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = self._look()
        self._keys = parse_keys(path.read_bytes())
        self._retired: list[tuple[float, Ed25519PublicKey]] = []

    def __call__(self) -> list[Ed25519PublicKey]:
        """Return the keys in force, the newest first."""
        with self._lock:
            seen = self._look()
            if seen is not None and seen != self._seen:
                self._renew(seen)
            now = time.monotonic()
            self._retired = [(end, key) for end, key in self._retired if end > now]
            return [*self._keys, *(key for _, key in self._retired)]

    def _look(self) -> tuple[int, int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_ino, facts.st_size

    def _renew(self, seen: tuple[int, int, int]) -> None:
        self._seen = seen
        try:
            fresh = parse_keys(self._path.read_bytes())
        except (OSError, ValueError) as error:
            log.error("%s cannot be used (%s); the key before it stays", self._path, error)
            return
        end = time.monotonic() + MAX_LIFETIME_S + CLOCK_SKEW_S
        self._retired += [(end, key) for key in self._keys]
        self._keys = fresh
        log.info("The backend's key was changed")


def parse_keys(text: bytes) -> list[Ed25519PublicKey]:
    """Return the Ed25519 public keys in a PEM file.

    Raises
    ------
    ValueError
        If there is none, or something else.
    """
    keys: list[Ed25519PublicKey] = []
    for block in _PEM.findall(text):
        key = load_pem_public_key(block)
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("it is no Ed25519 key")  # noqa: TRY004 - the file is wrong
        keys.append(key)
    if not keys:
        raise ValueError("it holds no public key")
    return keys


class Verifier:
    """Checks the backend's tokens; each is good for one request.

    Parameters
    ----------
    keys
        Returns the backend's public keys that are in force.
    audience
        ``<lda id>:<boot id>``. The boot id makes every token of an earlier process
        worthless, so the used ``jti`` need only be remembered in memory.
    """

    def __init__(self, keys: Callable[[], Sequence[Ed25519PublicKey]], audience: str) -> None:
        self._keys = keys
        self._audience = audience
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def verify(self, header: str | None, method: str, target: str, body: bytes) -> dict[str, Any]:
        """Check a request's token against its head and its body.

        Raises
        ------
        AuthError
            When anything about it is wrong.
        """
        claims = self.check_head(header, method, target)
        self.check_body(claims, body)
        return claims

    def check_head(self, header: str | None, method: str, target: str) -> dict[str, Any]:
        """Check a request's token before its body is there.

        Parameters
        ----------
        header
            The ``Authorization`` header, if there was one.
        method
            HTTP method.
        target
            Path with the query, as on the request line.

        Returns
        -------
        dict
            The token's claims, for `check_body`.

        Raises
        ------
        AuthError
            When anything about it is wrong.
        """
        if not header or not header.startswith("Bearer "):
            raise AuthError("token-missing", "The request carries no bearer token.")
        claims = self._decode(header.removeprefix("Bearer ").strip())
        if claims["exp"] - claims["iat"] > MAX_LIFETIME_S:
            raise AuthError(
                "token-lifetime", f"The token lives longer than {MAX_LIFETIME_S} seconds."
            )
        _bound(claims, htm=method, htu=target)
        with self._lock:
            if claims["jti"] in self._used:
                raise AuthError("token-replayed", "The token was used before.")
        return claims

    def check_body(self, claims: dict[str, Any], body: bytes) -> None:
        """Check that a token is for this body, and use it up.

        Raises
        ------
        AuthError
            When it is for another one or was used before.
        """
        _bound(claims, bsha=hashlib.sha256(body).hexdigest())
        self._use_once(str(claims["jti"]), float(claims["exp"]))

    def _decode(self, token: str) -> dict[str, Any]:
        """Check signature, algorithm, issuer, audience and times."""
        claims = self._signed(token)
        numbers = all(isinstance(claims[name], int | float) for name in ("iat", "exp"))
        if not numbers or not isinstance(claims["jti"], str) or not claims["jti"]:
            raise AuthError("token-invalid", "The token is not valid.")
        return claims

    def _signed(self, token: str) -> dict[str, Any]:
        error: jwt.PyJWTError | None = None
        for key in self._keys():
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=["EdDSA"],
                    audience=self._audience,
                    issuer=ISSUER,
                    leeway=CLOCK_SKEW_S,
                    options={"require": _REQUIRED, "verify_iat": True, "strict_aud": True},
                )
            except jwt.InvalidSignatureError as wrong:
                # Another key may have made it.
                error = wrong
            except jwt.InvalidAudienceError as wrong:
                raise AuthError(
                    "token-audience", "The token is for another LDA process."
                ) from wrong
            except jwt.ExpiredSignatureError as wrong:
                raise AuthError("token-expired", "The token has expired.") from wrong
            except jwt.PyJWTError as wrong:
                raise AuthError("token-invalid", "The token is not valid.") from wrong
            else:
                return claims
        raise AuthError("token-invalid", "The token is not valid.") from error

    def _use_once(self, jti: str, expires: float) -> None:
        """Remember a token's id until it expires; refuse it the second time."""
        now = time.time()
        with self._lock:
            if jti in self._used:
                raise AuthError("token-replayed", "The token was used before.")
            if len(self._used) % 1024 == 1023 or len(self._used) >= _MAX_REMEMBERED:
                self._used = {key: end for key, end in self._used.items() if end > now}
            if len(self._used) >= _MAX_REMEMBERED:
                raise AuthError("too-many-requests", "Too many requests; try again in a minute.")
            self._used[jti] = expires + CLOCK_SKEW_S


def _bound(claims: dict[str, Any], **expected: str) -> None:
    for name, value in expected.items():
        if not hmac.compare_digest(str(claims[name]).encode(), value.encode()):
            raise AuthError("token-binding", f"The token's {name} is for another request.")
