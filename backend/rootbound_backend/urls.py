"""All HTTP routes."""

from __future__ import annotations

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

_APPS = ("users", "projects", "tasks", "attempts", "agents", "local_access", "schedules")

urlpatterns = [
    *(path("api/", include(f"rootbound_backend.apps.{name}.urls")) for name in _APPS),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
]

handler400 = "rootbound_backend.problems.bad_request"
handler404 = "rootbound_backend.problems.page_not_found"
handler500 = "rootbound_backend.problems.server_error"
