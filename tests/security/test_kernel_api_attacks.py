"""What a confined kernel's token opens: every route and method, tried one by one."""

from __future__ import annotations

import uuid

import django
import pytest

django.setup()

from django.utils import timezone  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from rootbound_backend.apps.local_access.kernel_models import KernelSession  # noqa: E402
from rootbound_backend.apps.users.services import ensure_user  # noqa: E402
from rootbound_backend.authentication import user_for_websocket  # noqa: E402
from rootbound_backend.tokens import (  # noqa: E402
    TokenRefusedError,
    issue_kernel_token,
    verify_mcp_token,
)
from tests.integration.backend.backend_support import make_attempt  # noqa: E402
from tests.support.routes import filled, routes  # noqa: E402

HAVE_AGENTS_WORK = {
    "attempts", "attempt-cancel", "attempt-comment", "attempt-comments", "attempt-messages",
    "attempt-reject", "attempt-request-changes", "attempt-retry", "attempt-update",
    "decomposition-approve", "decompositions", "task", "tasks",
}  # fmt: skip
METHODS = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def session(db: None) -> KernelSession:
    return KernelSession.objects.create(
        user=ensure_user(username="alice"), kernel_id=uuid.uuid4(), kernel_name="python3"
    )


def client_of(session: KernelSession, username: str = "alice") -> APIClient:
    client = APIClient()
    token = issue_kernel_token(username=username, session_id=session.pk)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.mark.parametrize("is_batch", [False, True])
def test_no_route_lets_a_kernel_widen_anything(session: KernelSession, is_batch: bool) -> None:
    session.is_batch = is_batch
    session.save()
    client = client_of(session)
    open_to_it = set()
    values = {"uuid": str(uuid.uuid4()), "int": "1", "str": "x"}
    for pattern, name in routes():
        path = filled(pattern, lambda kind, _: values[kind])
        for method in METHODS:
            status = client.generic(method, path, "{}", content_type="application/json").status_code
            # 401: the token of a run or nobody is asked for there; 405: there is no such method.
            if status not in (401, 403, 405):
                open_to_it.add((name, method))
    allowed = HAVE_AGENTS_WORK | ({"attempt-approve"} if is_batch else set())
    assert {name for name, _ in open_to_it} <= allowed, open_to_it
    assert {method for _, method in open_to_it} <= {"POST", "PATCH"}
    assert ("attempts", "POST") in open_to_it, "it may have agents work"
    assert client.get("/api/me/").json()["username"] == "alice"
    refusal = client.post("/api/local-access/roots/", {"path": "/srv"}, format="json")
    assert refusal.status_code == 403
    assert "confined kernel" in refusal.json()["detail"]


def test_a_kernels_token_ends_with_it_and_is_no_other(
    transactional_db: None, session: KernelSession
) -> None:
    client = client_of(session)
    token = issue_kernel_token(username="alice", session_id=session.pk)
    headers = [(b"authorization", f"Bearer {token}".encode())]
    assert user_for_websocket(headers, path="/ws/x/") is not None
    with pytest.raises(TokenRefusedError):
        verify_mcp_token(token)

    # What an agent may read, the kernel could read in its work.
    attempt = make_attempt(ensure_user(username="alice"))
    answer = client.post(
        f"/api/tasks/{attempt.task_id}/attempts/",
        {"reference_paths": ["/srv/private"]},
        format="json",
    )
    assert answer.status_code == 403

    session.ended_at = timezone.now()
    session.save()
    assert client.get("/api/me/").status_code == 401
    assert user_for_websocket(headers, path="/ws/x/") is None
    assert client_of(KernelSession(pk=uuid.uuid4())).get("/api/me/").status_code == 401
    assert client.post("/api/kernels/", {"argv": ["sh"]}, format="json").status_code == 401
