"""The real ingestion takes what a token is for, and nothing else; rows stay as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import django
import pytest

from tests.security.attacks_by_api import API_ATTACKS, BACKEND

django.setup()

from django.db import DatabaseError, connection, transaction  # noqa: E402

from rootbound_backend.apps.attempts.models import AttemptEvent  # noqa: E402
from rootbound_backend.apps.local_access.audit.verify import verify_runs  # noqa: E402
from rootbound_backend.apps.local_access.models import FsAuditEvent  # noqa: E402
from rootbound_backend.apps.users.services import ensure_user  # noqa: E402
from tests.integration.backend.backend_support import (  # noqa: E402
    audit_chain,
    client_for,
    event,
    ingest_client,
    make_attempt,
    post_audit,
    post_events,
)

Answer = tuple[int, str]


@pytest.fixture
def attempts(db: None) -> tuple[Any, Any]:
    """An attempt of one user, and one of another."""
    return make_attempt(ensure_user(username="alice")), make_attempt(
        ensure_user(username="mallory")
    )


def _of(answer: Any) -> Answer:
    body = answer.json() if answer.status_code >= 400 else {}
    return answer.status_code, str(body.get("code", ""))


def _events_of(attempt: Any, client: Any) -> Any:
    body = {"lease_generation": 1, "events": [event(1)]}
    return client.post(f"/api/attempts/{attempt.pk}/events/", body, format="json")


def _token_of_another_attempt(mine: Any, other: Any) -> Answer:
    assert post_events(mine, [event(1)]).status_code == 200, "with its own token it is taken"
    answer = _of(_events_of(mine, ingest_client(other)))
    assert AttemptEvent.objects.filter(attempt=other, type="LOG").count() == 0
    return answer


def _audit_of_another_run(mine: Any, other: Any) -> Answer:
    assert post_audit(mine, audit_chain(2)).status_code == 200
    body = {
        "run_id": str(mine.pk),
        "attempt_id": str(mine.pk),
        "lease_generation": 1,
        "entries": audit_chain(3)[2:],
    }
    answer = _of(ingest_client(other).post("/api/audit/ingest/", body, format="json"))
    assert FsAuditEvent.objects.count() == 2
    return answer


def _events_as_somebody_else(mine: Any, other: Any) -> Answer:
    answer = _of(_events_of(mine, client_for("alice")))
    assert AttemptEvent.objects.filter(type="LOG").count() == 0
    return answer


def _ingest_token_as_user(mine: Any, other: Any) -> Answer:
    assert client_for("alice").get("/api/projects/").status_code == 200
    return _of(ingest_client(mine).get("/api/projects/"))


def _rows_with_a_gap(mine: Any, other: Any) -> Answer:
    rows = audit_chain(3)
    answer = _of(post_audit(mine, [rows[0], rows[2]]))
    assert FsAuditEvent.objects.count() == 0
    assert post_audit(mine, rows).status_code == 200
    return answer


def _rows_changed(mine: Any, other: Any) -> Answer:
    assert post_audit(mine, audit_chain(3)).status_code == 200
    before = list(FsAuditEvent.objects.order_by("seq").values())
    statements = (
        "UPDATE local_access_fsauditevent SET result = 'DENIED'",
        "DELETE FROM local_access_fsauditevent",
    )
    for statement in statements:
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert list(FsAuditEvent.objects.order_by("seq").values()) == before
    return 0, ""


def _rows_forged(mine: Any, other: Any) -> Answer:
    """Whoever has the token can send rows, but not ones that fit what came before."""
    rows = audit_chain(3)
    forged = copy.deepcopy(rows)
    forged[1]["path"] = "/srv/harmless"
    answer = post_audit(mine, forged)
    if answer.status_code == 200:
        assert verify_runs([mine.pk]).findings
    else:
        assert FsAuditEvent.objects.count() == 0
    return 0, ""


TRIED: dict[str, Callable[[Any, Any], Answer]] = {
    "token_of_another_attempt": _token_of_another_attempt,
    "audit_of_another_run": _audit_of_another_run,
    "events_as_somebody_else": _events_as_somebody_else,
    "ingest_token_as_user": _ingest_token_as_user,
    "rows_with_a_gap": _rows_with_a_gap,
    "rows_changed": _rows_changed,
    "rows_forged": _rows_forged,
}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", [attack.name for attack in API_ATTACKS if attack.category == BACKEND]
)
def test_ingestion_takes_only_its_own(name: str, attempts: tuple[Any, Any]) -> None:
    (attack,) = (attack for attack in API_ATTACKS if attack.name == name)
    status, code = TRIED[name](*attempts)
    assert (status, code) == (attack.status, attack.code)
