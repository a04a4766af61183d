"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig


class AttemptsConfig(AppConfig):
    """Registers the app under its short label."""

    name = "rootbound_backend.apps.attempts"
    label = "attempts"
    default_auto_field = "django.db.models.BigAutoField"
