"""Shapes of machines."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.local_access.machine_models import Machine
from rootbound_backend.fields import StrictSerializer
from rootbound_backend.lda_exchange import ExchangeError, presence

__all__ = [
    "MachineInputSerializer",
    "MachineListSerializer",
    "MachineSerializer",
    "MachineWithTokenSerializer",
]


class MachineSerializer(serializers.ModelSerializer[Machine]):
    """A machine."""

    paths = serializers.ListField(child=serializers.CharField(), read_only=True)
    connected = serializers.SerializerMethodField()

    class Meta:
        """Options."""

        model = Machine
        fields = ["id", "name", "paths", "connected", "version", "last_seen_at", "created_at"]

    def get_connected(self, machine: Machine) -> bool:
        """Return whether its LDA is connected now."""
        try:
            return presence(machine.pk) is not None
        except ExchangeError:
            return False


class MachineWithTokenSerializer(MachineSerializer):
    """A machine with the token for its LDA, which is shown once."""

    token = serializers.CharField(read_only=True)

    class Meta(MachineSerializer.Meta):
        """Options."""

        fields = [*MachineSerializer.Meta.fields, "token"]


class MachineListSerializer(serializers.Serializer[Any]):
    """A page of machines."""

    results = MachineSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class MachineInputSerializer(StrictSerializer):
    """What can be said of a machine."""

    name = serializers.CharField(max_length=255)
    paths = serializers.ListField(
        child=serializers.CharField(max_length=1024, trim_whitespace=False),
        min_length=1,
        max_length=64,
        help_text="Absolute folders that this machine owns.",
    )
