"""Shapes of the answers about people and health."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

__all__ = ["HealthSerializer", "MeSerializer"]


class MeSerializer(serializers.Serializer[Any]):
    """The person behind a request."""

    username = serializers.CharField()
    name = serializers.CharField()
    version = serializers.CharField(help_text="Of this server, such as 0.1.0.")


class ServiceSerializer(serializers.Serializer[Any]):
    """One service."""

    state = serializers.ChoiceField(choices=["ready", "failed"])
    detail = serializers.CharField()


class HealthSerializer(serializers.Serializer[Any]):
    """Health, with details for people only."""

    status = serializers.ChoiceField(choices=["ok", "degraded"])
    services = serializers.DictField(child=ServiceSerializer(), required=False)
