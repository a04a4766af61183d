"""Endpoints for those who look after the machine: disk use and metrics."""

from __future__ import annotations

import contextlib
from typing import Any

import redis
from django.conf import settings
from django.db.models import Count
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend import metrics
from rootbound_backend.apps.attempts.artifacts import AnyRenderer
from rootbound_backend.apps.attempts.disk import disk_report, usage_of
from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem
from rootbound_backend.views import UserView, current_user

__all__ = ["MetricsView", "UsageView"]


class DiskSerializer(serializers.Serializer[Any]):
    """The state folder's disk."""

    measured_at = serializers.DateTimeField(allow_null=True)
    parts = serializers.DictField(child=serializers.IntegerField(), help_text="Bytes by folder.")
    free_bytes = serializers.IntegerField()
    total_bytes = serializers.IntegerField()


class ProjectUseSerializer(serializers.Serializer[Any]):
    """What a project takes."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    event_bytes = serializers.IntegerField()
    file_bytes = serializers.IntegerField()
    max_bytes = serializers.IntegerField(allow_null=True)
    days = serializers.FloatField(allow_null=True)
    state = serializers.ChoiceField(choices=["ok", "warning", "full"])


class DiskUseSerializer(serializers.Serializer[Any]):
    """Disk use as a whole and by project."""

    disk = DiskSerializer()
    projects = ProjectUseSerializer(many=True)


class UsageView(UserView):
    """Disk use."""

    @extend_schema(operation_id="usage", responses=DiskUseSerializer)
    def get(self, request: Request) -> Response:
        """Return what is used, what is free, and how much each project may take."""
        return Response({"disk": disk_report(), "projects": usage_of(current_user(request))})


class MetricsView(UserView):
    """Metrics of the stream, as text for Prometheus."""

    renderer_classes = [AnyRenderer]

    @extend_schema(operation_id="metrics", responses={(200, "text/plain"): str})
    def get(self, request: Request) -> HttpResponse:
        """Return the counters of this process and the depths of the queues."""
        looked_up = CollectorRegistry()
        families = metrics.Families()
        _attempts(families)
        _queue(families)
        _outbox(families, current_user(request))
        disk = disk_report()
        families.add("disk_bytes", "Taken, by folder.", disk["parts"], "folder")
        families.add("disk_free_bytes", "Free.", {"": disk["free_bytes"]})
        looked_up.register(families)
        text = generate_latest(metrics.REGISTRY) + generate_latest(looked_up)
        return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def _attempts(families: metrics.Families) -> None:
    live = Attempt.objects.filter(status__in=LIVE_STATUSES).values("status").annotate(n=Count("pk"))
    counts = {str(status): 0.0 for status in LIVE_STATUSES}
    counts.update({row["status"]: row["n"] for row in live})
    families.add("live_attempts", "Attempts at work or waiting.", counts, "status")


def _queue(families: metrics.Families) -> None:
    options: dict[str, Any] = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    prefix = str(options.get("global_keyprefix", ""))
    up = 0.0
    with contextlib.suppress(redis.RedisError), contextlib.closing(
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2)
    ) as client:  # fmt: skip
        depth: Any = client.llen(f"{prefix}{settings.CELERY_TASK_DEFAULT_QUEUE}")
        families.add("queue_depth", "Messages that wait for a worker.", {"": float(depth)})
        up = 1.0
    families.add("redis_up", "Whether Redis answers.", {"": up})


def _outbox(families: metrics.Families, user: User) -> None:
    up = 0.0
    with contextlib.suppress(Problem):
        health = lda_request("GET", "/health", user_id=user.pk, timeout_s=3)
        families.add(
            "outbox_depth",
            "Reports of the LDA that the database does not have yet.",
            {"": float(health.get("outbox_depth") or 0)},
        )
        up = 1.0
    families.add("lda_up", "Whether the LDA answers.", {"": up})
