"""The stream as everybody writes it: a ListSerializer, bulk_create, and one message per event.

An ASGI application to compare with, on the same database and Redis. It authenticates as ours does,
takes and stores the same rows, and answers with the same.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from typing import Any

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
from django.contrib.auth.models import AnonymousUser  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.exceptions import AuthenticationFailed  # noqa: E402
from rest_framework.permissions import BasePermission  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from rootbound_backend.apps.attempts.models import Attempt, AttemptEvent  # noqa: E402
from rootbound_backend.tokens import (  # noqa: E402
    IngestGrant,
    TokenRefusedError,
    verify_ingest_token,
)


class EventList(serializers.ListSerializer):  # type: ignore[type-arg]
    """Stores all rows by one statement, as the framework's documentation shows."""

    def create(self, validated_data: list[dict[str, Any]]) -> list[AttemptEvent]:
        """Store."""
        return AttemptEvent.objects.bulk_create(
            [AttemptEvent(**row) for row in validated_data], ignore_conflicts=True
        )


class EventSerializer(serializers.ModelSerializer):  # type: ignore[type-arg]
    """One event."""

    class Meta:
        """Options."""

        model = AttemptEvent
        fields = ["seq", "timestamp", "type", "payload"]
        list_serializer_class = EventList


class TokenAuthentication(BaseAuthentication):
    """Checks the token that a run sends, as ours does: it costs no query."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, IngestGrant]:
        """Return what the token allows."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            return AnonymousUser(), verify_ingest_token(token)
        except TokenRefusedError as error:
            raise AuthenticationFailed(str(error)) from error


class OwnAttempt(BasePermission):
    """Lets a run report about itself."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the token is the attempt's."""
        return bool(request.auth.attempt_id == view.kwargs["attempt_id"])


class Ingest(APIView):
    """Stores a batch and tells the group of each event.

    Lean where that is usual: no query a row, and an answer that does not repeat the rows.
    """

    authentication_classes = [TokenAuthentication]
    permission_classes = [OwnAttempt]

    def post(self, request: Request, attempt_id: uuid.UUID, tell: str = "") -> Response:
        """Store."""
        rows = EventSerializer(data=request.data["events"], many=True)
        rows.is_valid(raise_exception=True)
        attempt = Attempt.objects.get(pk=attempt_id)
        rows.save(attempt=attempt, attempt_created_at=attempt.created_at)
        if tell:
            layer = get_channel_layer()
            for event in request.data["events"]:
                async_to_sync(layer.group_send)(
                    f"stock_{attempt_id}", {"type": "event", "event": event}
                )
        return Response({"seq": rows.validated_data[-1]["seq"]}, status=201)


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
