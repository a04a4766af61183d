"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Registers the app under its short label."""

    name = "rootbound_backend.apps.tasks"
    label = "tasks"
    default_auto_field = "django.db.models.BigAutoField"
