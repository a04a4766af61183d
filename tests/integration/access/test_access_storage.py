"""Requests in the database: made once, kept apart by owner, closed by time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django
import pytest

django.setup()  # the imports below need it, and pytest-django sets Django up only later

from django.conf import settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from rootbound_backend.apps.attempts.models import Attempt  # noqa: E402
from rootbound_backend.apps.attempts.transitions import apply_transition  # noqa: E402
from rootbound_backend.apps.local_access.access_models import AccessRequest  # noqa: E402
from rootbound_backend.apps.local_access.access_requests import (  # noqa: E402
    MAX_REQUESTS,
    expire_requests,
)
from rootbound_backend.apps.users.services import ensure_user  # noqa: E402
from tests.integration.backend.backend_support import (  # noqa: E402
    client_for,
    make_attempt,
    post_audit,
)


def denied(seq: int, grant: dict[str, str], operation: str = "WRITE") -> dict[str, Any]:
    return {
        "seq": seq,
        "timestamp": f"2026-01-02T03:04:{seq % 60:02d}.5Z",
        "operation": operation,
        "result": "DENIED",
        "path": f"{grant.get('folder', '/etc')}/file-{seq}",
        "source": "kernel",
        "detail": {"program": "/usr/bin/bash", "pid": 7, "grant": grant},
        "hash": f"{seq:064x}",
    }


@pytest.fixture
def attempt(db: None) -> Attempt:
    made = make_attempt(ensure_user(username="alice"))
    apply_transition(attempt_id=made.pk, to="RUNNING")
    return made


@pytest.fixture
def alice(attempt: Attempt) -> Any:
    return client_for("alice")


def listed(client: Any, attempt: Attempt) -> list[dict[str, Any]]:
    answer = client.get(f"/api/attempts/{attempt.pk}/access-requests/")
    assert answer.status_code == 200, answer.data
    return list(answer.data["results"])


def test_denials_of_one_folder_are_one_request(attempt: Attempt, alice: Any) -> None:
    out = {"folder": "/data/out"}
    entries = [
        denied(1, out),
        denied(2, out),
        denied(3, out, "DELETE"),
        denied(4, {"refused": "x"}),
    ]
    assert post_audit(attempt, entries).status_code == 200
    assert post_audit(attempt, [denied(5, out)]).status_code == 200
    assert post_audit(attempt, [denied(5, out)]).status_code == 200, "sent once more"

    found = {row["operation"]: row for row in listed(alice, attempt)}
    assert {name: row["count"] for name, row in found.items()} == {"WRITE": 3, "DELETE": 1}
    assert found["WRITE"]["path"] == "/data/out/file-5"
    assert found["WRITE"]["status"] == "PENDING"
    events = alice.get(f"/api/attempts/{attempt.pk}/events/").json()["results"]
    assert [e["payload"]["operation"] for e in events if e["payload"].get("kind") == "access"] == [
        "WRITE", "DELETE",
    ]  # fmt: skip
    assert alice.get(f"/api/access-requests/?project={attempt.task.project_id}").data["results"]


def test_a_flood_of_places_makes_a_bounded_number_of_requests(attempt: Attempt, alice: Any) -> None:
    many = [denied(seq, {"folder": f"/data/{seq}"}) for seq in range(1, MAX_REQUESTS + 50)]
    assert post_audit(attempt, many).status_code == 200
    assert AccessRequest.objects.filter(attempt=attempt).count() == MAX_REQUESTS


def test_requests_of_others_are_not_there(attempt: Attempt) -> None:
    post_audit(attempt, [denied(1, {"folder": "/data/out"})])
    request = AccessRequest.objects.get(attempt=attempt)
    ensure_user(username="mallory")
    mallory = client_for("mallory")
    for path in (f"/api/access-requests/{request.pk}/", f"/api/attempts/{attempt.pk}/"):
        assert mallory.get(path).status_code == 404
    assert mallory.get("/api/access-requests/").data["results"] == []
    for verb, body in (("grant", {"scope": "task"}), ("refuse", {})):
        url = f"/api/access-requests/{request.pk}/{verb}/"
        assert mallory.post(url, body, format="json").status_code == 404
    request.refresh_from_db()
    assert request.status == "PENDING"


def test_wrong_decisions_are_refused_with_a_reason(attempt: Attempt, alice: Any) -> None:
    post_audit(attempt, [denied(1, {"folder": "/data/out"})])
    request = AccessRequest.objects.get(attempt=attempt)
    url = f"/api/access-requests/{request.pk}"
    assert alice.post(f"{url}/grant/", {"scope": "ever"}, format="json").status_code == 400
    assert alice.post(f"{url}/grant/", {}, format="json").status_code == 400
    assert alice.post(f"{url}/refuse/", {}, format="json").status_code == 200
    again = alice.post(f"{url}/grant/", {"scope": "task"}, format="json")
    assert (again.status_code, again.data["code"]) == (409, "request-decided")
    # The user has said no: further denials count, and do not ask again.
    post_audit(attempt, [denied(2, {"folder": "/data/out"})])
    (row,) = listed(alice, attempt)
    assert (row["status"], row["count"]) == ("REFUSED", 2)


def test_requests_expire_after_the_attempt(attempt: Attempt, alice: Any) -> None:
    post_audit(attempt, [denied(1, {"folder": "/data/out"})])
    assert expire_requests() == 0
    request = AccessRequest.objects.get(attempt=attempt)
    assert request.expires_at is None, "nothing expires while the attempt is at work"

    apply_transition(attempt_id=attempt.pk, to="FAILED", failure="CANCELLED")
    assert expire_requests() == 0
    request.refresh_from_db()
    ended = Attempt.objects.get(pk=attempt.pk).completed_at
    assert ended is not None and request.expires_at is not None
    assert request.expires_at - ended == timedelta(seconds=settings.ACCESS_REQUEST_TTL_S)

    AccessRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now())
    late = alice.post(f"/api/access-requests/{request.pk}/refuse/", {}, format="json")
    assert (late.status_code, late.data["code"]) == (409, "request-expired")
    assert expire_requests() == 1
    request.refresh_from_db()
    assert request.status == "EXPIRED"
