"""Signed tokens: who a person is, what the LDA may report, and our requests to the LDA."""

from __future__ import annotations

import functools
import hashlib
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings

from rootbound_backend.hub_tokens import TokenRefusedError, hub_username, is_hub_token
from rootbound_backend.problems import Problem

__all__ = [
    "INGEST_TOKEN_TTL_S",
    "IngestGrant",
    "TokenRefusedError",
    "issue_api_token",
    "issue_ingest_token",
    "issue_kernel_token",
    "lda_signing_key",
    "sign_lda_request",
    "verify_api_token",
    "verify_identity",
    "verify_ingest_token",
    "verify_mcp_token",
]

INGEST_TOKEN_TTL_S = 7 * 24 * 3600
"""Life of an ingest token, in seconds: an outbox may have to wait for us for days."""

KERNEL_TOKEN_TTL_S = 30 * 24 * 3600
"""Longest life of a kernel's token, in seconds; it ends with the kernel."""

IDENTITY_MAX_AGE_S = 60
"""Longest life of an identity header, in seconds."""

LEEWAY_S = 5
"""Tolerated clock difference, in seconds."""


@dataclass(frozen=True, kw_only=True)
class IngestGrant:
    """What an ingest token allows: reports of one run.

    Attributes
    ----------
    run_id
        The run, which has the id of its attempt, decomposition or kernel session.
    attempt_id, decomposition_id, kernel_session_id
        Exactly one of them is set.
    user_id
        Owner of the run.
    lease_generation
        Fencing generation for which the token was issued.
    """

    run_id: uuid.UUID
    attempt_id: uuid.UUID | None
    decomposition_id: uuid.UUID | None
    user_id: uuid.UUID
    lease_generation: int
    kernel_session_id: uuid.UUID | None = None


_EXPIRED = "The token has expired; run `rootbound token`."


@functools.lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int) -> str:
    return path.read_text(encoding="utf-8").strip()


def _secret(name: str) -> str:
    path = Path(settings.SECRETS_DIR) / name
    try:
        text = _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise Problem(
            status=503,
            code="secrets-missing",
            detail=f"The secret {path} cannot be read; run `rootbound up`, which makes it.",
        ) from error
    if not text:
        raise Problem(
            status=503,
            code="secrets-missing",
            detail=f"The secret {path} is empty; remove it and run `rootbound up`.",
        )
    return text


def _decode(token: str, key: str, *, issuer: str, audience: str, require: list[str]) -> Any:
    try:
        return jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "iss", "aud", *require]},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenRefusedError(_EXPIRED) from error
    except jwt.InvalidTokenError as error:
        raise TokenRefusedError(
            "The token is not valid here; run `rootbound token` for a new one."
        ) from error


def verify_api_token(token: str) -> tuple[str, uuid.UUID | None]:
    """Return the username of a token for the API, and the confined kernel that it was given to.

    Raises
    ------
    TokenRefusedError
        When it is not a valid token of scope ``api`` or ``kernel``.
    """
    if is_hub_token(token):
        return hub_username(token), None
    username, scopes, session_id = _bearer_claims(token)
    if "api" in scopes:
        return username, None
    if "kernel" not in scopes or session_id is None:
        raise TokenRefusedError("The token is not meant for the API; run `rootbound token`.")
    return username, session_id


def verify_mcp_token(token: str) -> tuple[str, frozenset[str]]:
    """Return the username of a token for MCP and its scopes.

    Raises
    ------
    TokenRefusedError
        When it is not valid, or has none of the scopes ``api`` and ``mcp:...``.
    """
    if is_hub_token(token):
        return hub_username(token), frozenset({"api"})
    username, scopes, _ = _bearer_claims(token)
    if not any(scope == "api" or scope.startswith("mcp:") for scope in scopes):
        raise TokenRefusedError(
            "The token is not meant for MCP; run `rootbound token --scope mcp:read,mcp:write`."
        )
    return username, scopes


def _bearer_claims(token: str) -> tuple[str, frozenset[str], uuid.UUID | None]:
    claims = _decode(
        token,
        _secret("django.key"),
        issuer="rootbound",
        audience="rootbound-api",
        require=["sub"],
    )
    try:
        session_id = _uuid(claims.get("session"))
    except ValueError as error:
        raise TokenRefusedError("The token is damaged.") from error
    return str(claims["sub"]), frozenset(str(claims.get("scope", "")).split()), session_id


def issue_api_token(*, username: str, ttl_s: int) -> str:
    """Return a token with which a batch of a user's works in the user's name.

    Parameters
    ----------
    username
        The user.
    ttl_s
        Life in seconds.
    """
    now = int(time.time())
    claims = {
        "iss": "rootbound",
        "aud": "rootbound-api",
        "sub": username,
        "iat": now,
        "exp": now + ttl_s,
        "scope": "api",
    }
    return jwt.encode(claims, _secret("django.key"), algorithm="HS256")


def issue_kernel_token(*, username: str, session_id: uuid.UUID) -> str:
    """Return the token of a confined kernel: good while it lives, and for what a kernel may.

    Parameters
    ----------
    username
        The user.
    session_id
        The kernel's session.
    """
    now = int(time.time())
    claims = {
        "iss": "rootbound",
        "aud": "rootbound-api",
        "sub": username,
        "iat": now,
        "exp": now + KERNEL_TOKEN_TTL_S,
        "scope": "kernel",
        "session": str(session_id),
    }
    return jwt.encode(claims, _secret("django.key"), algorithm="HS256")


def verify_identity(token: str, *, method: str, path: str) -> tuple[str, str]:
    """Return username and display name of a Jupyter identity header.

    Parameters
    ----------
    token
        The header's value.
    method, path
        Method and percent-decoded path of the request that carries it.

    Raises
    ------
    TokenRefusedError
        When it is damaged, too old or was made for another request.
    """
    claims = _decode(
        token,
        _secret("identity.key"),
        issuer="rootbound-jupyter",
        audience="rootbound-backend",
        require=["sub"],
    )
    if claims["exp"] - claims["iat"] > IDENTITY_MAX_AGE_S:
        raise TokenRefusedError("The identity header lives too long.")
    if str(claims.get("method", "")).upper() != method.upper() or claims.get("path") != path:
        raise TokenRefusedError("The identity header was made for another request.")
    return str(claims["sub"]), str(claims.get("name") or "")


def issue_ingest_token(
    *,
    user_id: uuid.UUID,
    lease_generation: int,
    attempt_id: uuid.UUID | None = None,
    decomposition_id: uuid.UUID | None = None,
    kernel_session_id: uuid.UUID | None = None,
) -> str:
    """Return the token with which the LDA reports on one run.

    Parameters
    ----------
    user_id
        Owner of the run.
    lease_generation
        Fencing generation of the hand-over.
    attempt_id, decomposition_id, kernel_session_id
        Exactly one of them.
    """
    now = int(time.time())
    claims = {
        "iss": "rootbound",
        "aud": "rootbound-ingest",
        "iat": now,
        "exp": now + INGEST_TOKEN_TTL_S,
        "run_id": str(attempt_id or decomposition_id or kernel_session_id),
        "attempt_id": str(attempt_id) if attempt_id else None,
        "decomposition_id": str(decomposition_id) if decomposition_id else None,
        "kernel_session_id": str(kernel_session_id) if kernel_session_id else None,
        "user_id": str(user_id),
        "lease_generation": lease_generation,
    }
    return jwt.encode(claims, _secret("django.key"), algorithm="HS256")


def verify_ingest_token(token: str) -> IngestGrant:
    """Return what an ingest token allows.

    Raises
    ------
    TokenRefusedError
        When it is not a valid ingest token.
    """
    grant, expires = _ingest_grant(token, _secret("django.key"))
    if time.time() >= expires + LEEWAY_S:
        raise TokenRefusedError(_EXPIRED)
    return grant


# A run sends the same token with each of its batches; the key is part of what is remembered.
@functools.lru_cache(maxsize=256)
def _ingest_grant(token: str, key: str) -> tuple[IngestGrant, float]:
    """Return what a token allows, and when it expires."""
    claims = _decode(
        token,
        key,
        issuer="rootbound",
        audience="rootbound-ingest",
        require=["run_id", "user_id", "lease_generation"],
    )
    try:
        grant = IngestGrant(
            run_id=uuid.UUID(claims["run_id"]),
            attempt_id=_uuid(claims.get("attempt_id")),
            decomposition_id=_uuid(claims.get("decomposition_id")),
            kernel_session_id=_uuid(claims.get("kernel_session_id")),
            user_id=uuid.UUID(claims["user_id"]),
            lease_generation=int(claims["lease_generation"]),
        )
        return grant, float(claims["exp"])
    except (TypeError, ValueError) as error:
        raise TokenRefusedError("The ingest token is damaged.") from error


def _uuid(value: str | None) -> uuid.UUID | None:
    return None if value is None else uuid.UUID(value)


def lda_signing_key() -> str:
    """Return the private key, PEM, with which requests to LDAs are signed."""
    return _secret("lda_signing.pem")


def sign_lda_request(*, audience: str, method: str, target: str, body: bytes) -> str:
    """Return the JWT for one request to the LDA; it works once, within 60 seconds.

    Parameters
    ----------
    audience
        ``<lda id>:<boot id>``, so that a token for an earlier LDA is worth nothing.
    method, target
        Method and path with query.
    body
        Exact bytes of the body.
    """
    now = int(time.time())
    claims = {
        "iss": "rootbound-backend",
        "aud": audience,
        "iat": now,
        "exp": now + 45,
        "jti": uuid.uuid4().hex,
        "htm": method,
        "htu": target,
        "bsha": hashlib.sha256(body).hexdigest(),
    }
    return jwt.encode(claims, _signing_key(lda_signing_key()), algorithm="EdDSA")


@functools.lru_cache(maxsize=4)
def _signing_key(pem: str) -> Ed25519PrivateKey:
    """Read a private key, which takes longer than to sign with it."""
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("The key for requests to LDAs is no Ed25519 key.")
    return key
