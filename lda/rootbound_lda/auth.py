"""Who may talk to the LDA: the backend, by a token that fits this one request."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from typing import Any, Final

import jwt

ISSUER: Final = "rootbound-backend"
MAX_LIFETIME_S: Final = 60
CLOCK_SKEW_S: Final = 5
_MAX_REMEMBERED: Final = 100_000
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


class Verifier:
    """Checks the backend's tokens; each is good for one request.

    Parameters
    ----------
    public_key
        The backend's Ed25519 public key, PEM.
    audience
        ``<lda id>:<boot id>``. The boot id makes every token of an earlier process
        worthless, so the used ``jti`` need only be remembered in memory.
    """

    def __init__(self, public_key: bytes, audience: str) -> None:
        self._key = public_key
        self._audience = audience
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def verify(self, header: str | None, method: str, target: str, body: bytes) -> dict[str, Any]:
        """Check a request's token.

        Parameters
        ----------
        header
            The ``Authorization`` header, if there was one.
        method
            HTTP method.
        target
            Path with the query, as on the request line.
        body
            The whole body.

        Returns
        -------
        dict
            The token's claims.

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
        expected = {"htm": method, "htu": target, "bsha": hashlib.sha256(body).hexdigest()}
        for name, value in expected.items():
            if not hmac.compare_digest(str(claims[name]).encode(), value.encode()):
                raise AuthError("token-binding", f"The token's {name} is for another request.")
        self._use_once(str(claims["jti"]), float(claims["exp"]))
        return claims

    def _decode(self, token: str) -> dict[str, Any]:
        """Check signature, algorithm, issuer, audience and times."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=ISSUER,
                leeway=CLOCK_SKEW_S,
                options={"require": _REQUIRED, "verify_iat": True, "strict_aud": True},
            )
        except jwt.InvalidAudienceError as error:
            raise AuthError("token-audience", "The token is for another LDA process.") from error
        except jwt.ExpiredSignatureError as error:
            raise AuthError("token-expired", "The token has expired.") from error
        except jwt.PyJWTError as error:
            raise AuthError("token-invalid", "The token is not valid.") from error
        numbers = all(isinstance(claims[name], int | float) for name in ("iat", "exp"))
        if not numbers or not isinstance(claims["jti"], str) or not claims["jti"]:
            raise AuthError("token-invalid", "The token is not valid.")
        return claims

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
