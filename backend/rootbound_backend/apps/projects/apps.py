"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    """Registers the app under its short label."""

    name = "rootbound_backend.apps.projects"
    label = "projects"
    default_auto_field = "django.db.models.BigAutoField"
