"""What is at work, in one look."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from rootbound_backend.apps.attempts.models import Attempt, AttemptStatus
from rootbound_backend.apps.local_access.access_models import AccessRequest
from tests.integration.backend.backend_support import make_attempt, make_project, make_task


def test_live_attempts_reviews_and_requests(client: Any, user: Any, other: Any) -> None:
    project = make_project(user, test_cmd="true")
    running = make_attempt(user, make_task(project, "Run"))
    review = make_attempt(user, make_task(project, "Look at it"))
    done = make_attempt(user, make_task(project, "Done"))
    Attempt.objects.filter(pk=running.pk).update(status=AttemptStatus.RUNNING)
    Attempt.objects.filter(pk=review.pk).update(status=AttemptStatus.REVIEW, head_commit="a" * 40)
    Attempt.objects.filter(pk=done.pk).update(
        status=AttemptStatus.SUCCESS, head_commit="b" * 40, completed_at=timezone.now()
    )
    for attempt in (running, done):
        AccessRequest.objects.create(
            attempt=attempt,
            run_id=attempt.pk,
            folder="/data",
            operation="WRITE",
            path="/data/x",
            last_denied_at=timezone.now(),
        )
    answer = client.get("/api/live/").json()
    assert [(one["task_title"], one["status"]) for one in answer["live"]] == [("Run", "RUNNING")]
    assert [one["id"] for one in answer["reviews"]] == [str(review.pk)]
    assert [one["id"] for one in answer["ended"]] == [str(done.pk)]
    assert answer["live"][0]["project_name"] == project.name
    assert answer["live"][0]["pending_requests"] == 1
    assert answer["reviews"][0]["pending_requests"] == 0
    assert answer["pending_requests"] == 1
    nothing = {"live": [], "reviews": [], "ended": [], "pending_requests": 0, "notices": []}
    assert other.get("/api/live/").json() == nothing
