"""What is at work now, in one look: for status bars and lists of running things."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt, AttemptStatus
from rootbound_backend.apps.local_access.access_models import AccessRequest
from rootbound_backend.apps.schedules.selectors import notices_of
from rootbound_backend.apps.schedules.serializers import NoticeSerializer
from rootbound_backend.views import UserView, current_user

__all__ = ["LiveView"]

MAX_SHOWN = 200
MAX_NOTICES = 20
RECENT = timedelta(minutes=2)
"""Several times as long as anybody waits between two looks."""


class LiveAttemptSerializer(serializers.ModelSerializer[Attempt]):
    """An attempt that is at work, waits for its review, or has ended just now."""

    task = serializers.UUIDField(source="task_id")
    task_title = serializers.CharField(source="task.title")
    project = serializers.UUIDField(source="task.project_id")
    project_name = serializers.CharField(source="task.project.name")
    pending_requests = serializers.IntegerField(help_text="Its requests for access to decide.")

    class Meta:
        """Options."""

        model = Attempt
        fields = [
            "id", "number", "status", "task", "task_title", "project", "project_name",
            "started_at", "denied_count", "pending_requests", "waiting_for", "failure",
            "failure_message",
        ]  # fmt: skip


class LiveSerializer(serializers.Serializer[Any]):
    """What is at work, and what waits for the user."""

    live = LiveAttemptSerializer(many=True)
    reviews = LiveAttemptSerializer(many=True)
    ended = LiveAttemptSerializer(many=True, help_text="Those that ended in the last minutes.")
    pending_requests = serializers.IntegerField(help_text="Requests for access to decide.")
    notices = NoticeSerializer(many=True, help_text="The newest unread ones, newest first.")


class LiveView(UserView):
    """What is at work now."""

    @extend_schema(operation_id="live", responses=LiveSerializer)
    def get(self, request: Request) -> Response:
        """Return attempts at work and those that wait for a review, oldest first."""
        user = current_user(request)
        pending = Q(access_requests__status="PENDING")
        own = (
            Attempt.objects.filter(task__project__owner=user)
            .select_related("task__project")
            .annotate(pending_requests=Count("access_requests", filter=pending))
        )
        waiting = AccessRequest.objects.filter(
            attempt__task__project__owner=user, status="PENDING", attempt__status__in=LIVE_STATUSES
        )
        ordered = own.order_by("created_at", "id")
        found = {
            "live": ordered.filter(status__in=LIVE_STATUSES)[:MAX_SHOWN],
            "reviews": ordered.filter(status=AttemptStatus.REVIEW)[:MAX_SHOWN],
            "ended": ordered.filter(completed_at__gt=timezone.now() - RECENT)[:MAX_SHOWN],
            "pending_requests": waiting.count(),
            "notices": notices_of(user)
            .filter(read_at__isnull=True)
            .select_related("schedule_run")
            .order_by("-pk")[:MAX_NOTICES],
        }
        return Response(LiveSerializer(found).data)
