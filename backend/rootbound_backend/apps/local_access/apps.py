"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig


class LocalAccessConfig(AppConfig):
    """Registers the app under its short label."""

    name = "rootbound_backend.apps.local_access"
    label = "local_access"
    default_auto_field = "django.db.models.BigAutoField"
