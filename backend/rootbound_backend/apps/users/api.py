"""Who am I, and is everything well."""

from __future__ import annotations

from importlib.metadata import version

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.users.health import service_details
from rootbound_backend.apps.users.models import User
from rootbound_backend.apps.users.serializers import HealthSerializer, MeSerializer
from rootbound_backend.views import UserView, current_user

__all__ = ["HealthView", "MeView"]

_VERSION = version("rootbound")


class MeView(UserView):
    """The person that a request comes from."""

    @extend_schema(responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Return username, display name, and the version that the SDK compares with its own."""
        user = current_user(request)
        name = user.first_name or user.username
        return Response({"username": user.username, "name": name, "version": _VERSION})


class HealthView(UserView):
    """Whether the backend answers; details only for people."""

    permission_classes = [AllowAny]

    @extend_schema(responses=HealthSerializer)
    def get(self, request: Request) -> Response:
        """Return ``{"status": "ok"}``, and the services' states for a signed-in user."""
        if not isinstance(request.user, User):
            return Response({"status": "ok"})
        services = service_details(request.user)
        well = all(service["state"] == "ready" for service in services.values())
        return Response({"status": "ok" if well else "degraded", "services": services})
