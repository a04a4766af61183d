"""The backend's client of the LDA."""

from __future__ import annotations

import json
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings

from rootbound_backend.problems import Problem
from rootbound_backend.tokens import sign_lda_request

__all__ = ["LdaAddress", "LdaRefusedError", "LdaUnreachableError", "lda_address", "lda_request"]

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 10.0

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The LDA speaks plain HTTP on loopback; reading all certificates takes longer than a request."""


class LdaUnreachableError(Problem):
    """The LDA does not answer: 503 with the way to start it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            status=503,
            code="lda-unreachable",
            title="The local desktop agent is not running",
            detail=(
                f"The local desktop agent does not answer ({reason}); start it with "
                "`rootbound up` and try again."
            ),
        )


class LdaRefusedError(Problem):
    """The LDA answered with an error; it is passed on as it is."""


@dataclass(frozen=True, kw_only=True)
class LdaAddress:
    """Where the LDA listens and for whom a token must be made.

    Attributes
    ----------
    url
        Base URL on loopback.
    audience
        ``<id>:<boot id>``.
    """

    url: str
    audience: str


def lda_address() -> LdaAddress:
    """Read where the LDA is from ``run/lda.json``.

    Raises
    ------
    LdaUnreachableError
        When it has not announced itself.
    """
    path = Path(settings.HOME) / "run" / "lda.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return LdaAddress(
            url=str(facts["url"]).rstrip("/"), audience=f"{facts['id']}:{facts['boot_id']}"
        )
    except FileNotFoundError as error:
        raise LdaUnreachableError("it has not started") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LdaUnreachableError(f"{path} cannot be read") from error


def lda_request(
    method: str,
    target: str,
    *,
    body: dict[str, Any] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Any:
    """Send one signed request and return the decoded answer.

    Parameters
    ----------
    method
        HTTP method.
    target
        Path with query, for example ``/runs``.
    body
        JSON object, or None for no body.
    timeout_s
        Longest wait for the answer in seconds, default 10.

    Raises
    ------
    LdaUnreachableError
        When there is no LDA, it breaks off, fails itself or answers nonsense.
    LdaRefusedError
        When it answers with a problem of its own (4xx).
    """
    content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    address = lda_address()
    response = _send(address, method, target, content, timeout_s)
    if response.status_code == 401:
        # It may have restarted between our look at its address and the request.
        renewed = lda_address()
        if renewed != address:
            response = _send(renewed, method, target, content, timeout_s)
    return _answer(response)


def _send(
    address: LdaAddress, method: str, target: str, content: bytes, timeout_s: float
) -> httpx.Response:
    token = sign_lda_request(audience=address.audience, method=method, target=target, body=content)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    if content:
        headers["Content-Type"] = "application/json"
    timeout = httpx.Timeout(timeout_s, connect=3.0)
    try:
        # No proxies and no netrc: this never leaves the machine.
        with httpx.Client(trust_env=False, timeout=timeout, verify=_NO_AUTHORITIES) as client:
            return client.request(method, address.url + target, content=content, headers=headers)
    except httpx.TimeoutException as error:
        raise LdaUnreachableError(f"no answer within {timeout_s:.0f} s") from error
    except httpx.HTTPError as error:
        raise LdaUnreachableError("the connection failed") from error


def _answer(response: httpx.Response) -> Any:
    try:
        document = response.json() if response.content else {}
    except ValueError as error:
        raise LdaUnreachableError("its answer cannot be read") from error
    if response.is_success:
        return document
    facts = document if isinstance(document, dict) else {}
    detail = str(facts.get("detail") or f"HTTP {response.status_code}")
    if response.status_code >= 500 or response.status_code in {401, 403, 421}:
        # Its own fault, or a disagreement between the two parts: nothing the user sent.
        logger.error("The LDA answered %s: %s", response.status_code, detail)
        raise LdaUnreachableError(f"it answered {response.status_code}: {detail}")
    known = {"type", "title", "status", "detail", "code"}
    raise LdaRefusedError(
        status=response.status_code,
        code=str(facts.get("code") or "lda-refused"),
        title=str(facts["title"]) if facts.get("title") else None,
        detail=detail,
        extras={key: value for key, value in facts.items() if key not in known},
    )
