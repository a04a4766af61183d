"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig


class UsersConfig(AppConfig):
    """Registers the app under its short label."""

    name = "rootbound_backend.apps.users"
    label = "users"
    default_auto_field = "django.db.models.BigAutoField"
