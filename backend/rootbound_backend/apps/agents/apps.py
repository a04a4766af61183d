"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig


class AgentsConfig(AppConfig):
    """Registers the app under its short label."""

    name = "rootbound_backend.apps.agents"
    label = "agents"
    default_auto_field = "django.db.models.BigAutoField"
