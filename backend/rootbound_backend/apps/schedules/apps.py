"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig


class SchedulesConfig(AppConfig):
    """Registers the app under its short label."""

    name = "rootbound_backend.apps.schedules"
    label = "schedules"
    default_auto_field = "django.db.models.BigAutoField"
