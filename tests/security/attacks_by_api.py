# ruff: noqa: E501
"""Attacks on the LDA's HTTP interface: a good request with one thing wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LDA = "the LDA's API"
BACKEND = "the backend's ingestion"


@dataclass
class Draft:
    """A request that is about to be sent."""

    method: str
    target: str
    body: bytes
    claims: dict[str, Any]
    key: Any
    headers: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    times: int = 1

    def signed(self) -> str:
        return self.token or jwt.encode(self.claims, self.key, algorithm="EdDSA")


@dataclass(frozen=True)
class ApiAttack:
    """What is done to a good request, and how it must be answered.

    Parameters
    ----------
    name, effect
        Unique name; what must not happen, for the table.
    spoil
        Spoils the request.
    status, code
        The answer, an `application/problem+json`.
    """

    name: str
    effect: str
    status: int
    code: str
    spoil: Callable[[Draft], None] | None = None
    category: str = LDA
    words: str = ""

    @property
    def evidence(self) -> str:
        if self.words:
            return self.words
        return f"refused with {self.status} `{self.code}`; no file operation"


def _claims(**changes: Any) -> Callable[[Draft], None]:
    return lambda draft: draft.claims.update(changes)


def _header(**changes: str) -> Callable[[Draft], None]:
    return lambda draft: draft.headers.update(
        {name.replace("_", "-"): value for name, value in changes.items()}
    )


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unsigned(draft: Draft, name: str) -> None:
    draft.token = (
        f"{_b64(json.dumps({'alg': name, 'typ': 'JWT'}).encode())}."
        f"{_b64(json.dumps(draft.claims).encode())}."
    )


def _by_public_key(draft: Draft) -> None:
    """Use what anybody may know, the public key, as the secret of a symmetric signature."""
    secret = draft.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = _b64(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    text = f"{head}.{_b64(json.dumps(draft.claims).encode())}"
    draft.token = f"{text}.{_b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def _own_key(draft: Draft) -> None:
    draft.key = Ed25519PrivateKey.generate()


def _key_inside(draft: Draft) -> None:
    """Bring a key of one's own along in the header, as some libraries would believe."""
    own = Ed25519PrivateKey.generate()
    raw = own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": _b64(raw)}
    draft.token = jwt.encode(draft.claims, own, algorithm="EdDSA", headers={"jwk": jwk})


def _other_body(draft: Draft) -> None:
    draft.body = draft.body.replace(b"/", b"//", 1)


def _other_path(draft: Draft) -> None:
    draft.claims["htu"] = "/repos/validate"


def _with_query(draft: Draft) -> None:
    draft.target += "?path=/"


def _cut_signature(draft: Draft) -> None:
    draft.token = draft.signed().rpartition(".")[0] + "."


def _huge(draft: Draft) -> None:
    draft.body = b'{"path": "' + b"x" * (2 * 1024 * 1024) + b'"}'
    draft.claims["bsha"] = hashlib.sha256(draft.body).hexdigest()


def _replayed(draft: Draft) -> None:
    draft.times = 2


def _old(draft: Draft) -> None:
    now = int(time.time())
    draft.claims.update(iat=now - 120, exp=now - 60)


def _long(draft: Draft) -> None:
    draft.claims["exp"] = int(time.time()) + 3600


def _ahead(draft: Draft) -> None:
    now = int(time.time())
    draft.claims.update(iat=now + 600, exp=now + 660)


_DONE = "the request is carried out"
# fmt: off
API_ATTACKS = [
    ApiAttack("replayed_token", "a request is carried out twice", 401, "token-replayed", _replayed),
    ApiAttack("expired_token", _DONE, 401, "token-expired", _old),
    ApiAttack("token_of_the_future", _DONE, 401, "token-invalid", _ahead),
    ApiAttack("token_without_end", _DONE, 401, "token-lifetime", _long),
    ApiAttack("token_for_another_process", _DONE, 401, "token-audience", _claims(aud="other:boot")),
    ApiAttack("token_of_another_issuer", _DONE, 401, "token-invalid", _claims(iss="rootbound")),
    ApiAttack("token_for_many", _DONE, 401, "token-audience", lambda d: d.claims.update(aud=[d.claims["aud"], "other"])),
    ApiAttack("no_algorithm", _DONE, 401, "token-invalid", lambda d: _unsigned(d, "none")),
    ApiAttack("no_algorithm_in_capitals", _DONE, 401, "token-invalid", lambda d: _unsigned(d, "NONE")),
    ApiAttack("public_key_as_secret", _DONE, 401, "token-invalid", _by_public_key),
    ApiAttack("signed_by_another", _DONE, 401, "token-invalid", _own_key),
    ApiAttack("key_in_the_header", _DONE, 401, "token-invalid", _key_inside),
    ApiAttack("signature_cut_off", _DONE, 401, "token-invalid", _cut_signature),
    ApiAttack("other_method", _DONE, 401, "token-binding", _claims(htm="GET")),
    ApiAttack("other_path", _DONE, 401, "token-binding", _other_path),
    ApiAttack("query_added", _DONE, 401, "token-binding", _with_query),
    ApiAttack("other_body", _DONE, 401, "token-binding", _other_body),
    ApiAttack("no_token", _DONE, 401, "token-missing", _header(Authorization="")),
    ApiAttack("password_instead", _DONE, 401, "token-missing", _header(Authorization="Basic cm9vdDpyb290")),
    ApiAttack("name_rebound", "a web page reaches the LDA by a name of its own", 421, "host-foreign", _header(Host="evil.example:8001")),
    ApiAttack("host_without_port", _DONE, 421, "host-foreign", _header(Host="127.0.0.1")),
    ApiAttack("web_page", "a web page gives orders", 403, "origin-refused", _header(Origin="https://evil.example")),
    ApiAttack("web_page_without_origin", "a sandboxed web page gives orders", 403, "origin-refused", _header(Origin="null")),
    ApiAttack("web_page_of_this_host", "a page of another local service gives orders", 403, "origin-refused", _header(Sec_Fetch_Site="same-site")),
    ApiAttack("cookies", "a browser's session counts", 403, "cookie-refused", _header(Cookie="session=1")),
    ApiAttack("form", "a form of a web page is taken", 415, "not-json", _header(Content_Type="text/plain")),
    ApiAttack("too_large", "the LDA reads as much as it is sent", 413, "body-too-large", _huge),
    ApiAttack("token_of_another_attempt", "events are added to another attempt", 404, "not-found", category=BACKEND),
    ApiAttack("audit_of_another_run", "rows are added to another run's audit", 404, "not-found", category=BACKEND),
    ApiAttack("events_as_somebody_else", "a user's own token writes events", 401, "authentication-failed", category=BACKEND),
    ApiAttack("ingest_token_as_user", "an ingest token reads the user's projects", 401, "authentication-failed", category=BACKEND),
    ApiAttack("rows_with_a_gap", "a row is missing and nobody notices", 409, "sequence-gap", category=BACKEND),
    ApiAttack("rows_changed", "a stored row says something else afterwards", 0, "", category=BACKEND, words="the database refuses UPDATE and DELETE; the rows are as they were"),
    ApiAttack("rows_forged", "a row that does not follow from the one before is believed", 0, "", category=BACKEND, words="the batch is refused, or `rootbound audit verify` names the row"),
]
# fmt: on
