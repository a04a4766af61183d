"""The stream as everybody writes it: a ListSerializer, bulk_create, and one message per event.

An ASGI application to compare with, on the same database and Redis.
"""

from __future__ import annotations

import json
import os
import sys
import uuid

os.environ["DJANGO_SETTINGS_MODULE"] = "rootbound_backend.settings"
os.environ.setdefault("ROOTBOUND_LOG_LEVEL", "WARNING")

import django
from django.conf import settings

django.setup()
settings.ROOT_URLCONF = __name__
settings.CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [settings.REDIS_URL]},
    }
}

from asgiref.sync import async_to_sync  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.permissions import AllowAny  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent, EventType  # noqa: E402


class Row(serializers.Serializer):  # type: ignore[type-arg]
    """One event."""

    seq = serializers.IntegerField(min_value=1)
    timestamp = serializers.DateTimeField()
    type = serializers.ChoiceField(choices=EventType.choices)
    payload = serializers.JSONField()


class Ingest(APIView):
    """Stores a batch and tells the group of each event."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def post(self, request: Request, attempt_id: uuid.UUID, tell: str = "") -> Response:
        """Store."""
        rows = Row(data=request.data["events"], many=True)
        rows.is_valid(raise_exception=True)
        attempt = Attempt.objects.get(pk=attempt_id)
        AttemptEvent.objects.bulk_create(
            [
                AttemptEvent(attempt=attempt, attempt_created_at=attempt.created_at, **row)
                for row in rows.validated_data
            ],
            ignore_conflicts=True,
        )
        if tell:
            layer = get_channel_layer()
            for event in request.data["events"]:
                async_to_sync(layer.group_send)(
                    f"stock_{attempt_id}", {"type": "event", "event": event}
                )
        return Response({"seq": rows.validated_data[-1]["seq"]})


class Viewer(AsyncWebsocketConsumer):
    """Passes on what its channel receives."""

    async def connect(self) -> None:
        """Join the attempt's group."""
        self.group = f"stock_{self.scope['url_route']['kwargs']['attempt_id']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leave it."""
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def event(self, message: dict) -> None:  # type: ignore[type-arg]
        """Send one event."""
        await self.send(text_data=json.dumps({"type": "events", "events": [message["event"]]}))


urlpatterns = [
    path("api/attempts/<uuid:attempt_id>/events/", Ingest.as_view()),
    path("api/attempts/<uuid:attempt_id>/events/<str:tell>/", Ingest.as_view()),
]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws/attempts/<uuid:attempt_id>/", Viewer.as_asgi())]),
    }
)
sys.modules.setdefault("stock_urls", sys.modules[__name__])
