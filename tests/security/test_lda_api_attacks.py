"""A real LDA answers a good request and refuses it with any one thing wrong."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.integration.lda.lda_support import lda
from tests.security.attacks_by_api import API_ATTACKS, LDA, ApiAttack, Draft

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.lda.lda_support import Lda

__all__ = ["lda"]

MINE = [attack for attack in API_ATTACKS if attack.category == LDA]


def _draft(lda: Lda, folder: Path) -> Draft:
    body = json.dumps({"path": str(folder)}).encode()
    now = int(time.time())
    claims = {
        "iss": "rootbound-backend",
        "aud": f"{lda.facts['id']}:{lda.facts['boot_id']}",
        "iat": now,
        "exp": now + 60,
        "jti": uuid.uuid4().hex,
        "htm": "POST",
        "htu": "/roots/validate",
        "bsha": hashlib.sha256(body).hexdigest(),
    }
    headers = {"Content-Type": "application/json"}
    return Draft("POST", "/roots/validate", body, claims, lda.key, headers)


def _send(lda: Lda, draft: Draft) -> tuple[int, dict[str, Any], str]:
    address = urlsplit(lda.facts["url"])
    token = draft.signed()
    answer: tuple[int, dict[str, Any], str] = (0, {}, "")
    for _ in range(draft.times):
        connection = http.client.HTTPConnection(address.netloc, timeout=20)
        headers = {"Authorization": f"Bearer {token}", **draft.headers}
        # It need not read what it refuses.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(draft.method, draft.target, draft.body, headers)
        response = connection.getresponse()
        data = response.read()
        kind = response.headers.get_content_type()
        answer = response.status, json.loads(data or b"{}"), kind
        connection.close()
    return answer


@pytest.mark.parametrize("attack", MINE, ids=lambda attack: attack.name)
def test_request_with_one_thing_wrong(attack: ApiAttack, lda: Lda, tmp_path: Path) -> None:
    good = _draft(lda, tmp_path)
    assert _send(lda, good)[0] == 200, "the request itself is fine"
    spoilt = _draft(lda, tmp_path)
    assert attack.spoil is not None
    attack.spoil(spoilt)
    status, body, kind = _send(lda, spoilt)
    assert (status, body["code"], kind) == (attack.status, attack.code, "application/problem+json")


def test_only_loopback_is_listened_on(lda: Lda) -> None:
    port = urlsplit(lda.facts["url"]).port
    assert port is not None
    found = set()
    for name, size in (("tcp", 8), ("tcp6", 32)):
        with open(f"/proc/net/{name}") as file:
            for line in file:
                words = line.split()
                if len(words) > 3 and words[3] == "0A" and words[1].endswith(f":{port:04X}"):
                    found.add(words[1][:size])
    assert found == {"0100007F"}
