"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.users.api import HealthView, MeView

urlpatterns = [
    path("me/", MeView.as_view(), name="me"),
    path("health/", HealthView.as_view(), name="health"),
]
