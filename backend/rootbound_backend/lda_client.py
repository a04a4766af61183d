"""The backend's client of the LDAs: on loopback, or through the connection that an LDA holds."""

from __future__ import annotations

import functools
import json
import logging
import ssl
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import httpx
from django.conf import settings

from rootbound_backend.lda_exchange import Answer, ExchangeError, ask, presence
from rootbound_backend.problems import Problem
from rootbound_backend.tokens import sign_lda_request

__all__ = [
    "LdaPlace",
    "LdaRefusedError",
    "LdaUnreachableError",
    "is_outward",
    "lda_audience",
    "lda_request",
]

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 10.0

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The LDA speaks plain HTTP on loopback; reading all certificates takes longer than a request."""


KEPT_OPEN_S = 10.0
"""How long a connection to the LDA may lie idle, in seconds; the LDA itself waits for 30."""


@functools.cache
def _client() -> httpx.Client:
    """Return the process's client, whose connections are kept: to make one takes a millisecond."""
    return httpx.Client(
        # No proxies and no netrc: this never leaves the machine.
        trust_env=False,
        verify=_NO_AUTHORITIES,
        limits=httpx.Limits(keepalive_expiry=KEPT_OPEN_S),
    )


class LdaPlace(TypedDict):
    """Which LDA is meant: the one of this user's machines that owns this path."""

    user_id: uuid.UUID
    path: str


class LdaUnreachableError(Problem):
    """The LDA does not answer: 503 with the way to start it."""

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(
            status=503,
            code="lda-unreachable",
            title="The local desktop agent is not running",
            detail=detail
            or (
                f"The local desktop agent does not answer ({reason}); start it with "
                "`rootbound up` and try again."
            ),
        )


class LdaRefusedError(Problem):
    """The LDA answered with an error; it is passed on as it is."""


class _Link(Protocol):
    """The way to one LDA process."""

    @property
    def audience(self) -> str:
        """For whom a token must be made: ``<id>:<boot id>``."""

    def send(
        self, *, method: str, target: str, token: str, body: bytes, timeout_s: float
    ) -> Answer:
        """Send one signed request and return the answer."""


@dataclass(frozen=True, kw_only=True)
class _Loopback:
    """The LDA that runs beside this backend.

    Attributes
    ----------
    url
        Its base URL.
    audience
        ``<id>:<boot id>``.
    """

    url: str
    audience: str

    @classmethod
    def find(cls) -> _Loopback:
        """Read where the LDA is from ``run/lda.json``."""
        path = Path(settings.HOME) / "run" / "lda.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                url=str(facts["url"]).rstrip("/"), audience=f"{facts['id']}:{facts['boot_id']}"
            )
        except FileNotFoundError as error:
            raise LdaUnreachableError("it has not started") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LdaUnreachableError(f"{path} cannot be read") from error

    def send(
        self, *, method: str, target: str, token: str, body: bytes, timeout_s: float
    ) -> Answer:
        """Send the request over HTTP."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body:
            headers["Content-Type"] = "application/json"
        timeout = httpx.Timeout(timeout_s, connect=3.0)
        try:
            response = _client().request(
                method, self.url + target, content=body, headers=headers, timeout=timeout
            )
        except httpx.TimeoutException as error:
            raise LdaUnreachableError(f"no answer within {timeout_s:.0f} s") from error
        except httpx.HTTPError as error:
            raise LdaUnreachableError("the connection failed") from error
        return Answer(response.status_code, response.text)


@dataclass(frozen=True, kw_only=True)
class _Outward:
    """A user's machine, whose LDA holds a connection to this backend."""

    machine_id: uuid.UUID
    name: str
    audience: str

    @classmethod
    def find(cls, user_id: uuid.UUID, path: str | None) -> _Outward:
        """Choose the user's machine: by the path, else one that is connected."""
        # Models can only be imported once Django has loaded its apps.
        from rootbound_backend.apps.local_access.machine_selectors import machines_of, owner_among

        machines = list(machines_of(user_id))
        if not machines:
            raise LdaUnreachableError(
                "no machine",
                "None of your machines works with this installation yet; add one with "
                "`rootbound machine add` and connect it with `rootbound machine join`.",
            )
        if path is None or (len(machines) == 1 and not path.startswith("/")):
            here = [machine for machine in machines if cls._presence(machine.pk)]
            machine = here[0] if here else machines[0]
        else:
            found = owner_among(machines, path)
            if found is None:
                names = ", ".join(machine.name for machine in machines)
                raise LdaRefusedError(
                    status=422,
                    code="root-owned-by-no-machine",
                    detail=(
                        f"None of your machines ({names}) owns {path}; give an absolute path, or "
                        "add the folder with `rootbound machine set`."
                    ),
                )
            machine = found
        facts = cls._presence(machine.pk)
        if facts is None:
            raise cls._unreachable(machine.name, "it is not connected")
        return cls(machine_id=machine.pk, name=machine.name, audience=facts["audience"])

    @staticmethod
    def _presence(machine_id: uuid.UUID) -> dict[str, str] | None:
        try:
            return presence(machine_id)
        except ExchangeError as error:
            raise LdaUnreachableError(str(error)) from error

    @staticmethod
    def _unreachable(name: str, reason: str) -> LdaUnreachableError:
        return LdaUnreachableError(
            reason,
            f"The local desktop agent of your machine {name} does not answer ({reason}); start it "
            "there with `rootbound machine join` and try again.",
        )

    def send(
        self, *, method: str, target: str, token: str, body: bytes, timeout_s: float
    ) -> Answer:
        """Send the request over the connection that the LDA holds."""
        try:
            return ask(
                self.machine_id, method=method, target=target, token=token,
                body=body.decode(), timeout_s=timeout_s,
            )  # fmt: skip
        except ExchangeError as error:
            raise self._unreachable(self.name, str(error)) from error


def is_outward() -> bool:
    """Return whether LDAs connect to this backend instead of running beside it."""
    return bool(settings.LDA_LINK == "outward")


def _link(user_id: uuid.UUID, path: str | None) -> _Link:
    return _Outward.find(user_id, path) if is_outward() else _Loopback.find()


def lda_audience(*, user_id: uuid.UUID, path: str) -> str:
    """Return which process of which LDA works on a user's path now, as ``<id>:<boot id>``.

    Raises
    ------
    LdaUnreachableError
        When it has not announced itself.
    LdaRefusedError
        When no machine of the user's owns the path.
    """
    return _link(user_id, path).audience


def lda_request(
    method: str,
    target: str,
    *,
    user_id: uuid.UUID,
    path: str | None = None,
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
    user_id
        Whose LDA; where one LDA runs beside the backend, that one for everybody.
    path
        The file or folder that it is about, such as the project's repository; it says which of the
        user's machines is meant. Default: any that is connected.
    body
        JSON object, or None for no body.
    timeout_s
        Longest wait for the answer in seconds, default 10.

    Raises
    ------
    LdaUnreachableError
        When there is no LDA, it breaks off, fails itself or answers nonsense.
    LdaRefusedError
        When it answers with a problem of its own (4xx), or no machine owns the path.
    """
    content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    link = _link(user_id, path)
    answer = _send(link, method, target, content, timeout_s)
    if answer.status == 401:
        # It may have restarted between our look at its address and the request.
        renewed = _link(user_id, path)
        if renewed != link:
            answer = _send(renewed, method, target, content, timeout_s)
    return _understood(answer)


def _send(link: _Link, method: str, target: str, content: bytes, timeout_s: float) -> Answer:
    token = sign_lda_request(audience=link.audience, method=method, target=target, body=content)
    return link.send(method=method, target=target, token=token, body=content, timeout_s=timeout_s)


def _understood(answer: Answer) -> Any:
    try:
        document = json.loads(answer.body) if answer.body else {}
    except ValueError as error:
        raise LdaUnreachableError("its answer cannot be read") from error
    if 200 <= answer.status < 300:
        return document
    facts = document if isinstance(document, dict) else {}
    detail = str(facts.get("detail") or f"HTTP {answer.status}")
    if answer.status >= 500 or answer.status in {401, 403, 421}:
        # Its own fault, or a disagreement between the two parts: nothing the user sent.
        logger.error("The LDA answered %s: %s", answer.status, detail)
        raise LdaUnreachableError(f"it answered {answer.status}: {detail}")
    known = {"type", "title", "status", "detail", "code"}
    raise LdaRefusedError(
        status=answer.status,
        code=str(facts.get("code") or "lda-refused"),
        title=str(facts["title"]) if facts.get("title") else None,
        detail=detail,
        extras={key: value for key, value in facts.items() if key not in known},
    )
