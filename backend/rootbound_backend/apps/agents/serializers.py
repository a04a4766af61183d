"""Shapes of agent profiles."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rootbound_backend.apps.agents.models import KEY_NAMES, AgentProfile, Provider
from rootbound_backend.apps.tasks.models import AgentRole
from rootbound_backend.fields import StrictSerializer, plain_object

__all__ = [
    "AgentInputSerializer",
    "AgentListSerializer",
    "AgentSerializer",
    "AgentTestSerializer",
    "KeyListSerializer",
]


class LimitsSerializer(StrictSerializer):
    """Limits of a run; absent ones have the LDA's defaults."""

    max_steps = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    max_tokens = serializers.IntegerField(
        min_value=1, max_value=10**12, required=False, allow_null=True
    )
    max_cost_usd = serializers.FloatField(min_value=0, required=False, allow_null=True)
    max_seconds = serializers.FloatField(min_value=1, max_value=604_800, required=False)
    gate_timeout_s = serializers.FloatField(min_value=1, max_value=86_400, required=False)
    gate_retries = serializers.IntegerField(min_value=0, max_value=20, required=False)
    command_timeout_s = serializers.FloatField(min_value=1, max_value=86_400, required=False)
    max_output_bytes = serializers.IntegerField(min_value=1024, max_value=2**40, required=False)


class PriceSerializer(StrictSerializer):
    """What a model costs, in US dollars per million tokens."""

    input = serializers.FloatField(min_value=0)
    output = serializers.FloatField(min_value=0)
    cached = serializers.FloatField(min_value=0, required=False)


class SettingsSerializer(StrictSerializer):
    """What a profile says of its model and its key; the LDA uses nothing else of it."""

    replay = serializers.BooleanField(required=False)
    key_name = serializers.RegexField(
        r"^[A-Z][A-Z0-9_]{0,63}_API_KEY$",
        required=False,
        error_messages={"invalid": "This must be a name such as GLM_API_KEY or TEAM_API_KEY."},
    )
    price = PriceSerializer(required=False)
    context_window = serializers.IntegerField(
        min_value=1_000, max_value=100_000_000, required=False
    )
    temperature = serializers.FloatField(min_value=0, max_value=2, required=False)
    top_p = serializers.FloatField(min_value=0, max_value=1, required=False)
    max_tokens = serializers.IntegerField(min_value=1, max_value=10_000_000, required=False)
    seed = serializers.IntegerField(min_value=-(2**31), max_value=2**31 - 1, required=False)
    thinking = serializers.BooleanField(required=False)
    thinking_budget = serializers.IntegerField(min_value=-1, max_value=10_000_000, required=False)


class AgentInputSerializer(StrictSerializer):
    """What a profile is made of."""

    name = serializers.CharField(max_length=255)
    provider = serializers.ChoiceField(choices=Provider.choices)
    model = serializers.CharField(max_length=255, required=False)
    system_prompt = serializers.CharField(
        max_length=100_000, required=False, allow_blank=True, trim_whitespace=False
    )
    role = serializers.ChoiceField(choices=AgentRole.choices)
    base_url = serializers.URLField(max_length=1024, required=False, allow_null=True)
    settings = serializers.JSONField(required=False)
    limits = LimitsSerializer(required=False)

    def validate_settings(self, value: Any) -> Any:
        """Refuse what is not an object, and keys, which belong into the environment."""
        plain_object(value)
        for name in value:
            if name.lower() in {"api_key", "key", "token", "secret", "password"}:
                raise serializers.ValidationError(
                    "Keys are never stored; set the environment variable "
                    f"{' or '.join(KEY_NAMES.values())}, or use the keyring."
                )
        checked = SettingsSerializer(data=value)
        checked.is_valid(raise_exception=True)
        return dict(checked.validated_data)


class AgentSerializer(serializers.ModelSerializer[AgentProfile]):
    """A profile."""

    is_replay = serializers.BooleanField(read_only=True)

    class Meta:
        """Options."""

        model = AgentProfile
        fields = [
            "id",
            "name",
            "provider",
            "model",
            "system_prompt",
            "role",
            "base_url",
            "settings",
            "limits",
            "is_replay",
        ]


class AgentListSerializer(serializers.Serializer[Any]):
    """A page of profiles."""

    results = AgentSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class AgentTestSerializer(serializers.Serializer[Any]):
    """What came of trying a profile."""

    ok = serializers.BooleanField()
    failure = serializers.CharField(allow_null=True)
    message = serializers.CharField()
    seconds = serializers.FloatField(required=False)
    input_tokens = serializers.IntegerField(required=False)
    output_tokens = serializers.IntegerField(required=False)
    price_known = serializers.BooleanField(required=False)


class KeySerializer(serializers.Serializer[Any]):
    """A key's name and where it comes from; never the key."""

    name = serializers.CharField()
    source = serializers.ChoiceField(  # type: ignore[assignment]
        choices=["environment", "keyring", "none"]
    )


class KeyListSerializer(serializers.Serializer[Any]):
    """The keys that the user's profiles need."""

    results = KeySerializer(many=True)
    next = serializers.CharField(allow_null=True)
